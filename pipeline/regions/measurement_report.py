"""Measurements of regions as a DICOM SR by TID 1500 (PS3.16), by highdicom; it refers to a SEG and its PET series.

Every region has one group of measurements for each of three images: the scan as measured, the denoised scan, and the
value recommended of both, with its interval. The groups of a region share its tracking identifier, that of the SEG.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from pipeline import __version__
from pipeline.errors import PETError, naming
from pipeline.pet.dicom.values import text_of
from pipeline.pet.dicom.writing.equipment import PRODUCT
from pipeline.pet.grid import Grid
from pipeline.regions.referenced import ReferencedSeries, private_code, quiet_about_names, saved_object

__all__ = ["REPORTED", "write_measurement_report"]

_SUV = ("126401", "DCM", "SUVbw")
_SUV_METHOD = ("126410", "DCM", "SUV body weight calculation method")
_GRAMS_PER_ML = ("g/ml{SUVbw}", "UCUM", "Standardized Uptake Value body weight")


@dataclass(frozen=True)
class _Quantity:
    """A quantity as codes (value, scheme, meaning)."""

    name: tuple[str, str, str]
    unit: tuple[str, str, str]
    derivation: tuple[str, str, str] | None = None
    method: tuple[str, str, str] | None = None


REPORTED = {
    "suv_max": _Quantity(_SUV, _GRAMS_PER_ML, ("56851009", "SCT", "Maximum"), _SUV_METHOD),
    "suv_mean": _Quantity(_SUV, _GRAMS_PER_ML, ("373098007", "SCT", "Mean"), _SUV_METHOD),
    "suv_peak": _Quantity(_SUV, _GRAMS_PER_ML, ("126031", "DCM", "Peak Value Within ROI"), _SUV_METHOD),
    "tlg": _Quantity(("126033", "DCM", "Total Lesion Glycolysis"), ("g", "UCUM", "gram")),
    "volume_ml": _Quantity(
        ("126032", "DCM", "Metabolic Volume"),
        ("ml", "UCUM", "milliliter"),
        method=("126030", "DCM", "Sum of segmented voxel method for volume"),
    ),
}
"""For each quantity of the table of lesions: the codes of its name (CID 7466), unit, derivation (CID 7464), method."""

IMAGES = {
    "before": ("MEASURED", "Scan before denoising"),
    "after": ("DENOISED", "Scan after denoising"),
    "recommended": ("RECOMMENDED", "Recommended of measured and denoised value"),
}
"""For each image: code value in the project's own scheme and meaning of the groups' measurement method."""


def write_measurement_report(
    table: pd.DataFrame,
    path: str | Path,
    *,
    segmentation: str | Path,
    series_folder: str | Path,
    grid: Grid,
) -> None:
    """Write SUVmax, SUVmean, SUVpeak, TLG and volume of regions as a DICOM SR of TID 1500.

    Parameters
    ----------
    table
        One row a region: ``region``, its number; for each quantity of `REPORTED` the columns ``suv_max_before`` and
        ``suv_max_after`` (of the volume ``volume_ml`` alone), and, where there are any, ``suv_max_recommended``,
        ``suv_max_recommended_low`` and ``suv_max_recommended_high``, the ends of its 95 % interval. Missing columns and
        values are left out. The tables of `pipeline.evaluation.lesion_table` and of `pipeline.workflow` are such.
    path
        File to write; an existing one is replaced.
    segmentation
        SEG of the same regions, that `write_segmentation` wrote for the same series.
    series_folder, grid
        As of `write_segmentation`.

    Raises
    ------
    PETError
        If the segmentation is another series', a region is no segment of it, or nothing was measured.
    """
    path, segmentation = Path(path), Path(segmentation)
    with naming(path):
        series = ReferencedSeries.read(Path(series_folder), grid=grid)
        with naming(segmentation):
            referred = _segmentation_of(segmentation, series)
        segments = {text_of(item, "TrackingID"): item for item in referred.SegmentSequence}
        groups = []
        for row in table.to_dict("records"):
            segment = segments.get(f"Region {row['region']}")
            if segment is None:
                raise PETError(f"region {row['region']} is no segment of {segmentation.name}")
            for image in IMAGES:
                measurements = _measurements(row, image)
                if measurements:
                    groups.append(_group(segment, image, measurements, referred, series))
        if not groups:
            raise PETError("no region was measured, expected at least one")
        with saved_object(_report(groups, referred, series), path):
            pass


def _segmentation_of(path: Path, series: ReferencedSeries) -> Dataset:
    # What this package wrote a moment ago.
    referred = dcmread(path)
    referenced = {text_of(item, "SeriesInstanceUID") for item in referred.get("ReferencedSeriesSequence", ())}
    if referenced != {text_of(series.headers[0], "SeriesInstanceUID")}:
        raise PETError("refers to another series, expected the one of the measurements")
    return referred


def _number(row: dict[Any, Any], column: str) -> float | None:
    value = row.get(column)
    return None if value is None or not np.isfinite(float(value)) else float(value)


def _measurements(row: dict[Any, Any], image: str) -> list[Any]:
    """Return the measurements of one region in one image that there are."""
    from highdicom.sr import CodedConcept, Measurement, MeasurementProperties

    made = []
    for quantity, codes in REPORTED.items():
        of_region = quantity == "volume_ml" and image != "recommended"
        value = _number(row, quantity if of_region else f"{quantity}_{image}")
        if value is None:
            continue
        low, high = (_number(row, f"{quantity}_{image}_{end}") for end in ("low", "high"))
        unit, interval = CodedConcept(*codes.unit), None
        if low is not None and high is not None:
            interval = MeasurementProperties(
                upper_measurement_uncertainty=high - value, lower_measurement_uncertainty=value - low
            )
            for end in interval:
                # The library calls them numbers without unit.
                end.MeasuredValueSequence[0].MeasurementUnitsCodeSequence = [unit]
        made.append(
            Measurement(
                name=CodedConcept(*codes.name),
                value=value,
                unit=unit,
                derivation=None if codes.derivation is None else CodedConcept(*codes.derivation),
                method=None if codes.method is None else CodedConcept(*codes.method),
                properties=interval,
            )
        )
    return made


def _group(segment: Dataset, image: str, measurements: list[Any], referred: Dataset, series: ReferencedSeries) -> Any:
    from highdicom.sr import (
        CodedConcept,
        ReferencedSegment,
        SourceSeriesForSegmentation,
        TrackingIdentifier,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )

    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=segment.TrackingUID, identifier=segment.TrackingID),
        referenced_segment=ReferencedSegment(
            sop_class_uid=referred.SOPClassUID,
            sop_instance_uid=referred.SOPInstanceUID,
            segment_number=segment.SegmentNumber,
            source_series=SourceSeriesForSegmentation(series.headers[0].SeriesInstanceUID),
        ),
        finding_type=CodedConcept.from_dataset(segment.SegmentedPropertyTypeCodeSequence[0]),
        method=private_code(*IMAGES[image]),
        measurements=measurements,
    )


def _report(groups: list[Any], referred: Dataset, series: ReferencedSeries) -> Dataset:
    # Imported here, since it takes more than a second.
    from highdicom.sr import (
        CodedConcept,
        ComprehensiveSR,
        DeviceObserverIdentifyingAttributes,
        MeasurementReport,
        ObservationContext,
        ObserverContext,
    )
    from pydicom.sr.codedict import codes

    device = DeviceObserverIdentifyingAttributes(
        uid=generate_uid(entropy_srcs=[PRODUCT, __version__]),
        name=PRODUCT,
        manufacturer_name=PRODUCT,
        model_name=f"{PRODUCT} {__version__}",
    )
    content = MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=ObserverContext(
                observer_type=codes.DCM.Device, observer_identifying_attributes=device
            )
        ),
        procedure_reported=CodedConcept("44136-0", "LN", "PET unspecified body region"),
        imaging_measurements=groups,
        title=codes.DCM.PETMeasurementReport,
    )
    with quiet_about_names():
        made = ComprehensiveSR(
            evidence=[*series.headers, referred],
            content=content[0],
            series_instance_uid=generate_uid(),
            series_number=series.series_number(2),
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer=PRODUCT,
            is_complete=True,
            is_final=False,
            is_verified=False,
            series_description="Measurements of regions",
        )
    series.identify(made)
    return made
