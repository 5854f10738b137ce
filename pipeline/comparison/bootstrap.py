"""How sure a difference between two methods is: the bootstrap of what was measured on the same scans."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Interval", "paired_bootstrap"]


@dataclass(frozen=True)
class Interval:
    """A mean and the interval that holds it."""

    mean: float
    """Mean of the differences, in their unit."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""

    @property
    def excludes_zero(self) -> bool:
        """Whether all of the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Mean of first - second and its percentile bootstrap interval (Efron & Tibshirani 1993, ch. 13).

    Both methods were measured on the same scans or lesions, so their differences are resampled. Lesions of one
    patient are not independent: give the patients as `groups` and whole patients are drawn, with all their lesions.
    With few of them the interval is too narrow: of six, a fair nine tenths of 95 % intervals hold the truth.

    Parameters
    ----------
    first, second
        One measure of two methods, shape (n,), in the same order. Pairs with a value that is not finite are left out.
    groups
        What is drawn: the subject of each value; each value for itself if absent.
    level
        Coverage, above 0 and below 1.
    n_resamples
        Number of draws.
    seed
        The same seed gives the same interval.

    Raises
    ------
    ValueError
        Lengths differ, finite pairs belong to fewer than two groups, or the level is out of range.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or (groups is not None and len(groups) != len(a)):
        raise ValueError("paired_bootstrap: first, second and groups must have one length")
    if not 0 < level < 1:
        raise ValueError(f"paired_bootstrap: level must lie between 0 and 1, found {level}")
    finite = np.isfinite(a) & np.isfinite(b)
    difference = (a - b)[finite]
    names = [name for name, kept in zip(range(len(a)) if groups is None else groups, finite, strict=True) if kept]
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    if len(number) < 2:
        raise ValueError("paired_bootstrap: finite pairs of two groups or more are needed")
    member = np.array([number[name] for name in names])
    total, count = np.bincount(member, weights=difference), np.bincount(member)
    drawn = np.random.default_rng(seed).integers(0, len(total), size=(n_resamples, len(total)))
    means = total[drawn].sum(axis=1) / count[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean=float(difference.mean()), low=float(low), high=float(high))
