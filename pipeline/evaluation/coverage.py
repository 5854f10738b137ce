"""Whether stated intervals hold the truth as often as they say: coverage, miscalibration, and factors that mend it.

The central interval of a level p around a result is result +- k_p SD. With a known SD of Gaussian errors, k_p is the
normal quantile of (1 + p) / 2. With the SD of K draws around their mean, the truth being one more draw, it is that of
Student's t with K - 1 degrees of freedom times sqrt(1 + 1/K), which is much wider where K is small.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from pipeline.errors import UndefinedMeasureError

__all__ = [
    "NOMINAL_LEVELS",
    "coverage",
    "half_width",
    "mean_and_sd",
    "miscalibration_area",
    "region_means",
    "scale_factor",
    "standardised_errors",
]

NOMINAL_LEVELS = (0.50, 0.68, 0.90, 0.95)
"""Probabilities that intervals are stated at."""


def standardised_errors(
    result: ArrayLike, sd: ArrayLike, truth: ArrayLike, *, mask: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Return |truth - result| / SD, shape (n,): one value a voxel, or a region.

    All have one shape and unit, SUV [g/mL]; `mask` is where to look, everywhere if None. Where the SD is 0 the value is
    infinite, or 0 where the result is the truth.

    Raises
    ------
    ValueError
        Shapes differ.
    UndefinedMeasureError
        Nothing is in the mask, an SD is negative, or a value is not a number.
    """
    x, s, y = (np.asarray(a) for a in (result, sd, truth))
    if not x.shape == s.shape == y.shape or (mask is not None and mask.shape != x.shape):
        raise ValueError(f"standardised_errors: shapes {x.shape}, {s.shape}, {y.shape} and mask must be one")
    chosen = slice(None) if mask is None else mask
    x, s, y = (np.atleast_1d(a[chosen]).ravel().astype(np.float64) for a in (x, s, y))
    if not x.size:
        raise UndefinedMeasureError("coverage needs a voxel or a region at least")
    error = np.abs(y - x)
    if (s < 0).any() or not (np.isfinite(s).all() and np.isfinite(error).all()):
        raise UndefinedMeasureError("coverage needs finite values and standard deviations that are not negative")
    return np.divide(error, s, out=np.where(error > 0, np.inf, 0.0), where=s > 0)


def half_width(level: float | NDArray[np.float64], *, n_draws: int | None = None) -> NDArray[np.float64]:
    """Return k_p, the half width of the central interval of a level p in units of the SD, see the module.

    `n_draws` is the number K of draws whose mean and SD are stated, at least 2; None where the SD is known.

    Raises
    ------
    ValueError
        A level is not from 0 to 1, or there are fewer than two draws.
    """
    p = np.asarray(level, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"half_width: level {level}, expected 0 to 1")
    if n_draws is None:
        return ndtri((1 + p) / 2)
    _check_draws(n_draws)
    return np.sqrt(1 + 1 / n_draws) * stdtrit(n_draws - 1, (1 + p) / 2)


def coverage(
    errors: NDArray[np.float64],
    levels: Iterable[float] = NOMINAL_LEVELS,
    *,
    factor: float = 1.0,
    n_draws: int | None = None,
) -> dict[float, float]:
    """Return the part of the intervals that hold the truth, by nominal level, 0 to 1.

    `errors` are those of `standardised_errors`. `factor` multiplies every SD. With many `levels` this is the
    calibration curve. `n_draws` is that of `half_width`.
    """
    return {p: float(np.mean(errors <= factor * half_width(p, n_draws=n_draws))) for p in levels}


def miscalibration_area(errors: NDArray[np.float64], *, factor: float = 1.0, n_draws: int | None = None) -> float:
    """Return the area between the calibration curve and the diagonal: 0 is calibrated, 0.5 the worst there is.

    It is the integral of |coverage(p) - p| over the nominal level p (Kuleshov 2018, ICML, with central intervals), here
    as the mean distance of the sorted levels at which the truth is just held from evenly spaced ones, which is the same
    up to 1 / (4 n). Arguments are those of `coverage`.
    """
    k = errors / factor
    if n_draws is None:
        held_at = 2 * ndtr(k) - 1
    else:
        _check_draws(n_draws)
        held_at = 2 * stdtr(n_draws - 1, k / np.sqrt(1 + 1 / n_draws)) - 1
    even = (np.arange(held_at.size) + 0.5) / held_at.size
    return float(np.mean(np.abs(np.sort(held_at) - even)))


def scale_factor(errors: NDArray[np.float64], *, level: float = 0.68, n_draws: int | None = None) -> float:
    """Return what every SD must be multiplied by for intervals of a level to hold the truth as often as they say.

    It is the ceil((n + 1) p)-th smallest error over `half_width`, so that on exchangeable data intervals of this level
    hold the truth at least so often, whatever the errors' distribution (split conformal prediction, Lei 2018, J Am Stat
    Assoc 113:1094). One factor for all levels is enough if errors are as the SD says but for a scale; else take one for
    each level. Fit it on other subjects than it is judged on: the voxels of one scan are not exchangeable with those of
    another, and what it gives there has to be measured.

    Raises
    ------
    ValueError
        The level is not between 0 and 1.
    UndefinedMeasureError
        There are too few errors for the level, or the factor is not finite.
    """
    if not 0 < level < 1:
        raise ValueError(f"scale_factor: level {level}, expected between 0 and 1")
    rank = int(np.ceil((errors.size + 1) * level))
    if rank > errors.size:
        raise UndefinedMeasureError(f"a factor of level {level:g} needs more than {errors.size} errors")
    factor = float(np.partition(errors, rank - 1)[rank - 1] / half_width(level, n_draws=n_draws))
    if not np.isfinite(factor):
        raise UndefinedMeasureError(f"no factor makes intervals of SD 0 hold the truth at level {level:g}")
    return factor


def mean_and_sd(draws: Sequence[ArrayLike]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and the standard deviation of draws of one shape, with n - 1 in the denominator.

    Of a region's mean, give the `region_means` of every draw: the SD of a mean is not the mean of the SD.

    Raises
    ------
    ValueError
        There are fewer than two.
    """
    _check_draws(len(draws))
    mean = np.zeros(np.shape(draws[0]))
    squares = np.zeros_like(mean)
    for n, values in enumerate(draws, start=1):  # Welford 1962, Technometrics 4:419
        draw = np.asarray(values, dtype=np.float64)
        change = draw - mean
        mean += change / n
        squares += change * (draw - mean)
    return mean, np.sqrt(squares / (len(draws) - 1))


def region_means(image: ArrayLike, labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the mean of an image in each of the regions 1..n, in order; both of shape (X, Y, Z), 0 is outside.

    Raises
    ------
    ValueError
        Shapes differ.
    UndefinedMeasureError
        A label up to the largest has no voxel.
    """
    values = np.asarray(image)
    if values.shape != labels.shape:
        raise ValueError(f"region_means: shapes {values.shape} and {labels.shape} differ")
    inside = labels > 0
    counts = np.bincount(labels[inside])[1:]
    if not counts.all():
        raise UndefinedMeasureError("a region has no voxel, expected labels 1..n")
    return np.bincount(labels[inside], weights=values[inside].astype(np.float64))[1:] / counts


def _check_draws(n: int) -> None:
    if n < 2:
        raise ValueError(f"{n} draws, expected at least 2: one has no spread")
