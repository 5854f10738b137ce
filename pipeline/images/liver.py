"""The liver's coefficient of variation, the customary measure of how noisy a whole-body scan is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.signal import fftconvolve

from pipeline.errors import PETError
from pipeline.images.gaussian import gaussian_filter_mm
from pipeline.images.regions import ball_offsets, body_mask
from pipeline.pet import PETSeries

__all__ = ["LIVER_SPHERE_DIAMETER", "LiverNoise", "find_liver", "measured_liver_cov"]

LIVER_SPHERE_DIAMETER = 30.0
"""Sphere in the right lobe that PERCIST 1.0 measures the liver in [mm] (Wahl 2009, J Nucl Med 50 Suppl 1:122S)."""

LIVER_SUV = (1.0, 5.0)
"""Mean SUV that passes for a liver [g/mL]."""

_SEARCH_GRID = 4.0  # [mm] finer voxels are averaged in pairs, triples, ... for the search
_SEARCH_FWHM = 10.0  # [mm] smoothing before homogeneity is compared, so that structure counts and not noise
_NOISY_FWHM = 20.0  # [mm] the same where noise leaves nothing homogeneous
_SEARCH_DIAMETER = 60.0  # [mm] the right lobe holds such a ball; heart, kidney, spleen and bowel do not
_SKIN = 25.0  # [mm] centres lie at least that deep
_MIDLINE = 15.0  # [mm] centres lie at least that far to the right of the body's middle
_LUNG_ABOVE = 220.0  # [mm] from a sphere in the liver up to lung, at most
_LUNG = 0.5  # lung has less than this fraction of the liver's SUV
_LARGEST_VARIATION = 0.2  # of the smoothed image in the search ball; more is not one organ
_REACH = 70.0  # [mm] from the sphere to the liver tissue that the noise is pooled over
_SAME_TISSUE = 0.25  # relative deviation of the smoothed image from the sphere's mean
_FEWEST_VOXELS = 30


@dataclass(frozen=True)
class LiverNoise:
    """Mean and spread of the liver in one scan."""

    center: tuple[float, float, float]
    """Centre of the sphere, or of the mask, RAS+ [mm]."""
    suv_mean: float
    """Mean SUVbw in it [g/mL]."""
    cov: float
    """Standard deviation over mean in it: noise and the organ's own texture together, of few independent samples."""
    noise_cov: float
    """Typical (median) coefficient of variation of all spheres of that size in the same tissue nearby; that of a
    given mask for a mask. The median leaves out vessels, lesions and edges, and the pooling brings the statistical
    error of one sphere, about 10 to 15 %, down to 2 %. Two systematic errors remain: texture finer than a sphere
    counts as noise, and noise that a whole sphere shares does not. With two simulated scanners the sum of the
    latter and of the median was +3 and -9 %."""
    region: NDArray[np.bool_]
    """Voxels of those spheres, shape (X, Y, Z)."""


def _ball(diameter: float, voxel_size: Sequence[float]) -> NDArray[np.float32]:
    """Return the ball of a diameter [mm] as weights that sum to 1."""
    offsets = ball_offsets(diameter / 2, voxel_size=voxel_size)
    reach = offsets.max(axis=0)
    weights = np.zeros(2 * reach + 1, dtype=np.float32)
    weights[tuple((offsets + reach).T)] = 1 / len(offsets)
    return weights


