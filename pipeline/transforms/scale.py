"""From SUV volumes to what a network sees, and back."""

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, RandomizableTransform
from torch import Tensor

from pipeline.pet import PETSeries

__all__ = ["RandScaleUptaked", "ScaleSUVd", "pet_to_tensor", "scale_suv", "tensor_to_pet", "unscale_suv"]


def pet_to_tensor(series: PETSeries) -> MetaTensor:
    """Return a SUVbw volume as MetaTensor (1, X, Y, Z), float32, with its RAS+ affine [mm]."""
    return MetaTensor(torch.from_numpy(series.suv)[None], affine=torch.from_numpy(series.affine))


def tensor_to_pet(pred: Tensor, source: PETSeries, *, suv_scale: float, note: str) -> PETSeries:
    """Return a network's output (1, X, Y, Z) in scaled SUV as a series with the grid and the header of its source.

    Activity is not negative: where the network says so, the voxel is 0, or the source's own value if that is
    negative, too. ``note`` goes into the provenance of the series.
    """
    suv = unscale_suv(pred.detach().cpu().float(), suv_scale=suv_scale)[0].numpy()
    return source.with_suv(np.maximum(suv, np.minimum(source.suv, 0)), note=note)


def scale_suv(suv: Tensor, *, suv_scale: float) -> Tensor:
    """Return SUV [g/mL] in network units: suv / suv_scale. With 2, soft tissue lies near 1."""
    return suv / suv_scale


def unscale_suv(scaled: Tensor, *, suv_scale: float) -> Tensor:
    """Return network units as SUV [g/mL]: the inverse of :func:`scale_suv`."""
    return scaled * suv_scale


class ScaleSUVd(MapTransform, InvertibleTransform):
    """Divide SUV volumes by ``suv_scale`` [g/mL]; the inverse multiplies."""

    def __init__(self, keys: KeysCollection, *, suv_scale: float = 2.0, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if suv_scale <= 0:
            raise ValueError(f"suv_scale must be positive, got {suv_scale}")
        self.suv_scale = suv_scale

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with each volume divided by ``suv_scale``."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = scale_suv(d[key], suv_scale=self.suv_scale)
            self.push_transform(d, key)
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with each volume multiplied by ``suv_scale``."""
        d = dict(data)
        for key in self.key_iterator(d):
            self.pop_transform(d, key)
            d[key] = unscale_suv(d[key], suv_scale=self.suv_scale)
        return d


class RandScaleUptaked(RandomizableTransform, MapTransform):
    """Multiply SUV volumes by one random factor: lesions and organs of every uptake.

    Beside MONAI's RandScaleIntensityd, it draws the factor evenly in its logarithm and says what it was, under the key
    ``uptake_factor``, a float32 tensor (): the statistics of the scan's noise go along with it.

    Parameters
    ----------
    keys
        Volumes, all of which get the same factor.
    factors
        Smallest and largest factor.
    prob
        Probability of a factor other than 1.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        factors: tuple[float, float],
        prob: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        low, high = factors
        if not 0 < low <= high:
            raise ValueError(f"factors must be positive and rise, got {factors}")
        self.factors = (low, high)
        self.factor = 1.0

    def randomize(self, data: Any = None) -> None:
        """Draw the factor of all keys."""
        super().randomize(None)
        low, high = self.factors
        self.factor = math.exp(self.R.uniform(math.log(low), math.log(high))) if self._do_transform else 1.0

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with each volume multiplied by one factor."""
        self.randomize()
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = d[key] * self.factor
        d["uptake_factor"] = torch.tensor(self.factor, dtype=torch.float32)
        return d
