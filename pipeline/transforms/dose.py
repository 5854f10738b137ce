"""Random dose: an image of any dose reduction factor from a few reconstructed ones."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.transforms import MapTransform, Randomizable
from torch import Tensor

__all__ = ["RandDosed", "mix_doses"]


def mix_doses(low: Tensor, full: Tensor, *, low_factor: float, factor: float) -> Tensor:
    """Image with the second-order noise statistics of a dose reduction factor between 1 and ``low_factor``.

    a low + (1 - a) full with a = sqrt((d - 1) / (D - 1)): for nested counts cov(low, full) is the variance v of
    full, so the mixture's variance is v (1 + a^2 (D - 1)) = v d.
    """
    a = ((factor - 1) / (low_factor - 1)) ** 0.5
    return a * low + (1 - a) * full


class RandDosed(Randomizable, MapTransform):
    """Draw a dose reduction factor, log-uniform, and form the image of that dose.

    Parameters
    ----------
    dose_reduction_factors
        Key of each reconstructed low-dose image -> its factor.
    full_key
        Key of the full-dose image.
    minimum
        Smallest factor drawn; the largest is that of the lowest dose.
    image_key
        Where the image goes. The low-dose keys are removed.
    """

    def __init__(
        self,
        dose_reduction_factors: Mapping[str, float],
        *,
        full_key: str = "label",
        image_key: str = "image",
        minimum: float = 2.0,
    ) -> None:
        super().__init__([*dose_reduction_factors])
        self.dose_reduction_factors = dict(sorted(dose_reduction_factors.items(), key=lambda item: item[1]))
        self.full_key = full_key
        self.image_key = image_key
        self.minimum = minimum
        self.factor = minimum

    def randomize(self, data: Any = None) -> None:
        highest = max(self.dose_reduction_factors.values())
        self.factor = float(np.exp(self.R.uniform(np.log(self.minimum), np.log(highest))))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        self.randomize()
        low = {factor: d.pop(key) for key, factor in self.dose_reduction_factors.items()}
        low_factor = next(factor for factor in low if factor >= self.factor * (1 - 1e-9))
        d[self.image_key] = mix_doses(low[low_factor], d[self.full_key], low_factor=low_factor, factor=self.factor)
        return d
