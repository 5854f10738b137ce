"""Gaussian filters with a width in millimetres."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from pipeline.constants import FWHM_PER_SIGMA

__all__ = ["gaussian_filter_mm"]


def gaussian_filter_mm(
    suv: ArrayLike, *, fwhm: float, voxel_size: Sequence[float], border: Literal["reflect", "nearest"] = "reflect"
) -> NDArray[np.floating]:
    """Return an image smoothed by an isotropic Gaussian filter of a width in millimetres.

    Parameters
    ----------
    suv
        SUV image, shape (X, Y, Z) [g/mL].
    fwhm
        Full width at half maximum [mm]; 0 returns a copy.
    voxel_size
        Spacing along X, Y, Z [mm].
    border
        "reflect" mirrors the image at its borders, which keeps the total activity; "nearest" repeats its last voxel.

    Raises
    ------
    ValueError
        The width is negative.
    """
    if not fwhm >= 0:
        raise ValueError(f"gaussian_filter_mm: fwhm must not be negative, found {fwhm}")
    volume = np.asarray(suv)
    if not np.issubdtype(volume.dtype, np.floating):
        volume = volume.astype(np.float64)
    sigma = fwhm / FWHM_PER_SIGMA / np.asarray(voxel_size, dtype=np.float64)
    return ndimage.gaussian_filter(volume, sigma, mode=border)
