"""Train, validation and test by patient: a patient's part follows from the seed and the patient's name alone."""

import hashlib
import math
from collections.abc import Sequence

from pipeline.data.manifest import Split
from pipeline.errors import PETError

__all__ = ["check_fractions", "split_of"]

_PARTS: tuple[Split, Split, Split] = ("train", "validation", "test")


def check_fractions(fractions: Sequence[float]) -> tuple[float, float, float]:
    """Check the fractions of train, validation and test.

    Raises
    ------
    PETError
        If they are not three numbers from 0 to 1 whose sum is 1.
    """
    values = tuple(float(f) for f in fractions)
    if len(values) != 3 or not all(0 <= f <= 1 for f in values) or not math.isclose(sum(values), 1, abs_tol=1e-6):
        found = ", ".join(f"{f:g}" for f in values)
        raise PETError(f"fractions of the splits are {found}, expected three from 0 to 1 whose sum is 1")
    return values[0], values[1], values[2]


def split_of(patient: str, *, seed: int, fractions: Sequence[float] = (0.8, 0.1, 0.1)) -> Split:
    """Return the part that a patient belongs to.

    A hash of seed and name is compared with the fractions of train, validation and test, so that adding or removing
    patients moves nobody else. The parts therefore have the wanted sizes on average only: of 50 patients at 10 %, 5
    give or take 2.

    Raises
    ------
    PETError
        If the fractions are not usable.
    """
    limits = check_fractions(fractions)
    digest = hashlib.sha256(f"{seed}\n{patient}".encode()).digest()
    # 53 bits are what a float holds exactly.
    draw = (int.from_bytes(digest[:8], "big") >> 11) / 2**53
    for part, limit in zip(_PARTS[:2], (limits[0], limits[0] + limits[1]), strict=True):
        if draw < limit:
            return part
    # Rounding of the sum must not put anybody into a part that is to stay empty.
    return "test" if limits[2] > 0 else next(p for p, f in zip(_PARTS[1::-1], limits[1::-1], strict=True) if f > 0)
