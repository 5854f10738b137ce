"""Doses between those that were acquired or simulated: mixtures of a low dose and the full dose."""

from collections.abc import Iterable
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["mix_doses", "mixing_weight", "nearest_dose"]

Values = TypeVar("Values", NDArray[np.float32], torch.Tensor)


def mix_doses(low: Values, full: Values, *, low_factor: float, factor: float) -> Values:
    """Return an image with the second-order noise statistics of a dose reduction factor between 1 and ``low_factor``.

    a low + (1 - a) full, with a the `mixing_weight`.
    """
    a = mixing_weight(low_factor, factor)
    return a * low + (1 - a) * full


def mixing_weight(low_factor: float, factor: float) -> float:
    """Return the part of an image of ``low_factor`` in the mixture with the full dose that has the noise of a factor.

    sqrt((d - 1) / (D - 1)): for nested counts cov(low, full) is the variance v of full, so the mixture's variance is
    v (1 + a^2 (D - 1)) = v d.
    """
    return ((factor - 1) / (low_factor - 1)) ** 0.5


def nearest_dose(factors: Iterable[float], factor: float) -> float:
    """Return which of rising dose reduction factors is the nearest of no more dose than a factor."""
    return next(d for d in factors if d >= factor * (1 - 1e-9))
