"""Enhanced and legacy converted enhanced PET: each frame of a multi-frame image as the slice it would have been.

Sources: DICOM PS3.3 A.56 (Enhanced PET), A.71 (Legacy Converted Enhanced PET), C.7.6.16 (functional groups),
C.7.6.16.2.11 (Real World Value Mapping), C.8.22 (Enhanced PET modules).
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from pipeline.errors import PETError, naming
from pipeline.pet.dicom.reading.files import SliceFile
from pipeline.pet.dicom.reading.times import moment_of
from pipeline.pet.dicom.values import number_of, text_of, value_of

__all__ = ["read_frames"]

# The last two hold what a legacy converted image has no functional group for (PS3.3 C.7.6.16.2.25).
_MACROS = (
    "PixelMeasuresSequence",
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelValueTransformationSequence",
    "FrameContentSequence",
    "PETFrameCorrectionFactorsSequence",
    "PETReconstructionSequence",
    "UnassignedSharedConvertedAttributesSequence",
    "UnassignedPerFrameConvertedAttributesSequence",
)
"""Functional groups whose attributes a single slice has at its top level."""

_GROUPS = {"SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PixelData"}

_CORRECTIONS = {
    "DecayCorrected": "DECY",
    "AttenuationCorrected": "ATTN",
    "ScatterCorrected": "SCAT",
    "DeadTimeCorrected": "DTIM",
    "GantryMotionCorrected": "MOTN",
    "PatientMotionCorrected": "PMOT",
    "CountLossNormalizationCorrected": "CLN",
    "RandomsCorrected": "RAN",
    "NonUniformRadialSamplingCorrected": "RADL",
    "SensitivityCalibrated": "DCAL",
    "DetectorNormalizationCorrection": "NORM",
}
"""For each YES of an enhanced image, what CorrectedImage (0028,0051) of a slice says."""

_UNITS = {
    ("Bq/ml", ""): ("BQML", "", 1.0),
    ("kBq/ml", ""): ("BQML", "", 1e3),
    ("MBq/ml", ""): ("BQML", "", 1e6),
    ("g/ml", "SUVbw"): ("GML", "BW", 1.0),
    ("g/ml", "SUVlbm"): ("GML", "LBM", 1.0),
    ("g/ml", "SUVlbm(James128)"): ("GML", "LBMJAMES128", 1.0),
    ("g/ml", "SUVlbm(Janma)"): ("GML", "LBMJANMA", 1.0),
    ("g/ml", "SUVibw"): ("GML", "IBW", 1.0),
    ("cm2/ml", "SUVbsa"): ("CM2ML", "BSA", 1.0),
    ("", "counts"): ("CNTS", "", 1.0),
    ("/s", "counts"): ("CPS", "", 1.0),
    ("", "propcounts"): ("PROPCNTS", "", 1.0),
    ("/s", "propcounts"): ("PROPCPS", "", 1.0),
}
"""(UCUM unit, annotation) -> Units, SUVType and units of it (PS3.16 CID 84), in the order of preference."""


def _first_item(dataset: Dataset, keyword: str) -> Dataset | None:
    items: Sequence[Dataset] = value_of(dataset, keyword) or ()
    return items[0] if items else None


def _put(frame: Dataset, keyword: str, value: object) -> None:
    """Set an attribute of one frame: its elements are those of all frames, and must not be written into."""
    frame.pop(keyword, None)
    setattr(frame, keyword, value)


def _merge(frame: Dataset, groups: Dataset) -> None:
    for macro in _MACROS:
        item = _first_item(groups, macro)
        if item is not None:
            frame.update(item)
    mappings = value_of(groups, "RealWorldValueMappingSequence")
    if mappings:
        _put(frame, "RealWorldValueMappingSequence", mappings)


def _ucum(code: str) -> tuple[str, str]:
    """Return unit and annotation of a UCUM code, wherever in it the annotation stands."""
    annotation = "".join(re.findall(r"\{(.*?)\}", code))
    return re.sub(r"\{.*?\}", "", code).replace("mL", "ml"), annotation


def _real_world_slopes(frame: Dataset) -> dict[tuple[str, str], float]:
    """Return the slopes of the mappings whose units are known, by Units and SUVType, most preferred first."""
    slopes: dict[tuple[str, str], float] = {}
    refused = []
    for mapping in value_of(frame, "RealWorldValueMappingSequence") or ():
        code = _first_item(mapping, "MeasurementUnitsCodeSequence") or Dataset()
        unit = text_of(code, "CodeValue") or text_of(code, "LongCodeValue")
        if _ucum(unit) not in _UNITS:
            refused.append(unit or "nothing")
            continue
        units, suv_type, scale = _UNITS[_ucum(unit)]
        slope, intercept = number_of(mapping, "RealWorldValueSlope"), number_of(mapping, "RealWorldValueIntercept")
        if slope is None or slope <= 0 or intercept:
            raise PETError(f"RealWorldValueMapping to {unit} is not by a positive slope alone")
        if slopes.setdefault((units, suv_type), slope * scale) != slope * scale:
            raise PETError(f"RealWorldValueMapping to {unit} is there twice with different slopes")
    if refused and not slopes:
        raise PETError(f"RealWorldValueMapping is to {', '.join(refused)}, expected Bq/ml or g/ml{{SUVbw}}")
    order = [(units, suv_type) for units, suv_type, _ in _UNITS.values()]
    return dict(sorted(slopes.items(), key=lambda entry: order.index(entry[0])))


def _set_quantity(frame: Dataset) -> float | None:
    """Give the frame Units and RescaleSlope; return SUVbw per Bq/mL if the frame maps to both."""
    if text_of(frame, "Units"):
        return None
    slopes = _real_world_slopes(frame)
    if not slopes:
        raise PETError("neither Units nor a RealWorldValueMapping, the quantity is unknown")
    (units, suv_type), slope = next(iter(slopes.items()))
    _put(frame, "Units", units)
    _put(frame, "SUVType", suv_type)
    _put(frame, "RescaleSlope", format_number_as_ds(slope))
    _put(frame, "RescaleIntercept", "0")
    suv_slope = slopes.get(("GML", "BW"))
    return suv_slope / slope if units == "BQML" and suv_slope is not None else None


def _set_corrections(frame: Dataset) -> None:
    corrected = text_of(frame, "DecayCorrected")
    if corrected == "YES" and not text_of(frame, "DecayCorrectionDateTime"):
        raise PETError("DecayCorrected is YES and DecayCorrectionDateTime is missing, SUV cannot be computed")
    if corrected:
        _put(frame, "DecayCorrection", {"YES": "START", "NO": "NONE"}.get(corrected, corrected))
    elif not text_of(frame, "DecayCorrection"):
        raise PETError("DecayCorrected is missing, expected YES or NO")
    if "CorrectedImage" not in frame:
        made = [value for flag, value in _CORRECTIONS.items() if text_of(frame, flag) == "YES"]
        _put(frame, "CorrectedImage", made)


def _set_times(frame: Dataset) -> None:
    acquired = moment_of(frame, "FrameAcquisitionDateTime")
    if acquired is not None:
        _put(frame, "AcquisitionDate", acquired.strftime("%Y%m%d"))
        _put(frame, "AcquisitionTime", acquired.strftime("%H%M%S.%f"))
    duration = number_of(frame, "FrameAcquisitionDuration")
    if duration is not None:
        _put(frame, "ActualFrameDuration", round(duration))


def read_frames(file: SliceFile) -> tuple[list[SliceFile], float | None]:
    """Return the frames of an enhanced or legacy converted enhanced PET image as slices, in their stored order.

    Each frame has the attributes that a single slice would have. The second value is SUVbw per Bq/mL that the image
    itself states, by mapping to both; None if it does not.

    Raises
    ------
    PETError
        If a functional group is missing, the quantity is unknown, or there are several stacks or times.
    """
    dataset, name = file.dataset, file.name
    per_frame: Sequence[Dataset] = value_of(dataset, "PerFrameFunctionalGroupsSequence") or ()
    n_frames = number_of(dataset, "NumberOfFrames")
    if not per_frame or n_frames != len(per_frame):
        raise PETError(f"{name}: NumberOfFrames is {n_frames}, the functional groups are of {len(per_frame)} frames")
    common = Dataset()
    for element in dataset:
        if element.keyword not in _GROUPS:
            common.add(element)
    shared = _first_item(dataset, "SharedFunctionalGroupsSequence")
    frames: list[SliceFile] = []
    stated = None
    for k, groups in enumerate(per_frame):
        frame = Dataset()
        frame.update(common)
        if shared is not None:
            _merge(frame, shared)
        _merge(frame, groups)
        _put(frame, "NumberOfFrames", 1)
        frame_name = f"{name}: frame {k + 1}"
        with naming(frame_name):
            factor = _set_quantity(frame)
            stated = factor if k == 0 else stated
            _set_corrections(frame)
            _set_times(frame)
        frames.append(replace(file, name=frame_name, dataset=frame, image=dataset, frame=k))
    for keyword, word in (("TemporalPositionIndex", "times"), ("StackID", "stacks")):
        n_found = len({text_of(frame.dataset, keyword) for frame in frames})
        if n_found > 1:
            raise PETError(
                f"{file.path.name}: {len(frames)} frames of {n_found} {word} ({keyword}), expected one static "
                "stack; write the frames of one into an image of their own"
            )
    return frames, stated
