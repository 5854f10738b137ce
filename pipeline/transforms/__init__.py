"""Transforms of SUV volumes: to what a network sees and back, and the random ones that training sees scans through."""

from pipeline.transforms.lesions import RandInsertLesiond, insert_lesion, lesion_profile
from pipeline.transforms.reconstruction import (
    KeepLargeScaled,
    RandReconstructiond,
    RandScaleUptaked,
    gaussian_filter,
    resampled,
)
from pipeline.transforms.suv import (
    ScaleSUVd,
    pet_to_tensor,
    scale_of,
    scale_suv,
    tensor_to_pet,
    with_scale,
    without_negative,
)

__all__ = [
    "KeepLargeScaled",
    "RandInsertLesiond",
    "RandReconstructiond",
    "RandScaleUptaked",
    "ScaleSUVd",
    "gaussian_filter",
    "insert_lesion",
    "lesion_profile",
    "pet_to_tensor",
    "resampled",
    "scale_of",
    "scale_suv",
    "tensor_to_pet",
    "with_scale",
    "without_negative",
]
