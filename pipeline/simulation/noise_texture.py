"""The texture of noise: how much neighbouring voxels share, and the post-filter that makes two noises alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pipeline.constants import FWHM_PER_SIGMA
from pipeline.images import gaussian_filter_mm
from pipeline.simulation.scanner.blur import post_filtered

__all__ = [
    "TOLERANCE",
    "NoiseTexture",
    "correlation_error",
    "fine_noise",
    "fitted_post_filter",
    "mean_correlation",
    "noise_correlation",
]

TOLERANCE = 0.05
"""Difference of the correlation that passes for the same texture."""

WIDEST_FILTER = 30.0
"""Full width at half maximum that a fit goes up to [mm]."""

# What varies more slowly than this [mm] is the organ's own uptake. Structure of 20 to 40 mm and half as strong as the
# noise then raises a correlation by .03 at most; with a trend of 40 mm it would be .1.
_TREND_FWHM = 16.0
_RANGE = (0.02, 0.995)  # correlations that a width is computed from
_LOWERED = 0.2  # of the correlation, at most: what taking the trend away costs smooth noise in large voxels
_FEWEST_PAIRS = 30
_STEPS = 25
_CLOSE = 0.002  # of the correlation: the fit is done
_REACH = 12  # voxels that noise is taken to correlate over


@dataclass(frozen=True)
class NoiseTexture:
    """Correlation of the noise of neighbouring voxels along X, Y and Z, of a scan and of what was inserted into it."""

    own: tuple[float, float, float]
    """Of the full-dose scan; NaN where it cannot be measured."""
    inserted: tuple[float, float, float]
    """Of the inserted noise."""
    error: tuple[float, float, float]
    """Standard error of either: how far two draws of the same noise differ in a region of that size, over sqrt(2)."""
    post_filter: tuple[float, float, float]
    """Gaussian after reconstruction, full width at half maximum along X, Y, Z [mm]."""
    is_fitted: bool
    """Whether the filter was fitted to the scan; otherwise it was stated."""

    @property
    def warning(self) -> str:
        """One sentence where the two differ by more than 0.05 and than chance along an axis, else empty."""
        if not self.is_fitted and not np.isfinite(self.own).all():
            return ""
        if not np.isfinite(self.own).all():
            return "the scan's own noise cannot be measured along every axis; the preset's filter is used there"
        difference = np.subtract(self.inserted, self.own)
        # 2.8 standard errors are two of a difference.
        excess = np.abs(difference) - np.maximum(TOLERANCE, 2.8 * np.array(self.error))
        worst = int(excess.argmax())
        if excess[worst] <= 0:
            return ""
        kind = "finer" if difference[worst] < 0 else "coarser"
        if not self.is_fitted:
            advice = "without --post-filter it is fitted to the scan"
        elif kind == "coarser" and self.post_filter[worst] == 0:
            advice = "the scan is sharper than a reconstruction without filter, which no filter can mend"
        else:
            advice = "no Gaussian filter brings them nearer"
        return (
            f"the inserted noise is {kind} than the scan's own along {'XYZ'[worst]}: neighbouring voxels correlate by "
            f"{_shown(self.inserted)} along X/Y/Z, in the scan by {_shown(self.own)}; {advice}"
        )

    def __str__(self) -> str:
        """Return one line for the screen."""
        widths = " x ".join(f"{width:.1f}" for width in self.post_filter)
        return (
            f"correlation of neighbouring voxels' noise along X/Y/Z {_shown(self.own)} in the scan, "
            f"{_shown(self.inserted)} inserted (standard error {_shown(self.error)}); post-filter {widths} mm, "
            f"{'fitted' if self.is_fitted else 'stated'}"
        )


def _shown(values: Sequence[float]) -> str:
    return "/".join(f"{value:.2f}" for value in values)


def noise_correlation(
    image: np.ndarray, region: np.ndarray, *, voxel_size: Sequence[float]
) -> tuple[float, float, float]:
    """Return the correlation of neighbouring voxels along X, Y and Z in a region, without what varies slowly.

    What varies slowly is the mean weighted by a Gaussian of 16 mm (FWHM) over the region, which is subtracted. It takes
    part of the noise away, too: the correlation lies .01 to .1 below that of the noise itself, more for smoother noise
    and larger voxels. It compares two images on one grid.

    The image has any unit and shape (X, Y, Z). The region, bool of that shape, is one organ; `voxel_size` is in mm.
    NaN along an axis with fewer than 30 pairs of neighbours, and for an image without noise.
    """
    if not region.any():
        return np.nan, np.nan, np.nan
    fine, inside = _fine_part(image, region, voxel_size)
    x, y, z = (_neighbours_correlate(np.moveaxis(fine, k, 0), np.moveaxis(inside, k, 0)) for k in range(3))
    return x, y, z


def fine_noise(image: np.ndarray, region: np.ndarray, *, voxel_size: Sequence[float]) -> float:
    """Return the standard deviation in a region of what varies fast: noise, less what `noise_correlation` takes away.

    In the unit of the image; what the organ's own texture adds is a few percent of usual noise. Unlike the SD of the
    region it compares an image with noise alone. Arguments are those of `noise_correlation`; the region is not empty.
    """
    fine, inside = _fine_part(image, region, voxel_size)
    return float(fine[inside].std())


def _fine_part(image: np.ndarray, region: np.ndarray, voxel_size: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return an image without what varies slowly, and the region, in the region's bounding box."""
    box = ndimage.find_objects(region.astype(np.uint8))[0]
    inside, part = region[box].astype(np.float64), image[box].astype(np.float64)
    trend, weight = (
        gaussian_filter_mm(volume, fwhm=_TREND_FWHM, voxel_size=voxel_size) for volume in (part * inside, inside)
    )
    return part - trend / np.maximum(weight, 1e-6), region[box]


