"""De-identify the headers of a PET series by DICOM PS3.15 Annex E, so that SUV stays computable.

Basic Application Level Confidentiality Profile, with the options Retain Patient Characteristics (weight, size,
sex and age) and Retain Longitudinal Temporal Information With Modified Dates: all dates of a patient move by the
same number of days, so that no difference between two times changes. `ACTIONS` lists the attributes that a series
written here may have: those of the modules of the PET Image IOD (PS3.3 A.21) as far as a static series needs them,
with the action of PS3.15 table E.1-1 for each. What is not listed, private or standard, is removed, which the profile
allows: nothing unforeseen stays.
"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import Enum

from pydicom.datadict import dictionary_VR
from pydicom.dataset import DataElement, Dataset
from pydicom.uid import UID

from pipeline.errors import PETError
from pipeline.pet.dicom.values import code_item, text_of

__all__ = ["ACTIONS", "deidentify", "keep_listed"]

LONGEST_SHIFT = 3650
"""Dates move by one to this many days into the past."""

METHODS = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113108", "Retain Patient Characteristics Option"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
)
"""Codes of CID 7050 (PS3.16) for what is done here."""


class Action(Enum):
    """What happens to an attribute."""

    KEEP = "keep it; the items of a sequence are treated by the same table"
    EMPTY = "replace the value by an empty one"
    SUBJECT = "replace the value by the pseudonym"
    NEW_UID = "replace the UID by another, everywhere the same"
    SHIFT = "shift the date, by the same days everywhere"


_KEEP = """
SpecificCharacterSet SOPClassUID ImageType TimezoneOffsetFromUTC
PatientSex PatientAge PatientSize PatientWeight
StudyTime SeriesTime AcquisitionTime ContentTime
Modality SeriesNumber SeriesDescription Laterality ImageLaterality BodyPartExamined PatientPosition
AnatomicRegionSequence AnatomicRegionModifierSequence
PatientOrientationCodeSequence PatientOrientationModifierCodeSequence PatientGantryRelationshipCodeSequence
Manufacturer ManufacturerModelName SoftwareVersions SpatialResolution
PositionReferenceIndicator

SeriesType Units SUVType CountsSource NumberOfSlices CorrectedImage RandomsCorrectionMethod
AttenuationCorrectionMethod ScatterCorrectionMethod DecayCorrection ReconstructionDiameter ConvolutionKernel
ReconstructionMethod DetectorLinesOfResponseUsed AcquisitionStartCondition AcquisitionStartConditionData
AcquisitionTerminationCondition AcquisitionTerminationConditionData FieldOfViewShape FieldOfViewDimensions
GantryDetectorTilt GantryDetectorSlew TypeOfDetectorMotion CollimatorType CollimatorGridName AxialAcceptance
AxialMash TransverseMash DetectorElementSize CoincidenceWindowWidth EnergyWindowRangeSequence
EnergyWindowLowerLimit EnergyWindowUpperLimit SecondaryCountsType ScanProgressionDirection

RadiopharmaceuticalInformationSequence RadionuclideCodeSequence RadiopharmaceuticalCodeSequence
AdministrationRouteCodeSequence RadiopharmaceuticalRoute RadiopharmaceuticalVolume Radiopharmaceutical
RadiopharmaceuticalStartTime RadiopharmaceuticalStopTime RadionuclideTotalDose RadionuclideHalfLife
RadionuclidePositronFraction RadiopharmaceuticalSpecificActivity

CodeValue CodingSchemeDesignator CodingSchemeVersion CodeMeaning LongCodeValue URNCodeValue

InstanceNumber AcquisitionNumber PatientOrientation ImagePositionPatient ImageOrientationPatient PixelSpacing
SliceThickness SliceLocation SpacingBetweenSlices ImageIndex FrameReferenceTime ActualFrameDuration TriggerTime
FrameTime PrimaryPromptsCountsAccumulated SecondaryCountsAccumulated SliceSensitivityFactor DecayFactor
DoseCalibrationFactor ScatterFractionFactor DeadTimeFactor
SamplesPerPixel PhotometricInterpretation Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation
SmallestImagePixelValue LargestImagePixelValue RescaleIntercept RescaleSlope PixelData
QualityControlImage BurnedInAnnotation RecognizableVisualFeatures LossyImageCompression LossyImageCompressionRatio
LossyImageCompressionMethod

