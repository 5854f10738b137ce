"""Scans in every form in which DICOM stores an SUV, made without the code under test.

Patient and times are those of the IBSI reference objects: 70 kg, 1.75 m, 368.08 MBq of F-18, one hour.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import (
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
    PositronEmissionTomographyImageStorage,
    generate_uid,
)

from tests.series import code_item, date_and_time, save_dataset, set_pixels

WEIGHT, HEIGHT, DOSE, HALF_LIFE = 70.0, 1.75, 368.08e6, 6586.2
START = datetime(2025, 1, 1, 11, 0, 0)
FRAME = 300.0
AVERAGE = 149.6054
"""When in a frame the activity of F-18 is that of its average [s], T/2 - lambda T^2/24."""

SHAPE = (4, 5, 6)
SUV = np.random.default_rng(3).choice([0.2, 1.0, 4.0], SHAPE)
"""True SUVbw. Shape (X, Y, Z) in RAS+."""

BQML = 2.0 ** (-3600 / HALF_LIFE) * DOSE / (1000 * WEIGHT)
"""Bq/mL of SUVbw 1, decay-corrected to the start of the scan."""

FAITH = 4.0 / 30000 * 0.51
"""SUV by which a 16-bit slice of up to SUV 4 can be off."""


@dataclass
class Scan:
    """What a scan stores, and what it says of it."""

    stored: Any = BQML
    """Stored quantity of SUVbw 1, one number or one for each slice."""

    attributes: dict[str, Any] = field(default_factory=dict)
    """Attributes of every slice that differ from the reference object; None removes one."""

    injection: dict[str, Any] = field(default_factory=dict)
    """The same of the radiopharmaceutical."""

    per_slice: list[dict[str, Any]] = field(default_factory=lambda: [{}] * SHAPE[2])
    """Attributes of each slice."""

    private: dict[tuple[int, int], tuple[str, str]] = field(default_factory=dict)
    """Value representation and value of private elements, without a creator unless it is among them."""


def _change(dataset: Dataset, changes: dict[str, Any]) -> None:
    for keyword, value in changes.items():
        if value is None:
            dataset.pop(keyword, None)
        else:
            setattr(dataset, keyword, value)


def _injection(changes: dict[str, Any]) -> Dataset:
    item = Dataset()
    item.Radiopharmaceutical = "FDG"
    item.RadiopharmaceuticalStartTime = "100000"
    item.RadiopharmaceuticalStartDateTime = "20250101100000"
    item.RadionuclideTotalDose = str(DOSE)
    item.RadionuclideHalfLife = str(HALF_LIFE)
    item.RadionuclideCodeSequence = [code_item("C-111A1", "^18^Fluorine", scheme="SRT")]
    _change(item, changes)
    return item


def _patient_and_equipment() -> Dataset:
    dataset = Dataset()
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Doe^Jane", "ID4711", "19600102"
    dataset.PatientSex, dataset.PatientWeight, dataset.PatientSize = "O", str(WEIGHT), str(HEIGHT)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = (
        generate_uid() for _ in range(3)
    )
    dataset.StudyDate, dataset.StudyTime = date_and_time(START)
    dataset.SeriesDate, dataset.SeriesTime = date_and_time(START)
    dataset.StudyID, dataset.AccessionNumber, dataset.InstitutionName = "S1", "A1", "Hospital"
    dataset.Modality, dataset.Manufacturer, dataset.SeriesDescription = "PT", "Synthetic", "WB Jane Doe"
    dataset.SeriesNumber = 3
    return dataset


def _planes(slopes: np.ndarray) -> np.ndarray:
    """Stored values before rounding, (slices, rows, columns), of SUV stored with a slope for each slice."""
    # Columns run to the left, rows to the back, slices to the head.
    values = SUV[::-1, ::-1].transpose(2, 1, 0)
    return values / slopes[:, None, None]


def write_slices(scan: Scan, folder: Path) -> Path:
    """Write a scan as single slices."""
    folder.mkdir()
    common = _patient_and_equipment()
    common.SOPClassUID = PositronEmissionTomographyImageStorage
    common.ImageType = ["ORIGINAL", "PRIMARY"]
    common.AcquisitionDate, common.AcquisitionTime = date_and_time(START)
    common.ActualFrameDuration, common.FrameReferenceTime = int(1000 * FRAME), str(1000 * AVERAGE)
    common.SeriesType, common.Units, common.DecayCorrection = ["STATIC", "IMAGE"], "BQML", "START"
    common.CorrectedImage = ["NORM", "ATTN", "SCAT", "DECY"]
    common.NumberOfSlices = SHAPE[2]
    common.PixelSpacing, common.SliceThickness = ["4", "4"], "3"
    common.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    common.RescaleIntercept = "0"
    common.RadiopharmaceuticalInformationSequence = [_injection(scan.injection)]
    _change(common, scan.attributes)
    for (group, element), (vr, value) in scan.private.items():
        common.add_new((group, element), vr, value)
    per_suv = np.broadcast_to(np.asarray(scan.stored, float), SHAPE[2:])
    slopes = [f"{4.0 * value / (20000 + 1000 * k):.10g}" for k, value in enumerate(per_suv)]
    planes = _planes(np.array(slopes, float) / per_suv)
    for k, changes in enumerate(scan.per_slice):
        dataset = Dataset()
        dataset.update(common)
        dataset.SOPInstanceUID, dataset.InstanceNumber = generate_uid(), k + 1
        dataset.ImagePositionPatient = [-10.0, -20.0, 3.0 * k]
        dataset.RescaleSlope = slopes[k]
        _change(dataset, changes)
        set_pixels(dataset, planes[k], signed=False)
        save_dataset(dataset, folder / f"{k}.dcm")
    return folder


def mapping(unit: str, slope: float, *, intercept: float = 0.0) -> Dataset:
    """Item of RealWorldValueMappingSequence."""
    item = Dataset()
    item.RealWorldValueFirstValueMapped, item.RealWorldValueLastValueMapped = 0, 65535
    item.RealWorldValueIntercept, item.RealWorldValueSlope = intercept, slope
    item.LUTLabel = "map"
    item.MeasurementUnitsCodeSequence = [code_item(unit, unit, scheme="UCUM")]
    return item


def _group(**attributes: Any) -> list[Dataset]:
    item = Dataset()
    _change(item, attributes)
    return [item]


def write_multi_frame(
    path: Path,
    *,
    stored: Any = BQML,
    units: dict[str, float] | None = None,
    decay_corrected: str = "YES",
    legacy: bool = False,
    order: tuple[int, ...] = tuple(range(SHAPE[2])),
    acquired: tuple[float, ...] = (0.0,) * SHAPE[2],
    frame_changes: dict[int, dict[str, Any]] | None = None,
    **attributes: Any,
) -> Path:
    """Write a scan as one enhanced or legacy converted enhanced PET image.

    `units` are the UCUM units that real world values are mapped to, with what SUVbw 1 is in each, `acquired` the
    start [s] of each slice's frame after `START`, `frame_changes` attributes of single frames' FrameContent.
    """
    dataset = _patient_and_equipment()
    dataset.SOPClassUID = LegacyConvertedEnhancedPETImageStorage if legacy else EnhancedPETImageStorage
    dataset.SOPInstanceUID, dataset.InstanceNumber = generate_uid(), 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.NumberOfFrames = len(order)
    dataset.RadiopharmaceuticalInformationSequence = [_injection({})]
    shared = Dataset()
    shared.PixelMeasuresSequence = _group(PixelSpacing=[4, 4], SliceThickness=3)
    shared.PlaneOrientationSequence = _group(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    if legacy:
        shared.UnassignedSharedConvertedAttributesSequence = _group(
            Units="BQML", DecayCorrection="START", CorrectedImage=["ATTN", "DECY"], SeriesType=["STATIC", "IMAGE"]
        )
    else:
        dataset.DecayCorrected, dataset.AttenuationCorrected, dataset.ScatterCorrected = decay_corrected, "YES", "YES"
        if decay_corrected == "YES":
            dataset.DecayCorrectionDateTime = START.strftime("%Y%m%d%H%M%S")
    dataset.SharedFunctionalGroupsSequence = [shared]
    per_suv = np.broadcast_to(np.asarray(stored, float), SHAPE[2:])
    slopes = 4.0 * per_suv / (20000 + 1000 * np.arange(SHAPE[2]))
    planes = _planes(slopes / per_suv)
    frames = []
    for position, k in enumerate(order):
        start = START + timedelta(seconds=acquired[k])
        middle = start + timedelta(seconds=AVERAGE)
        frame = Dataset()
        frame.FrameContentSequence = _group(
            FrameAcquisitionDateTime=start.strftime("%Y%m%d%H%M%S.%f"),
            FrameReferenceDateTime=middle.strftime("%Y%m%d%H%M%S.%f"),
            FrameAcquisitionDuration=1000 * FRAME,
            InStackPositionNumber=k + 1,
            **{"StackID": "1", "TemporalPositionIndex": 1, **(frame_changes or {}).get(position, {})},
        )
        frame.PlanePositionSequence = _group(ImagePositionPatient=[-10.0, -20.0, 3.0 * k])
        slope = f"{slopes[k]:.10g}"
        frame.PixelValueTransformationSequence = _group(RescaleSlope=slope, RescaleIntercept="0", RescaleType="US")
        if not legacy:
            of_one = units or {"Bq/ml": per_suv[k]}
            frame.RealWorldValueMappingSequence = [
                mapping(unit, float(slope) / per_suv[k] * value) for unit, value in of_one.items()
            ]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    set_pixels(dataset, planes[list(order)], signed=False)
    _change(dataset, attributes)
    save_dataset(dataset, path)
    return path
