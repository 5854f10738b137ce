"""Transforms: thin MONAI wrappers over pure functions."""

from pipeline.transforms.dose import RandDosed, mix_doses
from pipeline.transforms.load import LoadPETd, pet_to_tensor
from pipeline.transforms.save import SavePETd, scan_name, tensor_to_pet, write_denoised
from pipeline.transforms.scale import ScaleSUVd, scale_suv, unscale_suv

__all__ = [
    "LoadPETd",
    "RandDosed",
    "SavePETd",
    "ScaleSUVd",
    "mix_doses",
    "pet_to_tensor",
    "scale_suv",
    "scan_name",
    "tensor_to_pet",
    "unscale_suv",
    "write_denoised",
]
