"""SUV by lean body mass, body surface area and ideal body weight: body-size formulas and conversion from SUVbw.

An SUV by another measure of body size is SUVbw x measure / weight. Formulas for a patient whose sex is neither
male nor female are the mean of both (IBSI-SUV manual). Sources: James, Research on Obesity (1976); Morgan and
Bray, J Nucl Med 35 (1994); Janmahasatian et al., Clin Pharmacokinet 44 (2005); Du Bois and Du Bois, Arch Intern
Med 17 (1916); Sugawara et al., Radiology 213 (1999) for the ideal body weight; DICOM PS3.3 C.8.9.1, SUVType.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PETError
from pipeline.pet.series import PETHeader, PETSeries

__all__ = ["BODY_SIZES", "body_size", "suv_by_body_size", "suvbw_per_suv"]

HEIGHTS = (0.3, 2.6)
"""Body heights [m] outside of this range are taken for an error."""


def _by_sex(sex: str, *, male: float, female: float) -> float:
    return {"M": male, "F": female}.get(sex.strip().upper(), (male + female) / 2)


def _lean_mass_by_james(weight: float, height: float, sex: str, *, male_factor: float) -> float:
    leanness = (weight / (100.0 * height)) ** 2
    return _by_sex(sex, male=1.10 * weight - male_factor * leanness, female=1.07 * weight - 148.0 * leanness)


def _lean_mass_by_janmahasatian(weight: float, height: float, sex: str) -> float:
    index = weight / height**2
    male, female = (9270.0 * weight / (fixed + rise * index) for fixed, rise in ((6680.0, 216.0), (8780.0, 244.0)))
    return _by_sex(sex, male=male, female=female)


def _ideal_weight(weight: float, height: float, sex: str) -> float:
    above = 100.0 * height - 152.0
    return _by_sex(sex, male=48.0 + 1.06 * above, female=45.5 + 0.91 * above)


def _surface(weight: float, height: float, sex: str) -> float:
    """Return the body surface area by Du Bois [10^3 cm^2]; the product of the powers alone is in m^2."""
    return 10.0 * (0.007184 * weight**0.425 * (100.0 * height) ** 0.725)


BODY_SIZES: dict[str, Callable[[float, float, str], float]] = {
    "BW": lambda weight, height, sex: weight,
    # DICOM's LBM is James's formula as Morgan printed it, with 120 instead of 128 for men (PS3.16, code 126402).
    "LBM": partial(_lean_mass_by_james, male_factor=120.0),
    "LBMJAMES128": partial(_lean_mass_by_james, male_factor=128.0),
    "LBMJANMA": _lean_mass_by_janmahasatian,
    "IBW": _ideal_weight,
    "BSA": _surface,
}
"""For each SUVType of DICOM (0054,1006): weight [kg], height [m], sex -> what takes the place of the weight [kg],
for BSA [10^3 cm^2], so that SUVbsa comes out in cm^2/mL."""


def body_size(suv_type: str, *, weight: float | None, height: float | None, sex: str) -> float:
    """Return what takes the place of the weight in an SUV of another type [kg], for BSA [10^3 cm^2].

    `suv_type` is a key of `BODY_SIZES`, `weight` is in kg, `height` in m, and `sex` is ``"M"``, ``"F"``, or anything
    else for the mean of both.

    Raises
    ------
    PETError
        If the type is unknown, weight or height is missing or impossible, or the formula gives nothing positive.
    """
    if suv_type not in BODY_SIZES:
        raise PETError(f"SUVType is {suv_type}, expected one of {', '.join(BODY_SIZES)}")
    if not weight or weight < 0:
        found = "missing" if weight is None else f"{weight:g} kg"
        raise PETError(f"PatientWeight is {found}, SUV of type {suv_type} cannot be computed")
    if suv_type == "BW":
        return weight
    if height is None or not HEIGHTS[0] <= height <= HEIGHTS[1]:
        found = "missing" if height is None else f"{height:g} m"
        raise PETError(f"PatientSize is {found}, SUV of type {suv_type} cannot be computed")
    size = BODY_SIZES[suv_type](weight, height, sex)
    if size <= 0:
        raise PETError(f"{suv_type} of {weight:g} kg at {height:g} m is {size:.1f}, the formula does not hold there")
    return size


def suvbw_per_suv(header: PETHeader, suv_type: str) -> float:
    """Return SUVbw per SUV of another type, weight / body size, [g/mL] per [g/mL], for BSA per [cm^2/mL].

    Raises
    ------
    PETError
        If the type is unknown, or the header lacks weight or height.
    """
    size = body_size(suv_type, weight=header.patient_weight, height=header.patient_height, sex=header.patient_sex)
    return (header.patient_weight or 0.0) / size


def suv_by_body_size(series: PETSeries, suv_type: str) -> NDArray[np.float32]:
    """Return the volume of a series in SUV of another type. Shape (X, Y, Z).

    Parameters
    ----------
    series
        The volume, with weight, height and sex in its header.
    suv_type
        DICOM's SUVType: ``"LBM"`` (James, Morgan's 120), ``"LBMJAMES128"``, ``"LBMJANMA"``, ``"IBW"`` [g/mL],
        or ``"BSA"`` [cm^2/mL].

    Raises
    ------
    PETError
        If the type is unknown, or the header lacks weight or height.
    """
    return series.suv / np.float32(suvbw_per_suv(series.header, suv_type))
