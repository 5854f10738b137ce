"""Doses between those that were reconstructed, and what the images of a dose are called."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.simulation.low_dose import dose_entity

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["dose_key", "mix_doses"]

Values = TypeVar("Values", NDArray[np.float32], "Tensor")


def dose_key(dose_reduction_factor: float) -> str:
    """Name of the image of a dose: ``full``, ``drf004``, ``drf020``, ``drf007p5``."""
    if dose_reduction_factor == 1:
        return "full"
    return dose_entity(dose_reduction_factor)


def mix_doses(low: Values, full: Values, *, low_factor: float, factor: float) -> Values:
    """Image with the second-order noise statistics of a dose reduction factor between 1 and ``low_factor``.

    a low + (1 - a) full with a = sqrt((d - 1) / (D - 1)): for nested counts cov(low, full) is the variance v of
    full, so the mixture's variance is v (1 + a^2 (D - 1)) = v d.
    """
    a = ((factor - 1) / (low_factor - 1)) ** 0.5
    return a * low + (1 - a) * full
