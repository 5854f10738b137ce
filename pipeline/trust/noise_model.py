"""The noise of one scan, read from its image alone: what counting adds to the mean of any region, without repeats.

1. Second differences of neighbouring voxels take away whatever is linear; their local variance is noise. Divided by
   (local mean + 0.1)^0.6 it says how noisy each place is, whatever its uptake.
2. Differences at one and two voxels, and between planes, say over how far noise is correlated, taken as a Gaussian.
3. From both follows the standard deviation of the mean over any set of voxels.
4. What is left, because the noise of OSEM is neither Gaussian nor stationary, is a factor of few coefficients, fitted
   to true noise of simulated scans (`pipeline.trust.calibration`, ``studies/trust_noise_model.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from pipeline.constants import FWHM_PER_SIGMA, OSEM_NOISE_POWER
from pipeline.errors import UndefinedMeasureError
from pipeline.images import equivalent_diameter, gaussian_filter_mm

__all__ = ["ScanNoise", "noise_features", "scan_noise"]

NOISE_FEATURES = ("constant", "diameter", "voxel_noise", "contrast", "contrast_x_diameter")
"""Terms of the logarithm of the factor, see `noise_features`."""

_OFFSET = 0.1  # [g/mL], keeps air from dividing by zero
_BODY = 0.1  # [g/mL] of the local mean, from which a voxel is tissue
_MARGIN = 2  # voxels from the edge of the tissue, which is no noise
_UPTAKE_WINDOW = 20.0  # [mm] of the mean that noise is relative to
_VARIANCE_WINDOW = 25.0  # [mm] of a variance: over several clumps of noise
# [mm] along X, Y and Z over which variances are averaged: sensitivity changes from plane to plane, and at bed ends.
_LEVEL_WINDOW = (80.0, 80.0, 12.0)
_PRIOR = 0.02  # part of that window that the plane's average counts for; 500 voxels of the scan's in a plane
_PLANE_PRIOR = 500.0
_FEWEST_VOXELS = 100
_ACTIVITY_FWHM = 8.0  # [mm] of the smoothed scan that a voxel's own noise goes with
_SURROUND_FWHM = 60.0  # [mm] of the smoothed scan that contrast is relative to
_DIAMETERS = (8.0, 50.0)  # [mm] that the factor was fitted for; beyond, it stays
_CONTRASTS = (0.5, 8.0)
_MOST_CORRELATED = 0.98  # of neighbours: what differences can tell from 1
_REACH = 12  # voxels that noise is taken to correlate over


@dataclass(frozen=True)
class ScanNoise:
    """Noise of one scan, measured in its image; made by `scan_noise`."""

    voxel_sd: NDArray[np.float32]
    """Standard deviation that counting gives each voxel, before the factor [g/mL], shape (X, Y, Z)."""
    correlation: tuple[float, float, float]
    """Correlation of the noise of neighbours along X, Y, Z; that of voxels k apart is its k^2-th power."""
    activity: NDArray[np.float32]
    """The scan smoothed by 8 mm [g/mL], shape (X, Y, Z)."""
    surround: NDArray[np.float32]
    """The scan smoothed by 60 mm [g/mL], shape (X, Y, Z)."""
    voxel_size: tuple[float, float, float]
    """Spacing along X, Y, Z [mm]."""
    coefficients: tuple[float, ...]
    """Of `noise_features`; zeros give the SD of a stationary Gaussian field."""

    @property
    def correlation_fwhm(self) -> tuple[float, float, float]:
        """Full width at half maximum along X, Y, Z of the Gaussian that makes such noise of white noise [mm]."""
        q = np.clip(self.correlation, 1e-6, _MOST_CORRELATED)
        x, y, z = (FWHM_PER_SIGMA / 2 / np.sqrt(-np.log(q)) * self.voxel_size).tolist()
        return x, y, z

    def field_sd(self, mask: NDArray[np.bool_], box: tuple[slice, ...] | None = None) -> float:
        """Return the SD of the mean over a region [g/mL] if noise is a Gaussian field of this correlation.

        `mask` is the region within a box of the image, or in all of it if None; it must not be empty.
        """
        inside = np.asarray(mask, dtype=bool)
        n = int(inside.sum())
        if not n:
            raise UndefinedMeasureError("the region has no voxel")
        sd = np.where(inside, self.voxel_sd[box] if box is not None else self.voxel_sd, 0).astype(np.float64)
        if box is None:
            (part,) = ndimage.find_objects(inside.astype(np.uint8))
            sd = sd[part]
        # Var = sum over pairs of sd_i sd_j rho_ij / n^2.
        shared = sd
        for axis, q in enumerate(self.correlation):
            reach = min(_REACH, sd.shape[axis] - 1)
            kernel = np.maximum(q, 1e-12) ** (np.arange(-reach, reach + 1.0) ** 2)
            shared = ndimage.convolve1d(shared, kernel, axis=axis, mode="constant")
        return float(np.sqrt((sd * shared).sum()) / n)

    def features(self, mask: NDArray[np.bool_], box: tuple[slice, ...] | None = None) -> NDArray[np.float64]:
        """Return the `noise_features` of a region, shape (5,)."""
        where = (lambda volume: volume[mask]) if box is None else (lambda volume: volume[box][mask])
        activity, surround, sd = (
            float(where(v).mean(dtype=np.float64)) for v in (self.activity, self.surround, self.voxel_sd)
        )
        diameter = equivalent_diameter(int(np.count_nonzero(mask)), voxel_size=self.voxel_size)
        return noise_features(diameter=diameter, voxel_sd=sd, activity=activity, surround=surround)

    def sd_of_mean(self, mask: NDArray[np.bool_], box: tuple[slice, ...] | None = None) -> float:
        """Return the SD that counting gives the mean of the scan over a region [g/mL].

        `mask` is the region within the box of the image, or in all of it if `box` is None.

        Raises
        ------
        UndefinedMeasureError
            The region has no voxel.
        """
        factor = np.exp(self.features(mask, box) @ np.asarray(self.coefficients)) if any(self.coefficients) else 1.0
        return float(self.field_sd(mask, box) * factor)


def noise_features(
    *, diameter: ArrayLike, voxel_sd: ArrayLike, activity: ArrayLike, surround: ArrayLike
) -> NDArray[np.float64]:
    """Return what the factor of a region depends on, shape (..., 5), see `NOISE_FEATURES`.

    1; log of its equal-volume diameter over 20 mm; log of the voxels' SD over their activity; log of its activity over
    that around; and the product of the second and the fourth. Diameters [mm] count as 8 to 50, contrasts as 0.5 to 8.
    """
    size = np.log(np.clip(diameter, *_DIAMETERS) / 20)
    act = np.maximum(activity, 0) + _OFFSET
    noise = np.log(np.maximum(voxel_sd, 1e-6) / act)
    contrast = np.log(np.clip(act / (np.maximum(surround, 0) + _OFFSET), *_CONTRASTS))
    return np.stack(np.broadcast_arrays(1.0, size, noise, contrast, contrast * size), axis=-1)


def scan_noise(
    suv: ArrayLike, *, voxel_size: Sequence[float], coefficients: Sequence[float] = (0.0,) * len(NOISE_FEATURES)
) -> ScanNoise:
    """Measure the noise of a scan in its image.

    Parameters
    ----------
    suv
        The scan as it was reconstructed, shape (X, Y, Z) [g/mL], on its own grid: resampling would change the noise.
    voxel_size
        Spacing along X, Y, Z [mm].
    coefficients
        Of `noise_features`, from `pipeline.trust.calibration`; by default none.

    Raises
    ------
    UndefinedMeasureError
        Too little tissue lies inside the image's borders to measure noise in, or the image has no noise.
    """
    y = np.asarray(suv, dtype=np.float32)
    sides = (float(voxel_size[0]), float(voxel_size[1]), float(voxel_size[2]))
    if y.ndim != 3 or min(y.shape) < 2 * _MARGIN + 1:
        raise UndefinedMeasureError(f"noise cannot be measured in an image of {y.shape} voxels, expected 5 x 5 x 5")
    uptake = np.maximum(ndimage.uniform_filter(y, _window(_UPTAKE_WINDOW, sides), mode="nearest"), 0)
    tissue = ndimage.binary_erosion(uptake > _BODY, iterations=_MARGIN)
    if tissue.sum() < _FEWEST_VOXELS:
        raise UndefinedMeasureError(
            f"noise cannot be measured: {int(tissue.sum())} voxels of tissue, expected at least {_FEWEST_VOXELS}"
        )
    (box,) = ndimage.find_objects(tissue.astype(np.uint8))
    relative_sd, correlation = _relative_noise(y[box], uptake[box], tissue[box], sides)
    outside = [(b.start, n - b.stop) for b, n in zip(box, y.shape, strict=True)]
    level = np.pad(relative_sd, outside, mode="edge")
    activity = gaussian_filter_mm(y, fwhm=_ACTIVITY_FWHM, voxel_size=sides)
    sd = level * (np.maximum(activity, 0) + np.float32(_OFFSET)) ** np.float32(OSEM_NOISE_POWER)
    return ScanNoise(sd, correlation, activity, _wide(activity, sides), sides, tuple(map(float, coefficients)))


def _window(width: float, voxel_size: Sequence[float]) -> list[int]:
    """Return voxels along each axis, odd and at least 3, of a window of a width [mm]."""
    return [2 * max(1, round(width / side / 2 - 0.5)) + 1 for side in voxel_size]


def _relative_noise(
    y: NDArray[np.float32], uptake: NDArray[np.float32], tissue: NDArray[np.bool_], voxel_size: Sequence[float]
) -> tuple[NDArray[np.float32], tuple[float, float, float]]:
    """Return the SD of voxels over (uptake + offset)^0.6 at each place, and the correlation of neighbours."""
    power = (uptake + np.float32(_OFFSET)) ** np.float32(2 * OSEM_NOISE_POWER)
    there = tissue.astype(np.float32)
    window = _window(_VARIANCE_WINDOW, voxel_size)
    share = np.maximum(ndimage.uniform_filter(there, window, mode="constant"), 1e-4)
    core = tissue & (share > 0.6)
    if core.sum() < _FEWEST_VOXELS:
        core = tissue

    def variance(axes: tuple[int, int], step: int = 1) -> NDArray[np.float32]:
        squared = _mixed_difference(y, axes, step) ** 2 / power * there
        return ndimage.uniform_filter(squared, window, mode="constant") / share

    near, far, across_x, across_y = (
        variance(axes, step) for axes, step in (((0, 1), 1), ((0, 1), 2), ((0, 2), 1), ((1, 2), 1))
    )
    v_near, v_far, v_axial = (float(np.median(v[core])) for v in (near, far, (across_x + across_y) / 2))
    if not v_near > 0:
        raise UndefinedMeasureError("noise cannot be measured: the image has none between neighbouring voxels")
    # Var of a mixed difference at a distance of k voxels: 4 sd^2 (1 - q^(k^2))^2; its root's ratio, (1 + q)(1 + q^2).
    q = _correlation_of(np.sqrt(v_far / v_near))
    q_axial = float(np.clip(1 - (1 - q) * v_axial / v_near, 0, _MOST_CORRELATED))
    log_level = _log_average(near, core, voxel_size)
    return (np.exp(log_level / 2) / (2 * (1 - q))).astype(np.float32), (q, q, q_axial)


def _correlation_of(ratio: float) -> float:
    """Return q in [0, 0.98] of (1 + q)(1 + q^2) = ratio."""
    if ratio <= 1:
        return 0.0
    (real,) = (r.real for r in np.roots([1, 1, 1, 1 - ratio]) if abs(r.imag) < 1e-9)
    return float(min(real, _MOST_CORRELATED))


def _mixed_difference(x: NDArray[np.float32], axes: tuple[int, int], step: int) -> NDArray[np.float32]:
    """Return the mixed second difference along two axes about each voxel, repeated values beyond the border."""
    for axis in axes:
        index = np.arange(x.shape[axis])
        above = np.minimum(index + step - step // 2, x.shape[axis] - 1)
        x = x.take(above, axis) - x.take(np.maximum(index - step // 2, 0), axis)
    return x


def _log_average(
    variance: NDArray[np.float32], core: NDArray[np.bool_], voxel_size: Sequence[float]
) -> NDArray[np.float32]:
    """Return the mean logarithm of a variance around each voxel, of its plane where little tissue is near."""
    there = core.astype(np.float32)
    log = np.where(core, np.log(np.maximum(variance, 1e-12)), 0).astype(np.float32)
    size = [max(1, round(width / side)) for width, side in zip(_LEVEL_WINDOW, voxel_size, strict=True)]
    total, count = (ndimage.uniform_filter(v, size, mode="constant") for v in (log, there))
    of_scan = log.sum(dtype=np.float64) / there.sum()
    planes = (log.sum((0, 1)) + _PLANE_PRIOR * of_scan) / (there.sum((0, 1)) + _PLANE_PRIOR)
    return ((total + _PRIOR * planes) / (count + _PRIOR)).astype(np.float32)


def _wide(activity: NDArray[np.float32], voxel_size: Sequence[float]) -> NDArray[np.float32]:
    """Return an image smoothed over about 60 mm: three running means, whose variances add up to the Gaussian's."""
    width = np.sqrt(12 / 3) * _SURROUND_FWHM / FWHM_PER_SIGMA
    for _ in range(3):
        activity = ndimage.uniform_filter(
            activity, [max(1, round(width / side)) for side in voxel_size], mode="reflect"
        )
    return activity
