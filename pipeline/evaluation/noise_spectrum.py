"""Radial noise power: how the noise, or the error, of an image is spread over spatial frequencies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, ndimage

from pipeline.errors import UndefinedMeasureError

__all__ = ["NoisePower", "noise_power"]

_BIN = 0.02  # [1/mm]


@dataclass(frozen=True)
class NoisePower:
    """Noise power in shells of frequency; bins that hold no frequency of the region are left out."""

    lowest: NDArray[np.float64]
    """Frequency that each shell begins at [1/mm], rising, shape (n,)."""
    frequency: NDArray[np.float64]
    """Mean frequency of each shell [1/mm], shape (n,)."""
    power: NDArray[np.float64]
    """Mean power of each shell [(g/mL)^2 mm^3], shape (n,)."""
    extent: NDArray[np.float64]
    """Volume of each shell in frequency space, up to the corners of the sampled block [1/mm^3], shape (n,)."""
    mean_frequency: float
    """Mean of the frequency, weighted by the power at it [1/mm]: low is blotchy, high is grainy; NaN without noise."""

    @property
    def variance(self) -> float:
        """Integral of the power over all frequencies: the variance in the region [(g/mL)^2]."""
        return float(self.power @ self.extent)


def noise_power(
    difference: ArrayLike, region: NDArray[np.bool_], *, voxel_size: Sequence[float], bin_width: float = _BIN
) -> NoisePower:
    """Return the radially averaged noise power spectrum of a difference of images in a region of uniform tissue.

    W(f) = voxel volume / n |DFT of (difference - its mean) in the region|^2 for the n voxels of the region, 0 outside:
    the periodogram with the region as its window. Its integral over all frequencies is the
    variance in the region, whatever the region's shape (Parseval). White noise of variance s^2 gives s^2 x voxel
    volume at all frequencies, and a linear filter multiplies W by its squared transfer function. The window smears W
    over one over the region's width: 0.01 / mm for a liver of 100 mm.

    The difference, such as denoised less truth, and the region have the shape (X, Y, Z) [g/mL]; `voxel_size` is in mm,
    `bin_width` in 1/mm.

    Raises
    ------
    ValueError
        Shapes differ or the width is not positive.
    UndefinedMeasureError
        The region has fewer than two voxels.
    """
    values = np.asarray(difference)
    if values.shape != region.shape or values.ndim != 3:
        raise ValueError(f"noise_power: difference {values.shape} and region {region.shape} must be 3D and equal")
    if not bin_width > 0:
        raise ValueError(f"noise_power: bin_width must be positive, found {bin_width}")
    n = int(np.count_nonzero(region))
    if n < 2:
        raise UndefinedMeasureError("the region for the noise power has fewer than two voxels")
    box = ndimage.find_objects(region.astype(np.int8))[0]
    inside = region[box]
    noise = np.where(inside, values[box].astype(np.float64), 0.0)
    noise[inside] -= noise[inside].mean()
    volume = float(np.prod(voxel_size))
    power = (volume / n * np.abs(fft.fftn(noise)) ** 2).ravel()
    axes = [np.fft.fftfreq(side, size) for side, size in zip(noise.shape, voxel_size, strict=True)]
    squares = np.meshgrid(*(axis**2 for axis in axes), indexing="ij", sparse=True)
    frequency = np.sqrt(squares[0] + squares[1] + squares[2]).ravel()
    shell = (frequency / bin_width).astype(int)
    count = np.bincount(shell)
    some = count > 0
    frequencies, powers = (np.bincount(shell, weights=w)[some] / count[some] for w in (frequency, power))
    total = power.sum()
    mean_frequency = float(frequency @ power / total) if total > 0 else float("nan")
    extent = count[some] / (noise.size * volume)
    lowest = np.flatnonzero(some).astype(np.float64) * bin_width
    return NoisePower(lowest, frequencies, powers, extent, mean_frequency)
