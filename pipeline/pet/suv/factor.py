"""Standardised uptake values: decay, and the factor from stored quantity to SUVbw.

Sources: QIBA vendor-neutral SUV pseudo-code (2012); DICOM PS3.3 C.8.9.1.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PETError
from pipeline.pet.series import PETHeader
from pipeline.pet.suv.body_size import suvbw_per_suv

__all__ = [
    "average_activity_time",
    "check_units",
    "decay_constant",
    "decay_factor",
    "dose_in_bq",
    "explained_factor",
    "height_in_m",
    "is_plausible_uptake",
    "says_corrected",
    "stored_header",
    "suvbw_factor",
    "suvbw_factor_of",
    "weight_in_kg",
]

LATEST_UPTAKE_HALF_LIVES = 10.0
"""A longer uptake [half-lives] is taken for an error in the times: a thousandth of the dose is left."""

EARLIEST_UPTAKE = -3600.0
"""A shorter uptake [s] is taken for an error: a dynamic scan may start before the administration."""

DOSE_IN_MBQ_BELOW = 1e5
"""A dose below this is not in Bq but in MBq; no patient is given so little."""

LEAST_DOSE_IN_MBQ = 1.0
"""A smaller dose could be in GBq or mCi as well: refused."""

WEIGHT_IN_G_ABOVE = 1000.0
HEIGHT_IN_CM_ABOVE = 3.0

SUV_PER_COUNT, ACTIVITY_PER_COUNT = "Philips SUV factor (7053,1000)", "Philips activity factor (7053,1009)"
"""What a sentence calls the two factors that a vendor states per count."""


def weight_in_kg(weight: float | None, name: str, notes: list[str]) -> float | None:
    """Return a body weight [kg] that may be stated in g; None and 0 are returned as they are.

    As in the other functions here, `name` is what the source calls the quantity, and `notes` gets a sentence if the
    unit was another than the usual one. A weight that is negative or too large for g is a `PETError`.
    """
    if not weight:
        return weight
    if weight < 0:
        raise PETError(f"{name} is {weight:g} kg, expected a positive number")
    if weight > 1000.0 * WEIGHT_IN_G_ABOVE:
        raise PETError(f"{name} is {weight:g}, neither kg nor g")
    if weight > WEIGHT_IN_G_ABOVE:
        notes.append(f"{name} {weight:g} was taken to be in g.")
        weight /= 1000.0
    return weight


def height_in_m(height: float | None, name: str, notes: list[str]) -> float | None:
    """Return a body height [m] that may be stated in cm, or None if it is unknown, 0 or negative."""
    if height is None or height <= 0:
        return None
    if height > HEIGHT_IN_CM_ABOVE:
        notes.append(f"{name} {height:g} was taken to be in cm.")
        height /= 100.0
    return height


def dose_in_bq(dose: float | None, name: str, notes: list[str]) -> float | None:
    """Return an injected activity [Bq] that may be stated in MBq; None and 0 are returned as they are.

    A dose that is too small for MBq is a `PETError`.
    """
    if not dose:
        return dose
    if dose < LEAST_DOSE_IN_MBQ:
        raise PETError(f"{name} is {dose:g}, neither Bq nor MBq")
    if dose < DOSE_IN_MBQ_BELOW:
        notes.append(f"{name} {dose:g} was taken to be in MBq.")
        dose *= 1e6
    return dose


def decay_constant(half_life: float) -> float:
    """Return lambda = ln 2 / T_half [1/s] for a half-life [s]; one that is not positive is a `PETError`."""
    if not (math.isfinite(half_life) and half_life > 0):
        raise PETError(f"half-life is {half_life} s, expected a positive number")
    return math.log(2.0) / half_life


def decay_factor(elapsed: float, half_life: float) -> float:
    """Return the fraction of the activity that is left after a time [s], 2^(-elapsed / T_half), with T_half in s.

    Negative times give factors above 1.
    """
    return math.exp(-decay_constant(half_life) * elapsed)


def average_activity_time(frame_duration: float, half_life: float) -> float:
    """Return when, within a frame of duration T [s], the activity equals its average over the frame [s].

    T_ave = ln(lambda T / (1 - exp(-lambda T))) / lambda (QIBA pseudo-code, 2012), with the half-life in s.
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


