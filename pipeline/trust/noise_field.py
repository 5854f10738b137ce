"""What two images of one scan differ by, in units of the noise that this scan has there: a Gaussian field.

The noise of a reconstruction is nearly log-normal (Barrett, Wilson and Tsui 1994, Phys Med Biol 39:833), with a spread
that falls slowly with the uptake and changes slowly over the patient. So the logarithm of the ratio of two smoothed
images, over its own local spread, is nearly a Gaussian field of SD 1, and how often noise alone exceeds a value
anywhere in it is known (Worsley et al. 1996, Hum Brain Mapp 4:58).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.special import ndtr

from pipeline.constants import FWHM_PER_SIGMA, OSEM_NOISE_POWER
from pipeline.images import body_mask, gaussian_filter_mm

__all__ = ["FEWEST_SLICES", "FieldSize", "NoiseField", "affine_of", "compared_images", "n_end_slices", "noise_fields"]

FEWEST_SLICES = 8
"""Slices that a scan must have, so that a patient's noise is known along all three axes."""

_WIDE = 60.0  # [mm] FWHM over which the spread of the noise is pooled: one lesion is a small part of it
_SPACING = 12.0  # [mm] the grid on which it is pooled
_CLIPS = (4.0, 3.0, 3.0)  # SD at which differences are cut, so that one lesion does not hide itself
_FLOOR = 0.1  # of the body's mean: lower values of a smoothed image are taken for it
_LEAST_SPREAD = 1e-4  # of the logarithm: less than this is rounding, not noise


@dataclass(frozen=True)
class FieldSize:
    """How large a field is in units of its own grain, by which it is known how high noise alone rises in it."""

    n_cells: float
    """Volume of the body times the root of the determinant of the covariance of the field's gradient."""
    n_voxels: int
    """Voxels of the body."""

    def expected_maxima(self, height: ArrayLike) -> NDArray[np.float64]:
        """Return how many places noise alone is expected to lift above a height of at least 1.5 in this field.

        The Euler characteristic of a Gaussian field in three dimensions (Worsley 1996, Table 1), n_cells
        (u^2 - 1) exp(-u^2 / 2) / (2 pi)^2, and at most the voxels times the tail of the normal distribution.
        """
        u = np.maximum(np.asarray(height, dtype=np.float64), 1.5)
        characteristic = self.n_cells * (u**2 - 1) * np.exp(-(u**2) / 2) / (2 * np.pi) ** 2
        return np.minimum(characteristic, self.n_voxels * ndtr(-u))


@dataclass(frozen=True)
class NoiseField:
    """The difference of two images at one scale, in units of its SD by noise, in the box that holds the body."""

    fwhm: float
    """Width of the Gaussian that both images were smoothed with [mm]."""
    box: tuple[slice, ...]
    """Where the arrays lie in the images."""
    body: NDArray[np.bool_]
    """Where the field is valid: in the body, where it is not as dark as air."""
    z: NDArray[np.float32]
    """The field: SD 1 by noise, positive where the first image has more."""
    spread: NDArray[np.float32]
    """SD that noise gives the logarithm of the ratio."""
    first: NDArray[np.float32]
    """The first image, smoothed [g/mL]."""
    second: NDArray[np.float32]
    """The second image, smoothed [g/mL]."""
    size: FieldSize
    """How large it is."""


def compared_images(
    noisy: ArrayLike, denoised: ArrayLike, *, voxel_size: Sequence[float], body: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], str | None]:
    """Return both images [g/mL], the body, found in the denoised one if None, and why noise cannot be told from them.

    The reason is one line, and None where it can.

    Raises
    ------
    ValueError
        Shapes differ, or are not (X, Y, Z).
    """
    y, x = (np.asarray(image, dtype=np.float32) for image in (noisy, denoised))
    if y.shape != x.shape or y.ndim != 3:
        raise ValueError(f"shapes {y.shape} and {x.shape} of two images, expected one shape (X, Y, Z)")
    mask = body_mask(x, voxel_size=voxel_size) if body is None else body
    return y, x, mask, _unassessable(y, x, mask)


