"""Lower doses from the same counts: binomial thinning, nested from dose to dose."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from pipeline.errors import PETError
from pipeline.simulation.scanner.acquisition import Acquisition

__all__ = [
    "DOSE_MODES",
    "LARGEST_FACTOR",
    "DoseMode",
    "at_dose",
    "check_dose_mode",
    "check_dose_reduction_factors",
    "dose_entity",
    "dose_from_entity",
    "nested_doses",
    "thin",
    "thin_to_dose",
]

DoseMode = Literal["shorter_scan", "less_activity"]
"""How a dose is reduced by d. A scan d times shorter records 1/d of everything; d times less activity gives 1/d of
the trues and scatter, but 1/d^2 of the randoms."""

DOSE_MODES: tuple[str, ...] = get_args(DoseMode)
"""The names of both modes."""

LARGEST_FACTOR = 200.0
"""Beyond this a scan of usual counts has too few to reconstruct anything from."""

_ENTITY = re.compile(r"drf(\d{3,})(?:p(\d+))?")


def check_dose_mode(mode: str) -> None:
    """Raise a PETError for what is no `DoseMode`."""
    if mode not in DOSE_MODES:
        raise PETError(f"dose mode is {mode!r}, expected one of {', '.join(DOSE_MODES)}")


def check_dose_reduction_factors(factors: Sequence[float]) -> tuple[float, ...]:
    """Sort the factors; all must be above 1, at most `LARGEST_FACTOR`, and different.

    Raises
    ------
    PETError
        If one is not.
    """
    ordered = tuple(sorted(float(f) for f in factors))
    if not all(1 < f <= LARGEST_FACTOR for f in ordered) or len(set(ordered)) != len(ordered):
        raise PETError(
            f"dose reduction factors {tuple(factors)}, expected different numbers above 1 and up to {LARGEST_FACTOR:g}"
        )
    return ordered


def dose_entity(factor: float) -> str:
    """Write a factor as a part of a file's name in letters and digits, as BIDS wants: drf004, drf007p5 for 7.5."""
    whole, _, decimals = repr(float(factor)).partition(".")
    return f"drf{int(whole):03d}" + (f"p{decimals}" if decimals != "0" else "")


def dose_from_entity(entity: str) -> float | None:
    """Read a factor that `dose_entity` wrote; None for anything else."""
    match = _ENTITY.fullmatch(entity)
    return float(f"{match[1]}.{match[2] or 0}") if match else None


def thin(counts: np.ndarray, fraction: float | np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Keep each count with a probability: what a smaller dose would have recorded.

    If counts ~ Poisson(m), then the result ~ Poisson(fraction * m), and it is a part of the very same
    counts: cov(low, full) = var(low). Thinning 4-fold and then 2.5-fold is thinning 10-fold.

    `counts` are non-negative integers of any shape. `fraction`, above 0 and up to 1, is one number or one for each
    element. The result has the shape and type of `counts`, and is nowhere larger.

    Raises
    ------
    PETError
        If a fraction is out of range or the counts are not integers.
    """
    fraction = np.asarray(fraction)
    if not np.issubdtype(counts.dtype, np.integer):
        raise PETError(f"counts are {counts.dtype}, expected integers")
    if fraction.ndim and fraction.shape != counts.shape:
        raise PETError(f"fractions of shape {fraction.shape} for counts of shape {counts.shape}, expected the same")
    if not (fraction.min() > 0 and fraction.max() <= 1):
        raise PETError(
            f"fraction of counts to keep is {fraction.min():g} to {fraction.max():g}, expected above 0 and up to 1"
        )
    if fraction.min() == 1:
        return counts.copy()
    kept = np.zeros_like(counts)
    occupied = np.nonzero(counts)
    kept[occupied] = rng.binomial(counts[occupied], fraction[occupied] if fraction.ndim else fraction)
    return kept


def at_dose(acquisition: Acquisition, factor: float, *, mode: DoseMode) -> Acquisition:
    """Return what the scan records on average at a dose reduction factor, in units of a scale `factor` times smaller.

    A shorter scan differs from the full one by the scale alone.
    """
    return acquisition if mode == "shorter_scan" else acquisition.with_activity(1 / factor)


def thin_to_dose(
    counts: list[np.ndarray],
    acquisition: Acquisition,
    *,
    previous: float,
    factor: float,
    mode: DoseMode,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """Thin counts of one dose reduction factor to a higher one.

    Each element keeps the ratio of what is expected of it at the two doses. With less activity that is
    (trues + scatter + randoms / d) / d over the same with the previous d: elements of many randoms lose most.

    `counts` has one array per subset; `acquisition` is the expectation at full dose, whose factor is 1. `factor` is not
    smaller than `previous`.
    """
    if mode == "shorter_scan":
        return [thin(c, previous / factor, rng) for c in counts]
    before, after = (at_dose(acquisition, d, mode=mode) for d in (previous, factor))
    thinned = []
    for k, recorded in enumerate(counts):
        fraction = np.full(recorded.shape, previous / factor)
        # Where nothing is expected nothing was recorded, and any fraction will do.
        expected = before.expected(k)
        np.divide(after.expected(k), expected, out=fraction, where=expected > 0)
        fraction[expected > 0] *= previous / factor
        thinned.append(thin(recorded, fraction, rng))
    return thinned


def nested_doses(
    counts: list[np.ndarray],
    acquisition: Acquisition,
    factors: Mapping[float, np.random.Generator],
    *,
    mode: DoseMode = "shorter_scan",
) -> Iterator[tuple[float, list[np.ndarray]]]:
    """Yield rising dose reduction factors and their counts, each a part of those of the factor before.

    `counts` are those of full dose; each factor draws from its own generator. See `thin_to_dose`.
    """
    previous = 1.0
    for factor in sorted(factors):
        counts = thin_to_dose(counts, acquisition, previous=previous, factor=factor, mode=mode, rng=factors[factor])
        previous = factor
        yield factor, counts
