"""Stylized region: where a full-dose image has texture that a denoiser must not smooth away."""

import torch.nn.functional as F
from torch import Tensor

from pipeline.constants import STYLIZED_VARIANCE

__all__ = ["local_variance", "stylized_region"]


def local_variance(image: Tensor) -> Tensor:
    """Return the variance E[x^2] - E[x]^2 in the 3x3x3 neighbourhood of an image (B, 1, X, Y, Z), in its unit squared.

    It is that of `pipeline.evaluation.local_variance`, on tensors: a test holds the two equal. At the border the image
    is continued by its own values.
    """
    # In float32 the difference of squares of a flat bladder would pass for texture.
    wide = F.pad(image.double(), (1,) * 6, mode="replicate")
    mean = F.avg_pool3d(wide, 3, stride=1)
    return (F.avg_pool3d(wide.square(), 3, stride=1) - mean.square()).clamp_min(0).to(image.dtype)


def stylized_region(full_dose_suv: Tensor, *, threshold: float = STYLIZED_VARIANCE) -> Tensor:
    """Return the mask (B, 1, X, Y, Z) of 0 and 1 where the local variance [SUV^2] is at least ``threshold``.

    The full-dose image must be in SUV, not yet scaled: the threshold has a unit. Source: UniPET, arXiv 2606.11131.
    """
    return (local_variance(full_dose_suv) >= threshold).to(full_dose_suv.dtype)