def affine_of(affine: NDArray[np.floating] | None, voxel_size: Sequence[float]) -> NDArray[np.float64]:
    """Return the affine from voxel to mm; without one, from the centre of voxel (0, 0, 0)."""
    return np.diag([*voxel_size, 1.0]) if affine is None else np.asarray(affine, dtype=np.float64)


def _unassessable(noisy: NDArray[np.floating], denoised: NDArray[np.floating], body: NDArray[np.bool_]) -> str | None:
    """Return in one line why the noise of a scan cannot be told from these images; None if it can."""
    if noisy.shape[2] < FEWEST_SLICES:
        return f"not assessed: the scan has {noisy.shape[2]} slices, expected at least {FEWEST_SLICES}"
    if not body.any():
        return "not assessed: no body was found in the image"
    inside = body & (denoised > 0)
    if not np.any(np.abs(noisy[inside] / denoised[inside] - 1) > _LEAST_SPREAD):
        return "not assessed: the noisy and the denoised image are equal"
    return None


def noise_fields(
    noisy: ArrayLike,
    denoised: ArrayLike,
    *,
    voxel_size: Sequence[float],
    scales: Sequence[float],
    body: NDArray[np.bool_],
) -> Iterator[NoiseField]:
    """Yield for each scale [mm] how far the noisy image lies above the denoised one, in units of the noise.

    Both images [g/mL] and the body have the shape (X, Y, Z), `voxel_size` is in mm. The SD is taken from the
    differences themselves: a place counts by how far it stands out of its wide neighbourhood. `compared_images` comes
    first.
    """
    y, x = (np.asarray(image, dtype=np.float32) for image in (noisy, denoised))
    margin = [int(np.ceil(max(scales) / side)) for side in voxel_size]
    box = tuple(
        slice(max(part.start - m, 0), part.stop + m)
        for part, m in zip(ndimage.find_objects(body.astype(np.uint8))[0], margin, strict=True)
    )
    y, x, mask = y[box], x[box], body[box]
    for fwhm in scales:
        first, second = (gaussian_filter_mm(image, fwhm=fwhm, voxel_size=voxel_size) for image in (y, x))
        reference = float(second[mask].mean())
        low = _FLOOR * reference
        ratio = np.log(np.maximum(first, low) / np.maximum(second, low))
        valid = mask & (second > low)  # not the air at the skin, which the outline of the body may hold
        spread = _spread(ratio, np.maximum(second, low) / reference, valid, voxel_size)
        # A log-normal value of mean 1 has the median exp(-spread^2 / 2).
        z = ratio / spread + spread / 2
        _even_ends(z, spread, valid, n_end_slices(fwhm, voxel_size[2]))
        size = FieldSize(_n_cells(z, valid, voxel_size), int(np.count_nonzero(valid)))
        yield NoiseField(fwhm, box, valid, z, spread, first, second, size)


def n_end_slices(fwhm: float, slice_thickness: float) -> int:
    """Return how many slices at each end of a scan the noise of its ends reaches under a Gaussian [mm], at least 3."""
    return max(3, round(fwhm / slice_thickness))


