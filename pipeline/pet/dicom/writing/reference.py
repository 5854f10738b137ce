"""State in a derived series what its stored values mean, so that every reader computes the same SUV from it.

A series in the units and with the decay correction of its source needs none of this. One whose values were
converted (counts, SUV, no decay correction, a multi-frame image), or that loses its vendor's private attributes,
gets its dose, reference time and times of administration in standard attributes, in all of the places where
readers look for them: DICOM PS3.3 C.8.9.1.1.4, C.8.9.4.1.5 and C.8.9.4.1.9.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from pipeline.errors import PETError
from pipeline.pet.dicom.reading.times import acquisition_time, moment_of_reference, start_of_acquisition
from pipeline.pet.dicom.values import REFERENCE_TIMES, SCALE_FACTORS, number_of, remove_private, text_of, value_of
from pipeline.pet.header import PETHeader
from pipeline.pet.suv.factor import average_activity_time, decay_factor

__all__ = ["state_quantities", "state_reference", "state_units"]


def state_quantities(headers: Sequence[Dataset], header: PETHeader) -> None:
    """Write weight, height, dose and half-life as they were understood, where a repair was needed."""
    for dataset in headers:
        _correct(dataset, "PatientWeight", header.patient_weight)
        _correct(dataset, "PatientSize", header.patient_height)
        for item in value_of(dataset, "RadiopharmaceuticalInformationSequence") or ():
            _correct(item, "RadionuclideTotalDose", header.injected_dose)
            _correct(item, "RadionuclideHalfLife", header.radionuclide_half_life)


def _correct(dataset: Dataset, keyword: str, value: float | None) -> None:
    if value and number_of(dataset, keyword) != value:
        setattr(dataset, keyword, format_number_as_ds(value))


def state_units(headers: Sequence[Dataset], units: str) -> None:
    """Write the stored quantity, Bq/mL (``"BQML"``) or SUVbw (``"GML"``); factors of other units go."""
    for dataset in headers:
        is_new = text_of(dataset, "Units") != units
        dataset.Units = units
        dataset.pop("SUVType", None)
        if units == "GML":
            dataset.SUVType = "BW"
        if is_new:
            for attribute in SCALE_FACTORS:
                remove_private(dataset, attribute)


def state_reference(headers: Sequence[Dataset], header: PETHeader) -> None:
    """Write decay correction, reference time and times of administration of a series.

    Parameters
    ----------
    headers
        Headers of the slices, with the source's acquisition times.
    header
        What the stored values mean: DecayCorrection START or ADMIN, with its times. Without times, as SUV may be,
        nothing is written.

    Raises
    ------
    PETError
        If no slice says when it was acquired, which all times count from.
    """
    if header.administration_time is None or header.reference_time is None:
        return
    origin = start_of_acquisition(headers)
    if origin is None:
        raise PETError("AcquisitionTime is missing on every slice, a reference time of decay cannot be stated")
    administered = origin + timedelta(seconds=header.administration_time)
    reference = origin + timedelta(seconds=header.reference_time)
    date, time = (reference.strftime(pattern) for pattern in ("%Y%m%d", "%H%M%S.%f"))
    for dataset in headers:
        dataset.DecayCorrection = header.decay_correction
        corrections = value_of(dataset, "CorrectedImage") or []
        corrections = [corrections] if isinstance(corrections, str) else list(corrections)
        dataset.CorrectedImage = corrections if "DECY" in corrections else [*corrections, "DECY"]
        for attribute in REFERENCE_TIMES:
            remove_private(dataset, attribute)
        for item in value_of(dataset, "RadiopharmaceuticalInformationSequence") or ():
            item.RadiopharmaceuticalStartDateTime = administered.strftime("%Y%m%d%H%M%S.%f")
            item.RadiopharmaceuticalStartTime = administered.strftime("%H%M%S.%f")
        if header.decay_correction == "START":
            dataset.DecayCorrectionDateTime = date + time
            dataset.SeriesDate, dataset.SeriesTime = date, time
            _state_frame(dataset, reference, half_life=header.radionuclide_half_life)


def _state_frame(dataset: Dataset, reference: datetime, *, half_life: float | None) -> None:
    """Write the reference time and the decay factor of one slice."""
    acquired = acquisition_time(dataset)
    if acquired is None or half_life is None:
        return
    duration = (number_of(dataset, "ActualFrameDuration") or 0.0) / 1000.0
    start = (acquired - reference).total_seconds()
    within = moment_of_reference(text_of(dataset, "Manufacturer"), frame_duration=duration, half_life=half_life)
    dataset.FrameReferenceTime = format_number_as_ds(1000.0 * (start + within))
    # What the correction multiplied the average activity of the frame by.
    elapsed = start + average_activity_time(duration, half_life)
    try:
        dataset.DecayFactor = format_number_as_ds(1.0 / decay_factor(elapsed, half_life))
    except (OverflowError, ZeroDivisionError) as error:
        raise PETError(f"a slice was acquired {elapsed:.0f} s from the reference time of decay") from error
