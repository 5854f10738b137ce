"""Standardised uptake values: decay, and the factor from stored quantity to SUVbw.

Sources: QIBA vendor-neutral SUV pseudo-code (2012); DICOM PS3.3 C.8.9.1.
"""

import math
from collections.abc import Callable

from pipeline.pet.errors import PETError
from pipeline.pet.header import PETHeader

__all__ = ["average_activity_time", "decay_constant", "decay_factor", "suvbw_factor", "suvbw_factor_of"]

MIN_ACTIVITY_FRACTION = 2.0**-60
"""Smaller fractions of the dose left at the reference time are taken for an error in the times."""


def decay_constant(half_life: float) -> float:
    """Return lambda = ln 2 / T_half [1/s] for a half-life [s].

    Raises
    ------
    PETError
        If the half-life is not a positive number.
    """
    if not (math.isfinite(half_life) and half_life > 0):
        raise PETError(f"half-life is {half_life} s, expected a positive number")
    return math.log(2.0) / half_life


def decay_factor(elapsed: float, half_life: float) -> float:
    """Return the fraction of the activity that is left, 2^(-elapsed / T_half).

    Parameters
    ----------
    elapsed
        Time [s]; negative times give factors above 1.
    half_life
        Half-life [s].
    """
    return math.exp(-decay_constant(half_life) * elapsed)


def average_activity_time(frame_duration: float, half_life: float) -> float:
    """Return when, within a frame, the activity equals its average over the frame [s].

    T_ave = ln(lambda T / (1 - exp(-lambda T))) / lambda (QIBA pseudo-code, 2012).

    Parameters
    ----------
    frame_duration
        T, duration of the frame [s].
    half_life
        Half-life [s].
    """
    decay = decay_constant(half_life)
    exponent = decay * frame_duration
    if exponent == 0:
        return 0.0
    return math.log(exponent / -math.expm1(-exponent)) / decay


def suvbw_factor(*, patient_weight: float, injected_dose: float, remaining_fraction: float = 1.0) -> float:
    """Return SUVbw per activity concentration, weight[g] / (dose x remaining fraction) [(g/mL) / (Bq/mL)].

    Parameters
    ----------
    patient_weight
        Body weight [kg].
    injected_dose
        Activity at the administration [Bq].
    remaining_fraction
        Fraction of it left at the time to which the voxels are decay-corrected.

    Raises
    ------
    PETError
        If a quantity is not a positive number.
    """
    quantities = {
        "body weight [kg]": patient_weight,
        "injected dose [Bq]": injected_dose,
        "remaining fraction of the dose": remaining_fraction,
    }
    for name, value in quantities.items():
        if not (math.isfinite(value) and value > 0):
            raise PETError(f"{name} is {value}, expected a positive number, SUV cannot be computed")
    return 1000.0 * patient_weight / (injected_dose * remaining_fraction)


def _remaining_at_start(header: PETHeader) -> float:
    if header.radionuclide_half_life is None:
        raise PETError("RadionuclideHalfLife is missing, SUV cannot be computed")
    if header.uptake_time is None:
        raise PETError("time from administration to reference is unknown, SUV cannot be computed")
    fraction = decay_factor(header.uptake_time, header.radionuclide_half_life)
    if not MIN_ACTIVITY_FRACTION < fraction < 1 / MIN_ACTIVITY_FRACTION:
        raise PETError(f"uptake of {header.uptake_time:.0f} s leaves {fraction:.1e} of the dose")
    return fraction


def _remaining_at_administration(header: PETHeader) -> float:
    return 1.0


def _factor_from_activity(header: PETHeader) -> float:
    if header.decay_correction in REFUSED_DECAY_CORRECTIONS:
        reason = REFUSED_DECAY_CORRECTIONS[header.decay_correction]
        raise PETError(f"DecayCorrection is {header.decay_correction}, {reason}")
    if header.decay_correction not in DECAY_CORRECTIONS:
        found = header.decay_correction or "missing"
        raise PETError(f"DecayCorrection is {found}, expected {' or '.join(DECAY_CORRECTIONS)}")
    if not header.patient_weight:
        raise PETError("PatientWeight is missing or 0, SUV cannot be computed")
    if not header.injected_dose:
        raise PETError("RadionuclideTotalDose is missing or 0, SUV cannot be computed")
    return suvbw_factor(
        patient_weight=header.patient_weight,
        injected_dose=header.injected_dose,
        remaining_fraction=DECAY_CORRECTIONS[header.decay_correction](header),
    )


DECAY_CORRECTIONS: dict[str, Callable[[PETHeader], float]] = {
    "START": _remaining_at_start,
    "ADMIN": _remaining_at_administration,
}
"""For each DecayCorrection: header -> fraction of the dose left at the time the voxels are corrected to."""

REFUSED_DECAY_CORRECTIONS: dict[str, str] = {
    "NONE": "SUV of an image without decay correction is not supported",
}
"""Decay corrections that DICOM defines and that are refused, with the reason."""

UNITS: dict[str, Callable[[PETHeader], float]] = {
    "BQML": _factor_from_activity,
}
"""For each Units: header -> SUVbw per unit of the stored quantity."""

REFUSED_UNITS: dict[str, str] = {
    "CNTS": "SUV from counts and a vendor's private factor is not supported",
    "GML": "SUV of a series in g/mL, of whichever SUVType, is not supported",
    "CM2ML": "SUV of a series in cm2/mL (body surface area) is not supported",
    "CPS": "counts per second are not calibrated, SUV cannot be computed",
    "PROPCNTS": "values proportional to counts are not calibrated, SUV cannot be computed",
    "PROPCPS": "values proportional to counts per second are not calibrated, SUV cannot be computed",
    "1CM": "attenuation coefficients are not an uptake, SUV cannot be computed",
    "PCNT": "a percentage is not an activity concentration, SUV cannot be computed",
}
"""Units that DICOM defines and that are refused, with the reason."""


def suvbw_factor_of(header: PETHeader) -> float:
    """Return SUVbw per unit of the quantity that a series stores, [g/mL] per [`header.units`].

    Raises
    ------
    PETError
        If the units or the decay correction are not supported, an attribute that SUV needs is missing, or the
        image is not corrected for attenuation.
    """
    if not header.attenuation_corrected:
        raise PETError("image is not corrected for attenuation, SUV cannot be computed")
    if header.units in REFUSED_UNITS:
        raise PETError(f"Units is {header.units}, {REFUSED_UNITS[header.units]}")
    if header.units not in UNITS:
        raise PETError(f"Units is {header.units or 'missing'}, expected {' or '.join(UNITS)}")
    return UNITS[header.units](header)
