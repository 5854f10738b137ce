"""What the JSON file beside a volume says: PET-BIDS keys from and to a `PETHeader`.

Keys are those of the Brain Imaging Data Structure for PET (Norgaard et al. 2022) where it has one; it has none
for what SUV needs beyond the dose, so ``BodyWeight`` [kg], ``BodyHeight`` [m], ``Sex``,
``RadionuclideHalfLife`` [s] and ``SUVbwFactor`` [(g/mL)/(Bq/mL)] are added. The names that dcm2niix gives the same
quantities, those of DICOM, are read as well. Times are seconds; times of day are not written, and read only where
two of them give the time from the administration to the scan.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import time
from typing import Any, TypeVar

from pipeline.errors import PETError
from pipeline.pet.series import PETHeader
from pipeline.pet.suv.factor import (
    average_activity_time,
    dose_in_bq,
    height_in_m,
    says_corrected,
    stored_header,
    suvbw_factor_of,
    weight_in_kg,
)
from pipeline.pet.suv.nuclides import ANY_HALF_LIFE, POSITRON_WARNINGS, nuclide_from_name

__all__ = ["DICOM_NAMES", "SidecarHeader", "header_from_sidecar", "number_in", "sidecar_of"]

UNITS = {"Bq/mL": ("BQML", 1.0), "g/mL": ("GML", 1.0), "kBq/mL": ("BQML", 1e3), "MBq/mL": ("BQML", 1e6)}
UNITS |= {"BQML": ("BQML", 1.0), "GML": ("GML", 1.0)}
"""For each Units of a sidecar: what DICOM calls the quantity, and how many of its units one is. PET-BIDS writes
Bq/mL; any case is read, since tools write Bq/ml, too, and earlier ones the names of DICOM."""

ACTIVITY_UNITS = {"Bq": 1.0, "kBq": 1e3, "MBq": 1e6, "GBq": 1e9, "mCi": 3.7e7, "uCi": 3.7e4}
"""Becquerel per unit of InjectedRadioactivity; any case is read, since nobody is given millibecquerels."""

SEXES = {"m": "M", "male": "M", "f": "F", "female": "F", "o": "O", "other": "O"}
"""Values of Sex, as BIDS allows them, and what DICOM calls them."""

DICOM_NAMES = {"BodyWeight": "PatientWeight", "BodyHeight": "PatientSize", "Sex": "PatientSex"}
"""For each key: the name under which dcm2niix writes the same quantity."""

FACTOR_AGREEMENT = 1e-4
"""Relative difference allowed between SUVbwFactor and the factor from dose, weight and times."""

T = TypeVar("T")


def number_in(sidecar: Mapping[str, Any], key: str, *, positive: bool = False) -> float | None:
    """Return a number of a sidecar, or None if it is absent, null or ``"n/a"``.

    Raises
    ------
    PETError
        If the value is not a finite number, or not positive where it must be.
    """
    value = sidecar.get(key)
    if value is None or (isinstance(value, str) and value.strip().lower() == "n/a"):
        return None
    try:
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError as error:
        raise PETError(f"{key} is too large for a number") from error
    if not is_number:
        raise PETError(f"{key} is {value!r}, expected a number")
    if positive and value <= 0:
        raise PETError(f"{key} is {value}, expected a positive number")
    return float(value)


def _text(sidecar: Mapping[str, Any], key: str) -> str:
    value = sidecar.get(key)
    return value.strip() if isinstance(value, str) else ""


def _filter(sidecar: Mapping[str, Any]) -> str:
    """Return type and size of the filter in one text, such as ``"Gaussian 5"``."""
    values = (sidecar.get("ReconFilterType"), sidecar.get("ReconFilterSize"))
    parts = [part for value in values for part in (value if isinstance(value, list) else [value])]
    texts = [
        part.strip() if isinstance(part, str) else f"{part:g}" for part in parts if type(part) in (str, int, float)
    ]
    return " ".join(text for text in texts if text not in ("", "n/a", "0"))


def _quantity(sidecar: Mapping[str, Any], key: str) -> tuple[float | None, str]:
    """Return a positive number under a key or the name that DICOM has for it, and which of the two it was."""
    other = DICOM_NAMES[key]
    stated, named = (number_in(sidecar, name, positive=True) for name in (key, other))
    if stated is not None and named is not None and stated != named:
        raise PETError(f"{key} is {stated:g} and {other} is {named:g}, expected one value")
    return (named, other) if stated is None else (stated, key)


def _unit(sidecar: Mapping[str, Any], key: str, known: Mapping[str, T]) -> T:
    """Return the meaning of a unit, in whatever case it is written."""
    unit = sidecar.get(key)
    for name, meaning in known.items():
        if isinstance(unit, str) and unit.lower() == name.lower():
            return meaning
    raise PETError(f"{key} is {unit!r}, expected one of {', '.join(known)}")


def _injected_dose(sidecar: Mapping[str, Any], notes: list[str]) -> float | None:
    dose = number_in(sidecar, "InjectedRadioactivity", positive=True)
    if dose is None:
        name = "RadionuclideTotalDose"
        return dose_in_bq(number_in(sidecar, name, positive=True), name, notes)
    return dose * _unit(sidecar, "InjectedRadioactivityUnits", ACTIVITY_UNITS)


def _decay_correction(sidecar: Mapping[str, Any]) -> str:
    """Return ``"START"`` for an image corrected to ImageDecayCorrectionTime, whenever that was, and DICOM's words."""
    corrected, named = sidecar.get("ImageDecayCorrected"), _text(sidecar, "DecayCorrection").upper()
    if corrected is not None and not isinstance(corrected, bool):
        raise PETError(f"ImageDecayCorrected is {corrected!r}, expected true or false")
    if named not in {"", "START", "ADMIN", "NONE"}:
        raise PETError(f"DecayCorrection is {named}, expected START, ADMIN or NONE")
    if corrected is None:
        return named
    if named and corrected == (named == "NONE"):
        raise PETError(f"DecayCorrection is {named} and ImageDecayCorrected is {str(corrected).lower()}")
    return named or ("START" if corrected else "NONE")


