"""The JSON file beside a NIfTI volume: PET-BIDS keys from and to a `PETHeader`.

Keys are those of the Brain Imaging Data Structure for PET (Norgaard et al. 2022) where it has one; it has none
for what SUV needs beyond the dose, so ``BodyWeight`` [kg], ``BodyHeight`` [m], ``Sex``,
``RadionuclideHalfLife`` [s] and ``SUVbwFactor`` [(g/mL)/(Bq/mL)] are added. Times are seconds; dates and times
of day are neither read nor written.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import PETError
from pipeline.pet.header import PETHeader
from pipeline.pet.suv.factor import average_activity_time, stored_header
from pipeline.pet.suv.nuclides import half_life_of, nuclide_from_name

__all__ = ["SidecarHeader", "header_from_sidecar", "number_in", "sidecar_of"]

UNITS = {"Bq/mL": ("BQML", 1.0), "g/mL": ("GML", 1.0), "kBq/mL": ("BQML", 1e3), "MBq/mL": ("BQML", 1e6)}
"""For each Units of a sidecar: what DICOM calls the quantity, and how many of its units one is. PET-BIDS writes
Bq/mL; any case is read, since tools write Bq/ml, too."""

ACTIVITY_UNITS = {"Bq": 1.0, "kBq": 1e3, "MBq": 1e6, "GBq": 1e9, "mCi": 3.7e7}
"""Becquerel per unit of InjectedRadioactivity."""


SEXES = {"m": "M", "male": "M", "f": "F", "female": "F", "o": "O", "other": "O"}
"""Values of Sex, as BIDS allows them, and what DICOM calls them."""


def number_in(sidecar: Mapping[str, Any], key: str, *, positive: bool = False) -> float | None:
    """Return a number of a sidecar, or None if it is absent or null.

    Raises
    ------
    PETError
        If the value is not a finite number, or not positive where it must be.
    """
    value = sidecar.get(key)
    if value is None:
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


def _injected_dose(sidecar: Mapping[str, Any]) -> float | None:
    dose = number_in(sidecar, "InjectedRadioactivity", positive=True)
    if dose is None:
        return None
    unit = sidecar.get("InjectedRadioactivityUnits")
    if not isinstance(unit, str) or unit not in ACTIVITY_UNITS:
        raise PETError(f"InjectedRadioactivityUnits is {unit!r}, expected one of {', '.join(ACTIVITY_UNITS)}")
    return dose * ACTIVITY_UNITS[unit]


def _decay_correction(sidecar: Mapping[str, Any]) -> str:
    """Return ``"START"`` for an image corrected to ImageDecayCorrectionTime, whenever that was."""
    corrected = sidecar.get("ImageDecayCorrected")
    if corrected is None:
        return ""
    if not isinstance(corrected, bool):
        raise PETError(f"ImageDecayCorrected is {corrected!r}, expected true or false")
    return "START" if corrected else "NONE"


@dataclass(frozen=True)
class SidecarHeader:
    """What a sidecar says about SUV."""

    header: PETHeader
    """What SUV depends on."""

    unit: float
    """How many Bq/mL, or g/mL, one unit of the voxels is."""

    average_time: float | None
    """Without decay correction: when the activity was that of its average [s], on the clock of `header`."""

    notes: tuple[str, ...]
    """A sentence for each value that was completed."""


def _units(sidecar: Mapping[str, Any]) -> tuple[str, float]:
    units = sidecar.get("Units")
    known = {name.lower(): meaning for name, meaning in UNITS.items()}
    if not isinstance(units, str) or units.lower() not in known:
        raise PETError(f"Units is {units!r}, expected one of {', '.join(UNITS)}")
    return known[units.lower()]


def _first_number(sidecar: Mapping[str, Any], key: str, *, positive: bool = False) -> float | None:
    """Return the one number of a PET-BIDS list, or a plain number."""
    values = sidecar.get(key)
    if isinstance(values, list) and len(values) > 1:
        raise PETError(f"{key} lists {len(values)} frames, expected one static frame")
    value = values[0] if isinstance(values, list) and values else values
    return number_in({key: None if value == [] else value}, key, positive=positive)


def header_from_sidecar(sidecar: Mapping[str, Any]) -> SidecarHeader:
    """Return what SUV depends on.

    Raises
    ------
    PETError
        If the units are neither activity concentration nor g/mL, or a value has the wrong type or sign.
    """
    units, unit = _units(sidecar)
    suv_type = _text(sidecar, "SUVType").upper()
    if suv_type not in {"", "BW"}:
        raise PETError(f"SUVType is {suv_type}, expected BW")
    notes: list[str] = []
    nuclide = nuclide_from_name(_text(sidecar, "TracerRadionuclide"))
    half_life = number_in(sidecar, "RadionuclideHalfLife", positive=True)
    if half_life is None and nuclide:
        half_life = half_life_of(nuclide)
        notes.append(f"RadionuclideHalfLife is missing, {half_life:.1f} s of {nuclide} was used.")
    attenuation = _text(sidecar, "AttenuationCorrection")
    if not attenuation and units == "BQML":
        notes.append("The sidecar does not say whether the image is corrected for attenuation.")
    scan_start = number_in(sidecar, "ScanStart") or 0.0
    times = {key: number_in(sidecar, key) for key in ("InjectionStart", "ImageDecayCorrectionTime")}
    injection, reference = (None if time is None else time - scan_start for time in times.values())
    duration = _first_number(sidecar, "FrameDuration", positive=True)
    decay_correction = _decay_correction(sidecar)
    average_time = None
    if decay_correction == "NONE" and duration is not None and half_life is not None:
        frame_start = _first_number(sidecar, "FrameTimesStart") or 0.0
        average_time = frame_start - scan_start + average_activity_time(duration, half_life)
        notes.append("The image is not corrected for decay; SUV is, from the middle of its frame.")
    header = PETHeader(
        units=units,
        suv_type=suv_type,
        decay_correction=decay_correction,
        patient_weight=number_in(sidecar, "BodyWeight", positive=True),
        patient_height=number_in(sidecar, "BodyHeight", positive=True),
        patient_sex=SEXES.get(_text(sidecar, "Sex").lower(), ""),
        radionuclide=nuclide,
        radiopharmaceutical=_text(sidecar, "TracerName"),
        radionuclide_half_life=half_life,
        injected_dose=_injected_dose(sidecar),
        administration_time=injection,
        reference_time=None if decay_correction == "NONE" else reference,
        frame_duration=duration,
        attenuation_corrected=attenuation.lower() not in {"none", "n/a", "no"},
        manufacturer=_text(sidecar, "Manufacturer"),
        model_name=_text(sidecar, "ManufacturersModelName"),
        reconstruction_method=_text(sidecar, "ReconMethodName"),
    )
    return SidecarHeader(header, unit, average_time, tuple(notes))


def sidecar_of(header: PETHeader, *, suvbw_factor: float | None, provenance: tuple[str, ...]) -> dict[str, Any]:
    """Return the sidecar of a volume in SUVbw; what is not known is left out.

    Parameters
    ----------
    header
        What SUV depends on.
    suvbw_factor
        SUVbw per stored unit of the source, [g/mL] per [Bq/mL], if the source was not SUVbw.
    provenance
        How the volume came about.
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
        "TimeZero": "ScanStart",
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
        "Provenance": list(provenance),
    }
    return {key: value for key, value in entries.items() if value is not None and value != ""}