def _neighbours_correlate(values: np.ndarray, there: np.ndarray) -> float:
    """Return the correlation of neighbours along the first axis."""
    both = there[1:] & there[:-1]
    first, second = values[:-1][both], values[1:][both]
    if len(first) < _FEWEST_PAIRS or not (first.std() > 1e-6 and second.std() > 1e-6):
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def mean_correlation(
    noise: Sequence[np.ndarray], region: np.ndarray, *, voxel_size: Sequence[float]
) -> tuple[float, float, float]:
    """Return the mean of `noise_correlation` over several images of one shape."""
    x, y, z = np.mean([noise_correlation(image, region, voxel_size=voxel_size) for image in noise], axis=0).tolist()
    return x, y, z


def correlation_error(correlation: Sequence[float], n_voxels: int) -> tuple[float, float, float]:
    """Return the standard error of a correlation of neighbours that was measured in so many voxels.

    Bartlett's formula for a stationary process (Box and Jenkins 1976, Eq. 2.1.11), in three dimensions, for a
    correlation r^(k^2) at k voxels, that of white noise after a Gaussian.
    """
    r = np.clip(np.nan_to_num(correlation), 0, _RANGE[1])[:, None]
    lags = np.arange(-_REACH, _REACH + 1)
    rho, before, after = (r ** np.square(lags + step) for step in (0, -1, 1))
    squares = (rho**2).sum(axis=1)
    along = (rho**2 + before * after - 4 * r * rho * before + 2 * r**2 * rho**2).sum(axis=1)
    others = squares.prod() / squares
    x, y, z = np.sqrt(np.maximum(along * others, 0) / n_voxels).tolist()
    return x, y, z


def fitted_post_filter(
    noise: Sequence[np.ndarray],
    region: np.ndarray,
    target: Sequence[float],
    *,
    voxel_size: Sequence[float],
    stated: Sequence[float],
) -> tuple[float, float, float]:
    """Return the Gaussian filter after which noise correlates as wanted: full widths along X, Y, Z [mm].

    White noise after a Gaussian of standard deviation s correlates by exp(-(side / 2 s)^2) between neighbours, and the
    squares of successive widths add up; a secant in these squares takes care of noise that is not white. Width
    0 where the noise is too smooth already, 30 mm where it cannot be made smooth enough.

    Parameters
    ----------
    noise
        Images of noise alone from before the filter, each of shape (X, Y, Z), X equal to Y, any unit.
    region
        Where it counts, bool, shape (X, Y, Z).
    target
        Correlation as `noise_correlation` measures it; NaN keeps what is stated along that axis.
    voxel_size
        [mm].
    stated
        Widths that are kept where nothing can be fitted [mm].
    """

    def correlation(squared_widths: np.ndarray) -> np.ndarray:
        filtered = [post_filtered(image, np.sqrt(squared_widths), voxel_size=voxel_size) for image in noise]
        return np.array(mean_correlation(filtered, region, voxel_size=voxel_size))

    free = np.isfinite(target) & np.isfinite(correlation(np.zeros(3)))
    squares = np.where(free, 0.0, np.square(stated))
    wanted = _squared_width(np.asarray(target), voxel_size)
    found = correlation(squares)
    slope, width = np.ones(3), _squared_width(found, voxel_size)
    for _ in range(_STEPS):
        step = np.where(free, (wanted - width) / slope, 0.0)
        ahead = np.clip(squares + step, 0, WIDEST_FILTER**2)
        moved = ahead - squares
        if not (np.abs(moved) > 1e-3).any() or np.abs(found - target)[free].max() < _CLOSE:
            break
        found, before = correlation(ahead), width
        width = _squared_width(found, voxel_size)
        secant = (width - before) / np.where(moved == 0, 1, moved)
        slope = np.where(np.abs(moved) > 1e-3, np.clip(secant, 0.2, 3), slope)
        squares = ahead
    x, y, z = np.sqrt(squares).tolist()
    return x, y, z


def _squared_width(correlation: np.ndarray, voxel_size: Sequence[float]) -> np.ndarray:
    """Return about the squared full width [mm^2] of the Gaussian that gives white noise a measured correlation."""
    raised = np.clip((correlation + _LOWERED) / (1 + _LOWERED), *_RANGE)
    return -np.square(voxel_size) / (4 * np.log(raised)) * FWHM_PER_SIGMA**2
