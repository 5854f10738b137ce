"""SUV volumes to what a network sees and back, and the scale that weights carry."""

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from torch import Tensor

from pipeline.pet import PETSeries

__all__ = [
    "ScaleSUVd",
    "pet_to_tensor",
    "scale_of",
    "scale_suv",
    "tensor_to_pet",
    "with_scale",
    "without_negative",
]

_SCALE_KEY = "unipet_suv_scale"


def pet_to_tensor(series: PETSeries) -> MetaTensor:
    """Return a SUVbw volume as MetaTensor (1, X, Y, Z), float32, with its RAS+ affine [mm]."""
    return MetaTensor(torch.from_numpy(series.suv)[None], affine=torch.from_numpy(series.affine))


def tensor_to_pet(pred: Tensor, source: PETSeries, *, suv_scale: float, note: str) -> PETSeries:
    """Return a network's output (1, X, Y, Z) in scaled SUV as a series with the grid and the header of its source.

    Negative values are those of :func:`without_negative`. ``note`` goes into the provenance of the series.
    """
    suv = (pred.detach().cpu().float() * suv_scale)[0]
    return source.with_suv(without_negative(suv, torch.from_numpy(source.suv)).numpy(), note=note)


def without_negative(denoised: Tensor, noisy: Tensor) -> Tensor:
    """Return a denoised scan with 0, or the noisy scan's value if that is negative too, where it is below that.

    Activity is not negative, but a reconstruction may be. Both have any shape and one unit.
    """
    return torch.maximum(denoised, noisy.clamp_max(0))


def scale_suv(suv: Tensor, *, suv_scale: float) -> Tensor:
    """Return SUV [g/mL] in network units: suv / suv_scale. With 2, soft tissue lies near 1."""
    return suv / suv_scale


def with_scale(state_dict: Mapping[str, Tensor], suv_scale: float) -> "OrderedDict[str, Tensor]":
    """Return a state dict that carries its scale, SUVbw [g/mL] per network unit; keys and tensors are the same.

    The scale stands in the metadata that torch keeps, and saves, beside the tensors. Programs that do not know of it,
    such as MONAI's tools, see a plain state dict.
    """
    marked = OrderedDict(state_dict)
    metadata = dict(getattr(state_dict, "_metadata", {}))
    metadata[_SCALE_KEY] = {"suv_scale": float(suv_scale)}
    marked._metadata = metadata  # type: ignore[attr-defined]
    return marked


def scale_of(state_dict: Mapping[str, Tensor]) -> float | None:
    """Return the scale that a state dict carries, SUVbw [g/mL] per network unit; None if it carries none."""
    return getattr(state_dict, "_metadata", {}).get(_SCALE_KEY, {}).get("suv_scale")


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
            d[key] = d[key] * self.suv_scale
        return d