DerivationDescription DerivationCodeSequence SourceImageSequence ReferencedSOPClassUID ReferencedFrameNumber
PurposeOfReferenceCodeSequence
"""

_KEYWORDS = {
    Action.KEEP: _KEEP,
    Action.EMPTY: "PatientBirthDate StudyID AccessionNumber ReferringPhysicianName",
    Action.SUBJECT: "PatientName PatientID",
    Action.NEW_UID: "SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID ReferencedSOPInstanceUID",
    Action.SHIFT: """
StudyDate SeriesDate AcquisitionDate ContentDate AcquisitionDateTime DecayCorrectionDateTime
RadiopharmaceuticalStartDateTime RadiopharmaceuticalStopDateTime
""",
}

ACTIONS = {keyword: action for action, keywords in _KEYWORDS.items() for keyword in keywords.split()}
"""For each attribute that may stay: keyword -> what de-identification does to it."""

NEW_TEXTS = {"SeriesDescription", "DerivationDescription"}
"""Texts that are kept because a derived series has new ones; inside of a sequence they are the source's."""


class _Mapping:
    """New UIDs and the shift of dates, from a key."""

    def __init__(self, key: str, patient_id: str, subject_id: str) -> None:
        self.key = key.encode()
        self.subject_id = subject_id
        self.shift = timedelta(days=-1 - self._number(f"patient {patient_id}") % LONGEST_SHIFT)

    def _number(self, text: str) -> int:
        return int.from_bytes(hmac.digest(self.key, text.encode(), hashlib.sha256)[:15], "big")

    def uid(self, old: str) -> UID:
        # Under the root 2.25 any number of up to 128 bits is a UID (PS3.5 B.2).
        return UID(f"2.25.{self._number(f'uid {old}')}")

    def date(self, text: str, keyword: str) -> str:
        """Shift the date that a DA or DT value begins with; the time of day and the zone stay."""
        # Before DICOM 3.0 a date had points.
        length = 10 if text[4:5] == "." else 8
        day, rest = text[:length].replace(".", ""), text[length:]
        try:
            if not re.fullmatch(r"[\d.+-]*", rest):
                raise ValueError(rest)
            return (datetime.strptime(day, "%Y%m%d") + self.shift).strftime("%Y%m%d") + rest
        except (ValueError, OverflowError) as error:
            raise PETError(f"{keyword} is not a complete date, cannot be de-identified") from error


def keep_listed(dataset: Dataset, *, is_item: bool = False) -> None:
    """Remove every attribute that `ACTIONS` does not list, private ones too, at every level.

    Texts in the items of sequences go, too: they are the source's.

    Raises
    ------
    PETError
        If the bytes of an attribute cannot be decoded.
    """
    try:
        elements = list(dataset)
    except Exception as error:
        # pydicom decodes on access, and raises whatever the damaged bytes lead to.
        raise PETError("an attribute is damaged and cannot be decoded") from error
    for element in elements:
        is_listed = element.keyword in ACTIONS and not (is_item and element.keyword in NEW_TEXTS)
        # A sequence of another value representation is a block of bytes that nobody looks into.
        if not is_listed or (element.VR != "SQ" and dictionary_VR(element.tag) == "SQ"):
            del dataset[element.tag]
        elif element.VR == "SQ":
            for item in element.value:
                keep_listed(item, is_item=True)


def _treat(element: DataElement, mapping: _Mapping) -> None:
    match ACTIONS[element.keyword]:
        case Action.KEEP if element.VR == "SQ":
            for item in element.value:
                for inner in item:
                    _treat(inner, mapping)
        case Action.EMPTY:
            element.value = ""
        case Action.SUBJECT:
            element.value = mapping.subject_id
        case Action.NEW_UID if element.value:
            element.value = mapping.uid(str(element.value))
        case Action.SHIFT if element.value:
            element.value = mapping.date(str(element.value), element.keyword)


def deidentify(headers: Sequence[Dataset], *, subject_id: str, key: str) -> None:
    """De-identify the headers of one series, in place.

    `subject_id` becomes PatientID and PatientName. UIDs and dates follow from `key`, a secret: the same key maps all
    series of a patient alike.

    Raises
    ------
    PETError
        If a date is incomplete, so that it cannot be shifted.
    """
    mapping = _Mapping(key, text_of(headers[0], "PatientID"), subject_id)
    for header in headers:
        keep_listed(header)
        for element in header:
            _treat(element, mapping)
        header.PatientIdentityRemoved = "YES"
        header.DeidentificationMethod = "DICOM PS3.15 Annex E, Basic Profile with options"
        header.DeidentificationMethodCodeSequence = [code_item(value, "DCM", meaning) for value, meaning in METHODS]
        header.LongitudinalTemporalInformationModified = "MODIFIED"