def is_plausible_uptake(uptake: float, half_life: float | None) -> bool:
    """Return whether so much time [s] may lie between administration and reference time for a half-life [s]."""
    longest = math.inf if half_life is None else LATEST_UPTAKE_HALF_LIVES * half_life
    return EARLIEST_UPTAKE <= uptake <= longest


def _remaining_at_reference(header: PETHeader) -> float:
    half_life = header.radionuclide_half_life
    if half_life is None:
        raise PETError("RadionuclideHalfLife is missing, SUV cannot be computed")
    if header.administration_time is None or header.reference_time is None:
        raise PETError("time from administration to reference is unknown, SUV cannot be computed")
    uptake = header.reference_time - header.administration_time
    if not is_plausible_uptake(uptake, half_life):
        if uptake < 0:
            raise PETError(f"administration is {-uptake:.0f} s after the reference time, SUV cannot be computed")
        left = decay_factor(uptake, half_life)
        raise PETError(f"uptake of {uptake:.0f} s leaves {left:.1e} of the dose, SUV cannot be computed")
    return decay_factor(uptake, half_life)


def _factor_from_activity(header: PETHeader) -> float:
    if header.decay_correction not in {"START", "NONE", "ADMIN"}:
        raise PETError(f"DecayCorrection is {header.decay_correction or 'missing'}, expected START or NONE or ADMIN")
    quantities = {"PatientWeight": header.patient_weight, "RadionuclideTotalDose": header.injected_dose}
    for name, value in quantities.items():
        if not value:
            raise PETError(f"{name} is {'missing' if value is None else '0'}, SUV cannot be computed")
    return suvbw_factor(
        patient_weight=header.patient_weight or 0.0,
        injected_dose=header.injected_dose or 0.0,
        # Without correction, the reference time is the moment of average activity of each slice's own frame.
        remaining_fraction=1.0 if header.decay_correction == "ADMIN" else _remaining_at_reference(header),
    )


def _factor_from_counts(header: PETHeader) -> float:
    if header.suv_per_count is not None:
        return header.suv_per_count
    if header.activity_per_count is not None:
        return header.activity_per_count * _factor_from_activity(header)
    raise PETError("Units is CNTS without the vendor's SUV or activity factor, SUV cannot be computed")


def _factor_from_suv(header: PETHeader) -> float:
    return 1.0 if header.suv_type in {"", "BW"} else suvbw_per_suv(header, header.suv_type)


def _factor_from_suv_by_area(header: PETHeader) -> float:
    if header.suv_type not in {"", "BSA"}:
        raise PETError(f"Units is CM2ML with SUVType {header.suv_type}, expected BSA")
    return suvbw_per_suv(header, "BSA")


UNITS: dict[str, Callable[[PETHeader], float]] = {
    "BQML": _factor_from_activity,
    "CNTS": _factor_from_counts,
    "GML": _factor_from_suv,
    "CM2ML": _factor_from_suv_by_area,
}
"""For each Units: header -> SUVbw per unit of the stored quantity."""

REFUSED_UNITS: dict[str, str] = {
    "CPS": "counts per second are not calibrated, SUV cannot be computed",
    "PROPCNTS": "values proportional to counts are not calibrated, SUV cannot be computed",
    "PROPCPS": "values proportional to counts per second are not calibrated, SUV cannot be computed",
    "1CM": "attenuation coefficients are not an uptake, SUV cannot be computed",
    "PCNT": "a percentage is not an activity concentration, SUV cannot be computed",
}
"""Units that DICOM defines and that are refused, with the reason."""


def check_units(units: str) -> None:
    """Refuse Units from which SUVbw cannot be computed, with the reason (`PETError`)."""
    if units in REFUSED_UNITS:
        raise PETError(f"Units is {units}, {REFUSED_UNITS[units]}")
    if units not in UNITS:
        raise PETError(f"Units is {units or 'missing'}, expected {' or '.join(UNITS)}")


def suvbw_factor_of(header: PETHeader) -> float:
    """Return SUVbw per unit of the quantity that a series stores, [g/mL] per [`header.units`].

    Parameters
    ----------
    header
        What SUV depends on. Without decay correction, `reference_time` is the moment of average activity of one
        slice's frame, and the factor is that slice's.

    Raises
    ------
    PETError
        If the units or the decay correction are not supported, an attribute that SUV needs is missing or
        impossible, or the image is not corrected for attenuation.
    """
    if not header.attenuation_corrected:
        raise PETError("image is not corrected for attenuation, SUV cannot be computed")
    check_units(header.units)
    return UNITS[header.units](header)


