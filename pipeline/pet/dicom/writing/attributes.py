"""The attributes of a PET image that a series written here may have, and what de-identification does to each.

The table lists the modules of the PET Image IOD (DICOM PS3.3 A.21) as far as a static series needs them, with
the action of the Basic Profile (PS3.15 table E.1-1) under the options Retain Patient Characteristics and Retain
Longitudinal Temporal Information With Modified Dates. What is not listed, private or standard, is removed, which
the profile allows: nothing unforeseen stays.
"""

from enum import Enum

__all__ = ["ACTIONS", "NEW_TEXTS", "Action"]


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

_EMPTY = "PatientBirthDate StudyID AccessionNumber ReferringPhysicianName"

_SUBJECT = "PatientName PatientID"

_NEW_UID = """
SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID ReferencedSOPInstanceUID
"""

_SHIFT = """
StudyDate SeriesDate AcquisitionDate ContentDate AcquisitionDateTime DecayCorrectionDateTime
RadiopharmaceuticalStartDateTime RadiopharmaceuticalStopDateTime
"""

ACTIONS: dict[str, Action] = {
    keyword: action
    for action, keywords in (
        (Action.KEEP, _KEEP),
        (Action.EMPTY, _EMPTY),
        (Action.SUBJECT, _SUBJECT),
        (Action.NEW_UID, _NEW_UID),
        (Action.SHIFT, _SHIFT),
    )
    for keyword in keywords.split()
}
"""For each attribute that may stay: keyword -> what de-identification does to it."""

NEW_TEXTS = {"SeriesDescription", "DerivationDescription"}
"""Texts that are kept because a derived series has new ones; inside of a sequence they are the source's."""
