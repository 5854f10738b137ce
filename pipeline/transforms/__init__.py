"""Transforms: thin MONAI wrappers over pure functions."""

from pipeline.transforms.insert_lesion import RandInsertLesiond
from pipeline.transforms.scale import (
    RandScaleUptaked,
    ScaleSUVd,
    pet_to_tensor,
    scale_suv,
    tensor_to_pet,
    unscale_suv,
)

__all__ = [
    "RandInsertLesiond",
    "RandScaleUptaked",
    "ScaleSUVd",
    "pet_to_tensor",
    "scale_suv",
    "tensor_to_pet",
    "unscale_suv",
]
