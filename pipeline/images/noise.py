"""Noise meters: how noisy one image is, without a reference image and without knowing its dose.

`high_pass_energy` has published values of 1371 real scans, and follows uptake as well as noise. `noise_meter` is nearly
proportional to the noise itself. Both rise with the dose reduction factor, and neither compares one scanner or
reconstruction with another. `smoothed_noise_meter` does, within limits: what is left after a Gaussian of 8 mm depends
little on voxels and filters.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from pipeline.constants import OSEM_NOISE_POWER
from pipeline.errors import UndefinedMeasureError
from pipeline.images.gaussian import gaussian_filter_mm
from pipeline.images.regions import body_mask

__all__ = [
    "PUBLISHED_HIGH_PASS_ENERGY",
    "high_pass_energy",
    "high_pass_energy_table",
    "noise_meter",
    "smoothed_noise_meter",
]

PUBLISHED_HIGH_PASS_ENERGY: dict[str, dict[float, float]] = {
    "Quadra": {1: 0.0485, 4: 0.0607, 10: 0.0760, 20: 0.0947, 50: 0.1297, 100: 0.1640},
    "uEXPLORER": {1: 0.0432, 4: 0.0534, 10: 0.0672, 20: 0.0838, 50: 0.1243, 100: 0.1801},
}
"""Medians of the UDPET training data by dose reduction factor; 1368 of 1370 patients rise from dose to dose."""

_VOXEL_SIZE = 1.65  # [mm] that the published values were computed at
_SIGMA = 2.0  # [voxels] of that size
_THRESHOLD = 0.1  # of the smoothed log1p(SUV): leaves out air
_SAME_SIZE = 0.02  # voxels this much larger or smaller are taken as they are
_REACH = int(4 * _SIGMA + 0.5)  # voxels, where the Gaussian ends
_PLANES = 64  # resampled planes at once: bounds the memory

_OFFSET = 0.1  # [g/mL], keeps air from dividing by zero
_MEAN_WIDTH = 7  # voxels of the local mean
_PERCENTILE = 20.0  # of the body: quiet tissue, where texture and edges add least
_FEWEST_VOXELS = 100
_SMOOTH = 8.0  # [mm] width of the Gaussian, and distance of the voxels that are compared
_SMOOTH_MEAN = 20.0  # [mm] width of the Gaussian of the local mean
_SMOOTH_WINDOW = 30.0  # [mm]
_SMOOTH_DEPTH = 25.0  # [mm] in plane below the skin
_DISC = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)[..., None]


def high_pass_energy(suv: ArrayLike, *, voxel_size: Sequence[float]) -> float:
    """Return the high-pass energy of log1p(SUV): mean |v - G(v)| over the voxels where G(v) > 0.1.

    v is log1p(SUV) on voxels of 1.65 mm and G a Gaussian of 2 such voxels (3.3 mm). Images of other voxels are
    resampled to 1.65 mm by trilinear interpolation first, as the published values were; coarse voxels hold no noise
    of that frequency, and read lower than fine ones: 5 mm are not comparable with the published values except in
    how they rise. Negative SUV counts as 0.

    Parameters
    ----------
    suv
        SUV image, shape (X, Y, Z) [g/mL].
    voxel_size
        Spacing along X, Y, Z [mm].

    Returns
    -------
    float
        0 where nothing is above the threshold. 2 s and 0.3 GB for 96 x 96 x 192 voxels of 5 mm.

    Raises
    ------
    ValueError
        The image is not three-dimensional.
    """
    image = np.clip(_volume(suv, "high_pass_energy"), 0, None)
    # Air costs as much as tissue: keep the part that can matter, and as much around it as the Gaussian reaches.
    margin = [int(np.ceil(_REACH * _VOXEL_SIZE / size)) + 2 for size in voxel_size]
    box = ndimage.find_objects((image > np.expm1(_THRESHOLD) / 4).astype(np.uint8))
    if not box:
        return 0.0
    part = tuple(
        slice(max(0, b.start - m), min(n, b.stop + m)) for b, m, n in zip(box[0], margin, image.shape, strict=True)
    )
    image = image[part]
    steps = [1.0 if abs(size / _VOXEL_SIZE - 1) <= _SAME_SIZE else _VOXEL_SIZE / size for size in voxel_size]
    image = _resampled(_resampled(image, 0, steps[0]), 1, steps[1])
    n_planes = _n_resampled(image.shape[2], steps[2])
    total, n_voxels = 0.0, 0
    for first in range(0, n_planes, _PLANES):
        start, stop = max(0, first - _REACH), min(n_planes, first + _PLANES + _REACH)
        slab = np.log1p(_resampled(image, 2, steps[2], start=start, stop=stop))
        smooth = ndimage.gaussian_filter(slab, _SIGMA, mode="nearest")
        inner = slice(first - start, min(first + _PLANES, n_planes) - start)
        inside = smooth[..., inner] > _THRESHOLD
        total += float(np.abs(slab[..., inner] - smooth[..., inner])[inside].sum(dtype=np.float64))
        n_voxels += int(inside.sum())
    return total / n_voxels if n_voxels else 0.0


def noise_meter(suv: ArrayLike, *, voxel_size: Sequence[float], body: NDArray[np.bool_] | None = None) -> float:
    """Return the noise of quiet tissue, nearly proportional to the square root of the dose reduction factor.

    The in-plane mixed second difference, which takes away whatever is linear in the plane, divided by
    (local mean + 0.1)^0.6, which takes away most of the dependence of OSEM noise on uptake; its local mean absolute
    value over 7 x 7 x 7 voxels; and of that the 20th percentile in the body. On simulated scans it is 1.38, 1.93,
    3.0, 4.3, 6.9, 10.0 times that of full dose at dose reduction factors 2, 4, 10, 20, 50, 100.

    Parameters
    ----------
    suv
        SUV image, shape (X, Y, Z) [g/mL], on its own grid: resampling would change the noise.
    voxel_size
        Spacing along X, Y, Z [mm], to find the body with.
    body
        Where to measure, shape (X, Y, Z); None finds the body in the image. Give one mask for all doses of a scan.

    Returns
    -------
    float
        For independent voxels of SD s in tissue of mean m, about 0.8 s / (m + 0.1)^0.6.

    Raises
    ------
    ValueError
        The image is not three-dimensional.
    UndefinedMeasureError
        It has no body of at least 100 voxels inside its borders.
    """
    x = _volume(suv, "noise_meter")
    inside = _body(x, body, voxel_size)
    mean = ndimage.uniform_filter(x, _MEAN_WIDTH, mode="nearest")
    # Away from the skin, whose edge is no noise.
    inside = ndimage.binary_erosion(inside, iterations=_MEAN_WIDTH // 2)
    return _relative_noise(x, mean, inside, distance=(1, 1), window=(_MEAN_WIDTH,) * 3)


def smoothed_noise_meter(
    suv: ArrayLike, *, voxel_size: Sequence[float], body: NDArray[np.bool_] | None = None
) -> float:
    """Return the noise of quiet tissue that a Gaussian of 8 mm leaves: most of it is that of any voxels and filters.

    Otherwise as `noise_meter`: differences at 8 mm, relative to the mean under a Gaussian of 20 mm, averaged over
    30 mm, 25 mm below the skin.

    Raises
    ------
    ValueError
        The image is not three-dimensional.
    UndefinedMeasureError
        It has no body of at least 100 voxels so deep.
    """
    x = _volume(suv, "smoothed_noise_meter")
    inside = _body(x, body, voxel_size)
    box = ndimage.find_objects(inside.astype(np.uint8))
    if box:  # air costs as much as tissue
        x, inside = x[box[0]], inside[box[0]]
    smooth, mean = (gaussian_filter_mm(x, fwhm=fwhm, voxel_size=voxel_size) for fwhm in (_SMOOTH, _SMOOTH_MEAN))
    # Beyond the first and the last slice the body goes on.
    depth = ndimage.binary_erosion(inside, _DISC, iterations=max(round(_SMOOTH_DEPTH / voxel_size[0]), 1))
    along_x, along_y = (max(round(_SMOOTH / side), 1) for side in voxel_size[:2])
    window = tuple(max(round(_SMOOTH_WINDOW / side), 1) for side in voxel_size)
    return _relative_noise(smooth, mean, depth, distance=(along_x, along_y), window=window)


def _body(x: NDArray[np.float32], body: NDArray[np.bool_] | None, voxel_size: Sequence[float]) -> NDArray[np.bool_]:
    inside = body_mask(x, voxel_size=voxel_size) if body is None else np.asarray(body, dtype=bool)
    if inside.shape != x.shape:
        raise ValueError(f"noise meter: image has shape {x.shape}, the body {inside.shape}")
    return inside


def _relative_noise(
    x: NDArray[np.float32],
    mean: NDArray[np.float32],
    inside: NDArray[np.bool_],
    *,
    distance: tuple[int, int],
    window: tuple[int, ...],
) -> float:
    """Return the 20th percentile of |mixed second difference| / 2 at a distance [voxels], relative to the mean."""
    i, j = distance
    part = slice(i // 2, i // 2 - i), slice(j // 2, j // 2 - j)
    inside, mean = inside[part], mean[part]
    if inside.sum() < _FEWEST_VOXELS:
        raise UndefinedMeasureError(f"{int(inside.sum())} voxels of body, expected at least {_FEWEST_VOXELS}")
    difference = np.abs(x[:-i, :-j] - x[i:, :-j] - x[:-i, j:] + x[i:, j:]) / 2
    difference /= (np.clip(mean, 0, None) + _OFFSET) ** OSEM_NOISE_POWER
    return float(np.percentile(ndimage.uniform_filter(difference, window, mode="nearest")[inside], _PERCENTILE))


def high_pass_energy_table(measured: Mapping[str, Sequence[Mapping[float, float]]]) -> pd.DataFrame:
    """Return the medians of `high_pass_energy` beside the published ones of two real scanners.

    Parameters
    ----------
    measured
        For each name, one dictionary per subject: dose reduction factor -> value; 1 is full dose.

    Returns
    -------
    pandas.DataFrame
        A row per scanner and set, a column per dose reduction factor, ``n`` subjects, and ``rising``: how many
        rise from each dose to the next lower one. Empty where a row lacks a dose, and for what is not published.
    """
    medians: dict[str, dict[float, float]] = {
        f"{name} (published)": values for name, values in PUBLISHED_HIGH_PASS_ENERGY.items()
    }
    counts: dict[str, tuple[float, float]] = dict.fromkeys(medians, (np.nan, np.nan))
    for name, subjects in measured.items():
        factors = sorted({factor for subject in subjects for factor in subject})
        medians[name] = {f: float(np.median([subject[f] for subject in subjects if f in subject])) for f in factors}
        rising = sum(bool((np.diff([subject[f] for f in sorted(subject)]) > 0).all()) for subject in subjects)
        counts[name] = len(subjects), rising
    table = pd.DataFrame.from_dict(medians, orient="index")
    table = table[sorted(table.columns)]
    table.insert(0, "n", [counts[name][0] for name in table.index])
    table.insert(1, "rising", [counts[name][1] for name in table.index])
    return table


def _volume(suv: ArrayLike, name: str) -> NDArray[np.float32]:
    x = np.asarray(suv, dtype=np.float32)
    if x.ndim != 3:
        raise ValueError(f"{name}: image has shape {x.shape}, expected (X, Y, Z)")
    return x


def _n_resampled(n: int, step: float) -> int:
    return int((n - 1) / step) + 1


def _resampled(
    x: NDArray[np.float32], axis: int, step: float, *, start: int = 0, stop: int | None = None
) -> NDArray[np.float32]:
    """Interpolate linearly along an axis at the positions step * (start, ..., stop - 1) [voxels]."""
    n = x.shape[axis]
    positions = np.arange(start, _n_resampled(n, step) if stop is None else stop) * step
    if step == 1:
        return np.take(x, positions.astype(int), axis)
    below = np.minimum(positions.astype(int), max(n - 2, 0))
    weight = (positions - below).astype(np.float32).reshape([-1 if k == axis else 1 for k in range(3)])
    low, high = np.take(x, below, axis), np.take(x, np.minimum(below + 1, n - 1), axis)
    return low + weight * (high - low)