def _local_mean_and_variance(
    suv: NDArray[np.float32], ball: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean and unbiased variance in the ball around each voxel."""
    # Squares of values near their mean: single precision would lose a small variance beside a large mean.
    shift = float(np.median(suv))
    centered = suv.astype(np.float64) - shift
    mean = fftconvolve(centered, ball, mode="same")
    variance = fftconvolve(centered**2, ball, mode="same") - mean**2
    n = np.count_nonzero(ball)
    return mean + shift, np.maximum(variance, 0) * (n / (n - 1))


def _coarser(suv: NDArray[np.float32], factors: Sequence[int]) -> NDArray[np.float32]:
    """Return the means over blocks of so many voxels; what does not fill a block at the upper ends is left out."""
    blocks = [n // f for n, f in zip(suv.shape, factors, strict=True)]
    cut = suv[tuple(slice(0, b * f) for b, f in zip(blocks, factors, strict=True))]
    paired = cut.reshape(blocks[0], factors[0], blocks[1], factors[1], blocks[2], factors[2])
    return paired.mean(axis=(1, 3, 5), dtype=np.float32)


def find_liver(suv: NDArray[np.float32], *, voxel_size: Sequence[float]) -> tuple[int, int, int]:
    """Return the voxel in the right lobe of the liver around which the image is most homogeneous.

    Sought is the ball of 60 mm, right of the middle of the body and 25 mm below its surface, with a mean SUV of
    1 to 5 and lung (less than half the SUV, inside the body) above it, in which the image varies least after a
    Gaussian of 10 mm; or, where noise leaves none that is homogeneous, after one of 20 mm.

    Parameters
    ----------
    suv
        SUV image, shape (X, Y, Z) with axes towards right, front and head [g/mL].
    voxel_size
        Spacing along X, Y, Z [mm].

    Raises
    ------
    PETError
        If nothing in the image looks like a liver under a lung.
    """
    factors = [max(1, int(_SEARCH_GRID / side)) for side in voxel_size]
    image = _coarser(suv, factors)
    sides = [side * f for side, f in zip(voxel_size, factors, strict=True)]
    nothing = (
        f"no liver was found: no homogeneous region of SUV {LIVER_SUV[0]:g} to {LIVER_SUV[1]:g} lies right of the "
        "middle with lung above it; expected one, or the centre of a sphere in it"
    )
    body = body_mask(image, voxel_size=sides)
    if not body.any():
        raise PETError(nothing)
    # Beyond the first and the last slice the body goes on; beyond the sides of the image it does not.
    padded = np.pad(body, ((1, 1), (1, 1), (0, 0)))
    deep = ndimage.distance_transform_edt(padded, sampling=sides)[1:-1, 1:-1] > _SKIN
    columns = np.arange(image.shape[0])
    middle = np.average(columns, weights=body.sum(axis=(1, 2)))
    right = (columns - middle) * sides[0] > _MIDLINE
    n_up = int(_LUNG_ABOVE / sides[2]) + 1
    for fwhm in (_SEARCH_FWHM, _NOISY_FWHM):
        # The darkest tissue from each voxel upwards, as far as the lung must begin.
        tissue = np.where(deep, gaussian_filter_mm(image, fwhm=2 * fwhm, voxel_size=sides), np.float32(np.inf))
        above = ndimage.minimum_filter1d(tissue, n_up, axis=2, mode="constant", cval=np.inf, origin=-(n_up // 2))
        smooth = gaussian_filter_mm(image, fwhm=fwhm, voxel_size=sides)
        mean, variance = _local_mean_and_variance(smooth, _ball(_SEARCH_DIAMETER, sides))
        candidates = deep & right[:, None, None] & (mean > LIVER_SUV[0]) & (mean < LIVER_SUV[1])
        candidates &= above < _LUNG * mean
        variation = np.where(candidates, np.sqrt(variance) / np.maximum(mean, 1e-3), np.inf)
        best = np.unravel_index(int(np.argmin(variation)), variation.shape)
        if variation[best] < _LARGEST_VARIATION:
            break
    else:
        raise PETError(nothing)
    x, y, z = (int(i) * f + f // 2 for i, f in zip(best, factors, strict=True))
    return x, y, z


def measured_liver_cov(
    series: PETSeries,
    *,
    center: Sequence[float] | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> LiverNoise:
    """Measure the liver's mean and coefficient of variation in a 30 mm sphere, found or given, or in a mask.

    Parameters
    ----------
    series
        The scan.
    center
        Centre of the sphere, RAS+ [mm]; by default `find_liver` places it.
    mask
        Voxels to measure instead of a sphere, shape (X, Y, Z).

    Raises
    ------
    PETError
        If no liver is found, the sphere leaves the image, the mask has another shape or too few voxels, or the
        mean is not positive.
    """
    suv, sides = series.suv, series.voxel_size
    if mask is not None:
        return _measured_in_mask(series, np.asarray(mask, dtype=bool))
    voxel, values = liver_sphere(series, center)
    mean, sd = float(values.mean()), float(values.std(ddof=1))
    noise, region = _pooled_noise(suv, sides, voxel=voxel, mean=mean)
    x, y, z = (float(v) for v in (series.affine @ [*voxel, 1.0])[:3])
    return LiverNoise(center=(x, y, z), suv_mean=mean, cov=sd / mean, noise_cov=noise, region=region)


def liver_sphere(series: PETSeries, center: Sequence[float] | None) -> tuple[NDArray[np.integer], NDArray[np.float64]]:
    """Return the voxel at the centre of a 30 mm sphere in the liver, found or given, RAS+ [mm], and the SUV in it.

    Raises
    ------
    PETError
        If no liver is found, the sphere leaves the image, has too few voxels or a mean that is not positive.
    """
    what = "liver sphere"
    if center is None:
        voxel = np.array(find_liver(series.suv, voxel_size=series.voxel_size))
    else:
        voxel = voxel_at(series, center, what=what)
    ball = ball_offsets(LIVER_SPHERE_DIAMETER / 2, voxel_size=series.voxel_size)
    values = values_around(series, voxel, ball, what=what)
    if len(values) < _FEWEST_VOXELS:
        raise PETError(f"the {what} has {len(values)} voxels, expected {_FEWEST_VOXELS} or more")
    return voxel, values


def voxel_at(series: PETSeries, center: Sequence[float], *, what: str) -> NDArray[np.integer]:
    """Return the voxel at a given centre, RAS+ [mm]; raise PETError if it is not x, y, z."""
    if len(center) != 3:
        raise PETError(f"centre of the {what} is {tuple(center)}, expected x, y, z [mm]")
    return np.round(np.linalg.solve(series.affine, [*center, 1.0])[:3]).astype(int)


def values_around(
    series: PETSeries, voxel: NDArray[np.integer], offsets: NDArray[np.integer], *, what: str
) -> NDArray[np.float64]:
    """Return the SUV at steps (n, 3) from a voxel; raise PETError if one leaves the image or their mean is not > 0."""
    voxels = offsets + voxel
    if (voxels < 0).any() or (voxels >= series.suv.shape).any():
        raise PETError(f"the {what} at {_position(series, voxel)} leaves the image, expected it inside")
    values = series.suv[tuple(voxels.T)].astype(np.float64)
    if not values.mean() > 0:
        raise PETError(f"mean SUV in the {what} at {_position(series, voxel)} is {values.mean():.3g}, expected above 0")
    return values


def _position(series: PETSeries, voxel: NDArray[np.integer]) -> str:
    return "({:.0f}, {:.0f}, {:.0f}) mm".format(*(series.affine @ [*voxel, 1.0])[:3])


def _measured_in_mask(series: PETSeries, mask: NDArray[np.bool_]) -> LiverNoise:
    if mask.shape != series.suv.shape:
        raise PETError(f"liver mask has shape {mask.shape}, expected {series.suv.shape} as the scan")
    values = series.suv[mask].astype(np.float64)
    if len(values) < _FEWEST_VOXELS:
        raise PETError(f"liver mask has {len(values)} voxels, expected {_FEWEST_VOXELS} or more")
    mean = float(values.mean())
    if mean <= 0:
        raise PETError(f"mean SUV in the liver mask is {mean:.3g}, expected above 0")
    cov = float(values.std(ddof=1)) / mean
    x, y, z = (float(v) for v in (series.affine @ [*np.argwhere(mask).mean(axis=0), 1.0])[:3])
    return LiverNoise(center=(x, y, z), suv_mean=mean, cov=cov, noise_cov=cov, region=mask)


def _pooled_noise(
    suv: NDArray[np.float32], voxel_size: Sequence[float], *, voxel: NDArray[np.integer], mean: float
) -> tuple[float, NDArray[np.bool_]]:
    """Return the median coefficient of variation of all spheres in the tissue around one, and the voxels they cover."""
    radius = LIVER_SPHERE_DIAMETER / 2
    reach = np.ceil((_REACH + 2 * radius) / np.asarray(voxel_size)).astype(int)
    box = tuple(slice(max(int(c - r), 0), int(c + r + 1)) for c, r in zip(voxel, reach, strict=True))
    part = suv[box]
    here = voxel - [b.start for b in box]
    smooth = gaussian_filter_mm(part, fwhm=_SEARCH_FWHM, voxel_size=voxel_size)
    same = np.abs(smooth / mean - 1) < _SAME_TISSUE
    # What lies beyond the image is not known to be liver.
    depth = ndimage.distance_transform_edt(np.pad(same, 1), sampling=voxel_size)[1:-1, 1:-1, 1:-1]
    grid = np.ogrid[tuple(slice(0, n) for n in part.shape)]
    squared = sum(((g - c) * side) ** 2 for g, c, side in zip(grid, here, voxel_size, strict=True))
    centers = (depth > radius) & (squared <= _REACH**2)
    centers[tuple(here)] = True
    labels, _ = ndimage.label(centers)
    centers = labels == labels[tuple(here)]
    ball = _ball(LIVER_SPHERE_DIAMETER, voxel_size)
    local_mean, variance = _local_mean_and_variance(part, ball)
    cov = float(np.median(np.sqrt(variance[centers]) / local_mean[centers]))
    region = np.zeros(suv.shape, dtype=bool)
    region[box] = fftconvolve(centers.astype(np.float32), ball, mode="same") > 0.5 * ball.max()
    return cov, region
