"""From the data sets of a DICOM PET series to a `PETHeader`, with every repair written down."""

from collections.abc import Sequence
from datetime import datetime

from pydicom.dataset import Dataset

from pipeline.pet.dicom_times import acquisition_time, administration_time, reference_time
from pipeline.pet.dicom_values import number_of, text_of, value_of
from pipeline.pet.errors import PETError
from pipeline.pet.header import PETHeader
from pipeline.pet.nuclides import HALF_LIFE, nuclide_from_code, nuclide_from_name

__all__ = ["read_header"]

DOSE_IN_MBQ_BELOW = 1e5
"""A RadionuclideTotalDose below this is not in Bq but in MBq; no patient is given so little."""

LEAST_DOSE_IN_MBQ = 1.0
"""A smaller RadionuclideTotalDose could be in GBq or mCi as well: refused."""

WEIGHT_IN_G_ABOVE = 1000.0
HEIGHT_IN_CM_ABOVE = 3.0


def _weight(first: Dataset, notes: list[str]) -> float:
    weight = number_of(first, "PatientWeight")
    if not weight:
        found = "missing" if weight is None else "0"
        raise PETError(f"PatientWeight is {found}, SUV cannot be computed")
    if weight < 0:
        raise PETError(f"PatientWeight is {weight:g} kg, expected a positive number")
    if weight > WEIGHT_IN_G_ABOVE:
        notes.append(f"PatientWeight {weight:g} was taken to be in g.")
        weight /= 1000.0
    return weight


def _height(first: Dataset, notes: list[str]) -> float | None:
    height = number_of(first, "PatientSize")
    if height is None or height <= 0:
        return None
    if height > HEIGHT_IN_CM_ABOVE:
        notes.append(f"PatientSize {height:g} was taken to be in cm.")
        height /= 100.0
    return height


def _dose(item: Dataset, notes: list[str]) -> float:
    dose = number_of(item, "RadionuclideTotalDose")
    if not dose:
        found = "missing" if dose is None else "0"
        raise PETError(f"RadionuclideTotalDose is {found}, SUV cannot be computed")
    if dose < LEAST_DOSE_IN_MBQ:
        raise PETError(f"RadionuclideTotalDose is {dose:g}, neither Bq nor MBq")
    if dose < DOSE_IN_MBQ_BELOW:
        notes.append(f"RadionuclideTotalDose {dose:g} was taken to be in MBq.")
        dose *= 1e6
    return dose


def _nuclide(item: Dataset) -> str:
    for code in value_of(item, "RadionuclideCodeSequence") or ():
        name = nuclide_from_code(text_of(code, "CodingSchemeDesignator"), text_of(code, "CodeValue"))
        return name or nuclide_from_name(text_of(code, "CodeMeaning"))
    return ""


def _half_life(item: Dataset, nuclide: str, notes: list[str]) -> float | None:
    half_life = number_of(item, "RadionuclideHalfLife")
    if half_life is not None and half_life < 0:
        raise PETError(f"RadionuclideHalfLife is {half_life:g} s, expected a positive number")
    if half_life:
        return half_life
    if nuclide:
        notes.append(f"RadionuclideHalfLife is missing, {HALF_LIFE[nuclide]:.1f} s of {nuclide} was used.")
        return HALF_LIFE[nuclide]
    return None


def _radiopharmaceutical_item(first: Dataset) -> Dataset:
    items: Sequence[Dataset] = value_of(first, "RadiopharmaceuticalInformationSequence") or []
    if len(items) != 1:
        raise PETError(f"RadiopharmaceuticalInformationSequence has {len(items)} items, expected 1")
    return items[0]


def _attenuation_corrected(first: Dataset) -> bool:
    corrections = value_of(first, "CorrectedImage") or ()
    return "ATTN" in ([corrections] if isinstance(corrections, str) else corrections)


def read_header(slices: Sequence[Dataset]) -> tuple[PETHeader, tuple[str, ...]]:
    """Return what SUV depends on, and a sentence for every rule that was applied and every value repaired.

    Parameters
    ----------
    slices
        Headers of the slices of one series, which agree in patient, units and radiopharmaceutical.

    Raises
    ------
    PETError
        If weight, dose, or, for DecayCorrection START, the half-life or a time is missing or impossible.
    """
    first = slices[0]
    notes: list[str] = []
    item = _radiopharmaceutical_item(first)
    decay_correction = text_of(first, "DecayCorrection")
    nuclide = _nuclide(item)
    half_life = _half_life(item, nuclide, notes)
    if half_life is None and decay_correction == "START":
        raise PETError("RadionuclideHalfLife is missing and the radionuclide unknown, SUV cannot be computed")
    duration = number_of(first, "ActualFrameDuration")
    weight, height, dose = _weight(first, notes), _height(first, notes), _dose(item, notes)
    administered, reference = _relative_times(slices, item, decay_correction, half_life, notes)
    header = PETHeader(
        units=text_of(first, "Units"),
        suv_type=text_of(first, "SUVType"),
        decay_correction=decay_correction,
        patient_weight=weight,
        patient_height=height,
        patient_sex=text_of(first, "PatientSex"),
        radionuclide=nuclide,
        radiopharmaceutical=text_of(item, "Radiopharmaceutical"),
        radionuclide_half_life=half_life,
        injected_dose=dose,
        administration_time=administered,
        reference_time=reference,
        frame_duration=None if duration is None else duration / 1000.0,
        attenuation_corrected=_attenuation_corrected(first),
        manufacturer=text_of(first, "Manufacturer"),
        model_name=text_of(first, "ManufacturerModelName"),
        reconstruction_method=text_of(first, "ReconstructionMethod"),
    )
    return header, tuple(notes)


def _relative_times(
    slices: Sequence[Dataset],
    item: Dataset,
    decay_correction: str,
    half_life: float | None,
    notes: list[str],
) -> tuple[float | None, float | None]:
    """Return administration and reference time [s] after the start of the acquisition."""
    acquired = [moment for moment in map(acquisition_time, slices) if moment is not None]
    if decay_correction == "START":
        reference = reference_time(slices, half_life=half_life)
        notes.extend(reference.notes)
        origin = min(acquired, default=reference.moment)
        administered, sentence = administration_time(item, slices[0], reference=reference.moment, half_life=half_life)
        notes.append(sentence)
        return _seconds(administered, origin), _seconds(reference.moment, origin)
    if not acquired:
        return None, None
    # Without START the SUV does not need the administration; it is kept where it is known.
    origin = min(acquired)
    try:
        administered, _ = administration_time(item, slices[0], reference=origin, half_life=half_life)
    except PETError as error:
        notes.append(f"Time of administration is unknown: {error}.")
        return None, None
    if decay_correction == "ADMIN":
        notes.append("Reference time of decay: administration (DecayCorrection ADMIN).")
        return _seconds(administered, origin), _seconds(administered, origin)
    return _seconds(administered, origin), None


def _seconds(moment: datetime, origin: datetime) -> float:
    return (moment - origin).total_seconds()
