"""Gaussian filters with a width in millimetres."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

__all__ = ["FWHM_PER_SIGMA", "gaussian_filter_mm"]

FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))
"""Full width at half maximum of a Gaussian of standard deviation 1."""


def gaussian_filter_mm(suv: ArrayLike, *, fwhm: float, voxel_size: Sequence[float]) -> NDArray[np.floating]:
    """Isotropic Gaussian filter of a width in millimetres.

    The image is mirrored at its borders, so that the total activity is kept.

    Parameters
    ----------
    suv
        SUV image, shape (X, Y, Z) [g/mL].
    fwhm
        Full width at half maximum [mm]; 0 returns a copy.
    voxel_size
        Spacing along X, Y, Z [mm].

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
    return ndimage.gaussian_filter(volume, sigma, mode="reflect")
