"""Transforms: thin MONAI wrappers over pure functions."""

from typing import TYPE_CHECKING, Any

from pipeline.transforms.insert_lesion import RandInsertLesiond
from pipeline.transforms.scale import (
    RandScaleUptaked,
    ScaleSUVd,
    pet_to_tensor,
    scale_suv,
    tensor_to_pet,
    unscale_suv,
)

if TYPE_CHECKING:
    from pipeline.transforms.insert_noise import RandInsertNoised, slab_margin

__all__ = [
    "RandInsertLesiond",
    "RandInsertNoised",
    "RandScaleUptaked",
    "ScaleSUVd",
    "pet_to_tensor",
    "scale_suv",
    "slab_margin",
    "tensor_to_pet",
    "unscale_suv",
]


def __getattr__(name: str) -> Any:
    # Imported on first use: it needs the simulation, which nothing else here does.
    if name not in ("RandInsertNoised", "slab_margin"):
        raise AttributeError(f"module 'pipeline.transforms' has no attribute {name!r}")
    from pipeline.transforms import insert_noise

    return getattr(insert_noise, name)
