"""Scaling between SUV and what a network sees."""

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import InvertibleTransform, MapTransform
from torch import Tensor

__all__ = ["ScaleSUVd", "scale_suv", "unscale_suv"]


def scale_suv(suv: Tensor, *, suv_scale: float) -> Tensor:
    """SUV [g/mL] to network units: suv / suv_scale. With 2, soft tissue lies near 1."""
    return suv / suv_scale


def unscale_suv(scaled: Tensor, *, suv_scale: float) -> Tensor:
    """Network units back to SUV [g/mL]: the inverse of :func:`scale_suv`."""
    return scaled * suv_scale


class ScaleSUVd(MapTransform, InvertibleTransform):
    """Divide SUV volumes by ``suv_scale`` [g/mL]; the inverse multiplies."""

    def __init__(self, keys: KeysCollection, *, suv_scale: float = 2.0, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if suv_scale <= 0:
            raise ValueError(f"suv_scale must be positive, got {suv_scale}")
        self.suv_scale = suv_scale

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = scale_suv(d[key], suv_scale=self.suv_scale)
            self.push_transform(d, key)
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            self.pop_transform(d, key)
            d[key] = unscale_suv(d[key], suv_scale=self.suv_scale)
        return d
