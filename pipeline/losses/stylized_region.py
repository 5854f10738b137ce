"""Stylized region: where a full-dose image has texture that a denoiser must not smooth away."""

import torch.nn.functional as F
from torch import Tensor

__all__ = ["local_variance", "stylized_region"]


def local_variance(image: Tensor) -> Tensor:
    """Variance in the 3x3x3 neighbourhood, E[x^2] - E[x]^2, of an image (B, 1, X, Y, Z); same shape, unit squared.

    At the border the neighbourhood is what of it lies inside the image.
    """
    wide = image.double()  # in float32 the difference of squares of a flat bladder would pass for texture

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool3d(x, 3, stride=1, padding=1, count_include_pad=False)

    return (mean(wide.square()) - mean(wide).square()).clamp_min(0).to(image.dtype)


def stylized_region(full_dose_suv: Tensor, *, threshold: float = 1e-3) -> Tensor:
    """Mask (B, 1, X, Y, Z) of 0 and 1: local variance of the full-dose image [SUV] at least ``threshold`` [SUV^2].

    The image must be in SUV, not yet scaled: the threshold has a unit. Source: UniPET, arXiv 2606.11131.
    """
    return (local_variance(full_dose_suv) >= threshold).to(full_dose_suv.dtype)