def stored_header(header: PETHeader, *, units: str = "BQML") -> PETHeader:
    """Return the header of the same series when it is stored in decay-corrected Bq/mL, or in SUVbw (Units GML).

    A series without decay correction, or that does not say, is then corrected to the start of its acquisition.
    """
    if header.decay_correction not in {"START", "ADMIN"}:
        header = replace(header, decay_correction="START", reference_time=header.reference_time or 0.0)
    suv_type = "BW" if units == "GML" else ""
    return replace(header, units=units, suv_type=suv_type, suv_per_count=None, activity_per_count=None)


_UNKNOWN = {"", "n/a", "na", "unknown", "unspecified", "not applicable", "[]"}
_UNCORRECTED = re.compile(
    r"(no|none|not|nac|non[- ]?corrected|without|false|0|off)\b|.*\b(uncorrected|not (attenuation )?corrected)\b"
)
"""How words on an attenuation correction begin, in lower case, or what they say, where none was made."""


def says_corrected(words: str) -> bool | None:
    """Return whether words say that an image is corrected for attenuation; None if they say nothing.

    They are AttenuationCorrectionMethod (0054,1101) of DICOM, or AttenuationCorrection of PET-BIDS.
    """
    words = words.strip().lower()
    return None if words in _UNKNOWN else _UNCORRECTED.match(words) is None


STORED = {"BQML": "Bq/mL", "CNTS": "count", "GML": "g/mL", "CM2ML": "cm2/mL"}
"""For each Units: one unit of the stored quantity in a sentence."""

_LEAN_BODY_MASS = "James's formula with Morgan's 120 for men, as DICOM defines LBM (128 is SUVType LBMJAMES128)"


def explained_factor(
    header: PETHeader, factors: NDArray[np.float64], *, stated: float | None, per_count: Sequence[float | None]
) -> list[str]:
    """Return the sentence that says where a factor comes from, and one for every other way to it.

    `factors` has SUVbw per stored unit of each slice. `stated` is SUVbw per Bq/mL that a multi-frame image states, if
    it does; `per_count` is SUVbw, and Bq/mL, per count that the vendor states, whatever the Units.
    """
    suv_per_count, activity_per_count = per_count
    lowest, highest = f"{factors.min():.6e}", f"{factors.max():.6e}"
    value = lowest if lowest == highest else f"{lowest} to {highest}, slice by slice,"
    rule = f"SUVbw factor {value} g/mL per {STORED[header.units]}, from {_origin(header)}."
    candidates = []
    if header.units == "GML" and header.suv_type == "LBM":
        candidates.append(("SUVType LBMJAMES128", suvbw_per_suv(header, "LBMJAMES128")))
    if header.units == "BQML" and stated is not None:
        candidates.append(("RealWorldValueMapping to SUVbw", stated))
    if suv_per_count is not None and activity_per_count is not None:
        if header.units == "BQML":
            candidates.append((f"{SUV_PER_COUNT} / {ACTIVITY_PER_COUNT}", suv_per_count / activity_per_count))
        if header.units == "CNTS" and header.decay_correction in {"START", "ADMIN"}:
            try:
                candidates.append((ACTIVITY_PER_COUNT, activity_per_count * suvbw_factor_of(stored_header(header))))
            except PETError as error:
                return [rule, f"{ACTIVITY_PER_COUNT} gives no other factor: {error}."]
    return [rule] + [
        f"Another candidate, {name}, gives a factor of {other:.6e}, {100 * (other / factors[0] - 1):+.2f} % from it."
        for name, other in candidates
    ]


def _origin(header: PETHeader) -> str:
    suv_type = header.suv_type or "BW"
    if header.units == "CNTS":
        return SUV_PER_COUNT if header.suv_per_count is not None else ACTIVITY_PER_COUNT
    if header.units == "CM2ML":
        return "weight and body surface area by Du Bois"
    if header.units == "GML" and suv_type == "BW":
        return "values are SUVbw already" if header.suv_type else "SUVType is empty, which means body weight"
    if header.units == "GML":
        return f"weight and {_LEAN_BODY_MASS}" if suv_type == "LBM" else f"weight and body size of SUVType {suv_type}"
    return "weight, dose and decay"
