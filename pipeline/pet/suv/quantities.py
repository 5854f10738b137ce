"""Weight, height and dose in the units that SUV is computed with, whatever unit a source wrote them in."""

from pipeline.errors import PETError

__all__ = ["dose_in_bq", "height_in_m", "weight_in_kg"]

DOSE_IN_MBQ_BELOW = 1e5
"""A dose below this is not in Bq but in MBq; no patient is given so little."""

LEAST_DOSE_IN_MBQ = 1.0
"""A smaller dose could be in GBq or mCi as well: refused."""

WEIGHT_IN_G_ABOVE = 1000.0
HEIGHT_IN_CM_ABOVE = 3.0


def weight_in_kg(weight: float | None, name: str, notes: list[str]) -> float | None:
    """Return a body weight [kg] that may be stated in g; None and 0 are returned as they are.

    As in the other functions here, `name` is what the source calls the quantity, and `notes` gets a sentence if the
    unit was another than the usual one.

    Raises
    ------
    PETError
        If it is negative, or too large for g.
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

    Raises
    ------
    PETError
        If it is too small for MBq.
    """
    if not dose:
        return dose
    if dose < LEAST_DOSE_IN_MBQ:
        raise PETError(f"{name} is {dose:g}, neither Bq nor MBq")
    if dose < DOSE_IN_MBQ_BELOW:
        notes.append(f"{name} {dose:g} was taken to be in MBq.")
        dose *= 1e6
    return dose
