"""The scale that weights were trained with, carried by the weights."""

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor

__all__ = ["scale_of", "with_scale"]

_KEY = "unipet_suv_scale"


def with_scale(state_dict: Mapping[str, Tensor], suv_scale: float) -> "OrderedDict[str, Tensor]":
    """Return a state dict that carries its scale, SUVbw [g/mL] per network unit; keys and tensors are the same.

    The scale stands in the metadata that torch keeps, and saves, beside the tensors. Programs that do not know of it,
    such as MONAI's tools, see a plain state dict.
    """
    marked = OrderedDict(state_dict)
    metadata = dict(getattr(state_dict, "_metadata", {}))
    metadata[_KEY] = {"suv_scale": float(suv_scale)}
    marked._metadata = metadata  # type: ignore[attr-defined]
    return marked


def scale_of(state_dict: Mapping[str, Tensor]) -> float | None:
    """Return the scale that a state dict carries, SUVbw [g/mL] per network unit; None if it carries none."""
    return getattr(state_dict, "_metadata", {}).get(_KEY, {}).get("suv_scale")
