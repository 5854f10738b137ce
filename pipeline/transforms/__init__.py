"""Transforms: thin MONAI wrappers over pure functions."""

from pipeline.transforms.insert_lesion import RandInsertLesiond
from pipeline.transforms.insert_noise import RandInsertNoised, slab_margin
from pipeline.transforms.load import LoadPETd, pet_to_tensor
from pipeline.transforms.save import (
    SavePETd,
    tensor_to_pet,
)
from pipeline.transforms.scale import RandScaleUptaked, ScaleSUVd, scale_suv, unscale_suv

__all__ = [
    "LoadPETd",
    "RandInsertLesiond",
    "RandInsertNoised",
    "RandScaleUptaked",
    "SavePETd",
    "ScaleSUVd",
    "pet_to_tensor",
    "scale_suv",
    "slab_margin",
    "tensor_to_pet",
    "unscale_suv",
]