def _spread(
    ratio: NDArray[np.float32], uptake: NDArray[np.float32], body: NDArray[np.bool_], voxel_size: Sequence[float]
) -> NDArray[np.float32]:
    """Return the local SD of the logarithm of a ratio, robust, from every second voxel."""
    power = uptake ** np.float32(OSEM_NOISE_POWER - 1)
    every = (slice(None, None, 2),) * 3
    value, unit, inside = (a[every] for a in (ratio / power, power, body))
    if not inside.any():
        inside = np.ones_like(inside)
    blocks = [max(1, round(_SPACING / side / 2)) for side in voxel_size]
    width = [_WIDE / FWHM_PER_SIGMA / (2 * side * n) for side, n in zip(voxel_size, blocks, strict=True)]
    weight = ndimage.gaussian_filter(_block_means(inside.astype(np.float32), blocks), width, mode="nearest") + 1e-6
    least = np.float32(_LEAST_SPREAD**2)
    start = float(np.median(np.abs(value[inside])) / 0.6745) ** 2
    coarse = np.full(weight.shape, max(start, least), dtype=np.float32)
    for clip in _CLIPS:
        variance = _interpolated(coarse, blocks, value.shape)
        centered = value + unit * variance / 2
        cut = np.where(inside, np.minimum(centered**2, clip**2 * variance), 0)
        pooled = ndimage.gaussian_filter(_block_means(cut, blocks), width, mode="nearest") / weight
        coarse = np.maximum(pooled / _second_moment_below(clip), least)
    return power * np.sqrt(_interpolated(coarse, [2 * n for n in blocks], ratio.shape))


def _second_moment_below(clip: float) -> np.float32:
    """Return the mean of min(z^2, clip^2) of a standard normal z."""
    outside = 2 * ndtr(-clip)
    density = np.exp(-(clip**2) / 2) / np.sqrt(2 * np.pi)
    return np.float32(1 - outside - 2 * clip * density + clip**2 * outside)


def _block_means(a: NDArray[np.float32], blocks: Sequence[int]) -> NDArray[np.float32]:
    padded = np.pad(a, [(0, -n % block) for n, block in zip(a.shape, blocks, strict=True)])
    i, j, k = (n // block for n, block in zip(padded.shape, blocks, strict=True))
    return padded.reshape(i, blocks[0], j, blocks[1], k, blocks[2]).mean(axis=(1, 3, 5))


def _interpolated(coarse: NDArray[np.float32], blocks: Sequence[int], shape: Sequence[int]) -> NDArray[np.float32]:
    """Return block means as a smooth map, linear between the centres of the blocks."""
    fine = coarse
    for axis in (2, 1, 0):  # the last axis while the array is small: it is the slow one to gather along
        last, block, n = coarse.shape[axis] - 1, blocks[axis], shape[axis]
        place = np.clip((np.arange(n) + 0.5) / block - 0.5, 0, last)
        below = np.minimum(place.astype(int), max(last - 1, 0))
        part = (place - below).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        lower, upper = fine.take(below, axis), fine.take(np.minimum(below + 1, last), axis)
        upper -= lower
        upper *= part
        fine = np.add(lower, upper, out=lower)
    # Beside a much larger value the small one is lost to rounding, and what is left may be 0, or below.
    return np.maximum(fine, coarse.min(), out=fine)


def _even_ends(z: NDArray[np.float32], spread: NDArray[np.float32], body: NDArray[np.bool_], n_end: int) -> None:
    """Divide slices near an end, where fewer counts and no neighbours make more noise, by their own robust SD."""
    n_slices = z.shape[2]
    n_end = min(n_end, n_slices // 2)
    for k in (*range(n_end), *range(n_slices - n_end, n_slices)):
        values = z[..., k][body[..., k]]
        if values.size:
            excess = max(1.0, float(np.median(np.abs(values)) / 0.6745))
            z[..., k] /= excess
            spread[..., k] *= excess


def _n_cells(z: NDArray[np.float32], body: NDArray[np.bool_], voxel_size: Sequence[float]) -> float:
    """Return the volume of the body in units of the field's roughness, from differences of neighbouring voxels."""
    roughness = 1.0
    for axis, side in enumerate(voxel_size):
        ahead, behind = (tuple(part if a == axis else slice(None) for a in range(3)) for part in _NEIGHBOURS)
        pairs = body[ahead] & body[behind]
        difference = (z[ahead] - z[behind])[pairs]
        roughness *= float(np.mean(difference**2)) ** 0.5 / side if difference.size else 0.0
    return float(np.count_nonzero(body) * np.prod(voxel_size) * roughness)


_NEIGHBOURS = (slice(1, None), slice(None, -1))
