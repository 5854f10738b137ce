"""Texture: how much of a reference's local variance an image has, the measure of over-smoothing."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from pipeline.constants import STYLIZED_VARIANCE
from pipeline.errors import UndefinedMeasureError

__all__ = ["local_variance", "local_variance_ratio"]


def local_variance(suv: ArrayLike) -> NDArray[np.float64]:
    """Return the variance in the 3 x 3 x 3 voxels around each voxel, E[x^2] - E[x]^2 (arXiv 2606.11131) [g^2/mL^2].

    The image is SUV [g/mL], shape (X, Y, Z). At the border it is continued by its own values.
    """
    x = np.asarray(suv, dtype=np.float64)
    mean = ndimage.uniform_filter(x, size=3, mode="nearest")
    return np.maximum(ndimage.uniform_filter(x * x, size=3, mode="nearest") - mean**2, 0)


def local_variance_ratio(pred: ArrayLike, reference: ArrayLike) -> float:
    """Return the median over the reference's stylized region of local variance over the reference's [dimensionless].

    The stylized region are the voxels whose local variance in the reference is at least 0.001, as UniPET defines it on
    the full-dose image. 1 is the reference's own texture, below is smoother, above is rougher. Against a full-dose
    image, whose noise counts as texture, no good denoiser reaches 1. The median, because a mean would be that of the
    edge of the bladder. Both images are SUV [g/mL] on one grid, shape (X, Y, Z).

    Raises
    ------
    ValueError
        Shapes differ.
    UndefinedMeasureError
        The reference is too flat to have such a region.
    """
    if np.shape(pred) != np.shape(reference):
        raise ValueError(f"local_variance_ratio: shapes {np.shape(pred)} and {np.shape(reference)} differ")
    true = local_variance(reference)
    region = true >= STYLIZED_VARIANCE
    if not region.any():
        raise UndefinedMeasureError(f"no local variance of the reference reaches {STYLIZED_VARIANCE:g}")
    return float(np.median(local_variance(pred)[region] / true[region]))