def _attenuation_corrected(sidecar: Mapping[str, Any]) -> bool | None:
    """Return whether the image is corrected for attenuation, or None if the sidecar does not say."""
    for key in ("AttenuationCorrection", "AttenuationCorrectionMethod"):
        value = sidecar.get(key)
        corrected = says_corrected("" if value is None else str(value))
        if corrected is not None:
            return corrected
    return None


@dataclass(frozen=True)
class SidecarHeader:
    """What a sidecar says about SUV."""

    header: PETHeader
    """What SUV depends on."""

    unit: float
    """How many Bq/mL, or g/mL, one unit of the voxels is."""

    factor: float | None
    """SUVbw per unit of the voxels, None if they are SUVbw already."""

    provenance: tuple[str, ...]
    """How the factor came about, one sentence each."""

    warnings: tuple[str, ...]
    """Those sentences that a person should see at once, because SUV may be wrong."""


def _check_complete(header: PETHeader) -> None:
    """Refuse an activity concentration of which no SUV can be computed, with the keys that are missing."""
    needed: dict[str, object] = {
        "BodyWeight": header.patient_weight,
        "InjectedRadioactivity": header.injected_dose,
        "ImageDecayCorrected": header.decay_correction or None,
    }
    if header.decay_correction in {"START", "NONE"}:
        needed["RadionuclideHalfLife or TracerRadionuclide"] = header.radionuclide_half_life
        needed["InjectionStart"] = header.administration_time
    if header.decay_correction == "START":
        needed["ImageDecayCorrectionTime"] = header.reference_time
    if header.decay_correction == "NONE":
        needed["FrameDuration"] = header.frame_duration
    missing = [key for key, value in needed.items() if value is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise PETError(f"{' and '.join(missing)} {verb} missing, SUV cannot be computed")


def _factor(sidecar: Mapping[str, Any], header: PETHeader, average_time: float | None) -> float | None:
    """Return SUVbw per Bq/mL from dose, weight and times, or the stated one where there is no dose.

    Without decay correction, the activity was that of its average at `average_time` [s], on the clock of the header.
    """
    stated = number_in(sidecar, "SUVbwFactor", positive=True)
    if header.units == "GML":
        return None
    if stated is not None and header.injected_dose is None and header.attenuation_corrected:
        return stated
    _check_complete(header)
    computed = suvbw_factor_of(header if average_time is None else replace(header, reference_time=average_time))
    if stated is not None and abs(computed / stated - 1) > FACTOR_AGREEMENT:
        raise PETError(f"SUVbwFactor is {stated:.6e} per Bq/mL, dose and weight give {computed:.6e}")
    return computed


def _first_number(sidecar: Mapping[str, Any], key: str, *, positive: bool = False) -> float | None:
    """Return the one number of a PET-BIDS list, or a plain number."""
    values = sidecar.get(key)
    if isinstance(values, list) and len(values) > 1:
        raise PETError(f"{key} lists {len(values)} frames, expected one static frame")
    value = values[0] if isinstance(values, list) and values else values
    return number_in({key: None if value == [] else value}, key, positive=positive)


def _seconds_of_day(sidecar: Mapping[str, Any], key: str) -> float:
    try:
        clock = time.fromisoformat(_text(sidecar, key))
    except ValueError as error:
        raise PETError(f"{key} is {sidecar.get(key)!r}, expected a time of day such as 10:30:00") from error
    return 3600.0 * clock.hour + 60 * clock.minute + clock.second + 1e-6 * clock.microsecond


def _times(sidecar: Mapping[str, Any], decay_correction: str, notes: list[str]) -> tuple[float | None, float | None]:
    """Return administration and reference time [s] after the start of the scan."""
    scan_start = number_in(sidecar, "ScanStart") or 0.0
    times = (number_in(sidecar, key) for key in ("InjectionStart", "ImageDecayCorrectionTime"))
    injection, reference = (None if moment is None else moment - scan_start for moment in times)
    if injection is None and {"RadiopharmaceuticalStartTime", "SeriesTime"} <= set(sidecar):
        start, series = (_seconds_of_day(sidecar, key) for key in ("RadiopharmaceuticalStartTime", "SeriesTime"))
        # The latest such time of day before the series.
        injection = -((series - start) % 86400.0)
        notes.append(f"Uptake {-injection:g} s from RadiopharmaceuticalStartTime to SeriesTime.")
        if reference is None and decay_correction == "START":
            reference = 0.0
            notes.append("ImageDecayCorrectionTime is missing, SeriesTime was used, as DecayCorrection START means.")
    if decay_correction == "ADMIN":
        # Both are the administration; whichever is stated stands for the other.
        injection = reference if injection is None else injection
        reference = injection
    return injection, None if decay_correction == "NONE" else reference


def header_from_sidecar(sidecar: Mapping[str, Any]) -> SidecarHeader:
    """Return what SUV depends on, and the factor.

    Raises
    ------
    PETError
        If the units are neither activity concentration nor g/mL, a value has the wrong type or sign, or SUV cannot be
        computed.
    """
    units, unit = _unit(sidecar, "Units", UNITS)
    suv_type = _text(sidecar, "SUVType").upper()
    if suv_type not in {"", "BW"}:
        raise PETError(f"SUVType is {suv_type}, expected BW")
    notes: list[str] = []
    nuclide = nuclide_from_name(_text(sidecar, "TracerRadionuclide"))
    half_life = number_in(sidecar, "RadionuclideHalfLife", positive=True)
    if half_life is None and nuclide:
        half_life = ANY_HALF_LIFE[nuclide]
        notes.append(f"RadionuclideHalfLife is missing, {half_life:.1f} s of {nuclide} was used.")
    attenuation = _attenuation_corrected(sidecar)
    warnings = list(POSITRON_WARNINGS.get(nuclide, ()))
    if attenuation is None and units == "BQML":
        warnings.append("The sidecar does not say whether the image is corrected for attenuation.")
    decay_correction = _decay_correction(sidecar)
    administration_time, reference_time = _times(sidecar, decay_correction, notes)
    duration = _first_number(sidecar, "FrameDuration", positive=True)
    average_time = None
    if decay_correction == "NONE" and duration is not None and half_life is not None:
        frame_start = (_first_number(sidecar, "FrameTimesStart") or 0.0) - (number_in(sidecar, "ScanStart") or 0.0)
        average_time = frame_start + average_activity_time(duration, half_life)
        notes.append("The image is not corrected for decay; SUV is, from the middle of its frame.")
    header = PETHeader(
        units=units,
        suv_type=suv_type,
        decay_correction=decay_correction,
        patient_weight=weight_in_kg(*_quantity(sidecar, "BodyWeight"), notes),
        patient_height=height_in_m(*_quantity(sidecar, "BodyHeight"), notes),
        patient_sex=SEXES.get((_text(sidecar, "Sex") or _text(sidecar, "PatientSex")).lower(), ""),
        radionuclide=nuclide,
        radiopharmaceutical=_text(sidecar, "TracerName"),
        radionuclide_half_life=half_life,
        injected_dose=_injected_dose(sidecar, notes),
        administration_time=administration_time,
        reference_time=reference_time,
        frame_duration=duration,
        attenuation_corrected=attenuation is not False,
        manufacturer=_text(sidecar, "Manufacturer"),
        model_name=_text(sidecar, "ManufacturersModelName"),
        reconstruction_method=_text(sidecar, "ReconMethodName"),
        reconstruction_filter=_filter(sidecar),
    )
    factor = _factor(sidecar, header, average_time)
    return SidecarHeader(
        header=header,
        unit=unit,
        factor=None if factor is None else factor * unit,
        provenance=(*notes, *warnings),
        warnings=tuple(warnings),
    )


def sidecar_of(header: PETHeader, *, suvbw_factor: float | None, provenance: tuple[str, ...]) -> dict[str, Any]:
    """Return the sidecar of a volume in SUVbw; what is not known is left out.

    `suvbw_factor` is SUVbw per stored unit of the source, [g/mL] per [Bq/mL], if the source was not SUVbw.
    """
    if header.decay_correction == "NONE":
        # SUV is corrected for decay, whatever its source was.
        header = stored_header(header)
    entries: dict[str, Any] = {
        "Modality": "PT",
        "Units": "g/mL",
        "SUVType": "BW",
        "SUVbwFactor": suvbw_factor,
        "BodyWeight": header.patient_weight,
        "BodyHeight": header.patient_height,
        "Sex": header.patient_sex,
        "TracerName": header.radiopharmaceutical,
        "TracerRadionuclide": header.radionuclide.replace("-", ""),
        "RadionuclideHalfLife": header.radionuclide_half_life,
        "InjectedRadioactivity": header.injected_dose,
        "InjectedRadioactivityUnits": None if header.injected_dose is None else "Bq",
        # No time of day is written; the clock starts with the scan.
        "TimeZero": "00:00:00",
        "ScanStart": 0.0,
        "InjectionStart": header.administration_time,
        "ImageDecayCorrected": header.decay_correction in {"START", "ADMIN"} or None,
        "ImageDecayCorrectionTime": header.reference_time,
        "FrameTimesStart": [0.0],
        "FrameDuration": None if header.frame_duration is None else [header.frame_duration],
        "AttenuationCorrection": "applied" if header.attenuation_corrected else "none",
        "Manufacturer": header.manufacturer,
        "ManufacturersModelName": header.model_name,
        "ReconMethodName": header.reconstruction_method,
        "ReconFilterType": header.reconstruction_filter,
        "Provenance": list(provenance),
    }
    return {key: value for key, value in entries.items() if value is not None and value != ""}
