"""The filters that a network has to beat: Gaussian, non-local means and BM4D, each with one setting."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from pipeline.errors import PETError
from pipeline.evaluation import noise_sd
from pipeline.images import body_mask, gaussian_filter_mm

__all__ = ["FILTERS", "Filter", "bm4d_filter", "filters_named", "nonlocal_means_filter", "root_noise"]

_PATCH_SIZE = 5  # voxels a side
_PATCH_DISTANCE = 3  # voxels to the farthest patch compared, so 7 x 7 x 7 patches
_SEARCH = 5  # voxels to the farthest block of BM4D; its own 7 takes a seventh longer for the same PSNR
_GIVEN_BACK_FWHM = 30.0  # [mm]
_MARGIN = 20.0  # [mm] of air around the body that is filtered with it


def nonlocal_means_filter(
    suv: ArrayLike, *, strength: float, voxel_size: Sequence[float], noise: float | None = None
) -> NDArray[np.float32]:
    """Return non-local means of the square root of SUV (Buades 2005, CVPR 2:60; Darbon 2008, ISBI 1331).

    The variance of a PET image rises with its uptake and non-local means wants it constant: the filter works on the
    square root, and its result is squared. Weights are exp(-d / h^2) with d the mean squared difference of patches of
    5 x 5 x 5 voxels within 7 x 7 x 7, and h = `strength` x noise of the square root, measured in the body of this
    scan. The square of a mean root is less than the mean, by the variance that was averaged away: it is given back as
    the local mean, over a Gaussian of 30 mm, of what the filter took. Farther than 20 mm from the body's box the
    result is that local mean alone.

    Everything was chosen for the highest PSNR, on 40 planes through the liver of a simulated patient with 5 mm voxels,
    each with its best strength, at a fourth, a twentieth and a hundredth of the dose: without giving back 0.3, 1.3
    and 3.2 dB less, and the liver 1, 5 and 23 % too low; on SUV itself about 1, 0.8 and 0.4 dB less; patches of 3 or
    7 voxels and a search of 9 x 9 x 9 voxels no better anywhere.

    `suv` has shape (X, Y, Z) [g/mL]; negative values count as 0. `strength` is h relative to the noise; 0 returns a
    copy. `voxel_size` is in mm. `noise` is that of a larger scan which this is a part of, see :func:`root_noise`.

    Raises
    ------
    ValueError
        The strength is negative.
    """
    # Imported here: the rest of the package does without.
    from skimage.restoration import denoise_nl_means

    def smooth(root: NDArray[np.float32], h: float) -> NDArray[np.float32]:
        return denoise_nl_means(root, patch_size=_PATCH_SIZE, patch_distance=_PATCH_DISTANCE, h=h, fast_mode=True)

    return _on_the_root(suv, smooth, strength=strength, voxel_size=voxel_size, noise=noise)


def bm4d_filter(
    suv: ArrayLike, *, strength: float, voxel_size: Sequence[float], noise: float | None = None
) -> NDArray[np.float32]:
    """Return BM4D of the square root of SUV (Maggioni 2013, IEEE TIP 22:119), by its authors' package ``bm4d``.

    Only its first stage, collaborative hard thresholding: with white noise assumed the second takes twice as long again
    and lowered PSNR on a simulated patient with 5 mm voxels at a fourth of the dose, by 0.2 dB. The root, what is given
    back, and the arguments are those of :func:`nonlocal_means_filter`; `strength` is BM4D's noise SD relative to the
    noise that was measured. The licence of ``bm4d`` allows non-commercial use only.

    Raises
    ------
    ValueError
        The strength is negative.
    PETError
        The package is not installed.
    """
    if find_spec("bm4d") is None:
        raise PETError("bm4d is not installed, expected it for the filter of that name: pip install bm4d")
    from bm4d import BM4DProfile, BM4DStages, bm4d

    def smooth(root: NDArray[np.float32], sd: float) -> NDArray[np.float32]:
        profile = BM4DProfile()
        profile.num_threads = 1  # so that the result is the same everywhere
        profile.search_window_ht = (_SEARCH,) * 3
        stage = BM4DStages.HARD_THRESHOLDING
        denoised = bm4d(root.astype(np.float64), float(sd), profile=profile, stage_arg=stage)
        return denoised.reshape(root.shape).astype(np.float32)

    return _on_the_root(suv, smooth, strength=strength, voxel_size=voxel_size, noise=noise)


def root_noise(suv: ArrayLike, *, voxel_size: Sequence[float]) -> float:
    """Return the noise of the square root of SUV in the body; 0 where there is no body. Shape (X, Y, Z) [g/mL]."""
    volume = np.asarray(suv)
    body = body_mask(volume, voxel_size=voxel_size)
    return noise_sd(np.sqrt(np.maximum(volume, 0)), mask=body) if body.any() else 0.0


def _on_the_root(
    suv: ArrayLike,
    smooth: Callable[[NDArray[np.float32], float], NDArray[np.float32]],
    *,
    strength: float,
    voxel_size: Sequence[float],
    noise: float | None,
) -> NDArray[np.float32]:
    """Filter the square root in the body's box, square it, and give back what is missing at large scale."""
    if not strength >= 0:
        raise ValueError(f"strength must not be negative, found {strength}")
    volume = np.array(suv, dtype=np.float32)
    if noise is None:
        noise = root_noise(volume, voxel_size=voxel_size)
    if strength * noise == 0:
        return volume
    box = _body_box(volume, voxel_size)
    filtered = np.zeros_like(volume)
    filtered[box] = smooth(np.sqrt(np.maximum(volume[box], 0)), strength * noise) ** 2
    return filtered + gaussian_filter_mm(volume - filtered, fwhm=_GIVEN_BACK_FWHM, voxel_size=voxel_size)


def _body_box(suv: NDArray[np.float32], voxel_size: Sequence[float]) -> tuple[slice, ...]:
    """Return the box of the body and some air; the whole image where there is no body."""
    found = ndimage.find_objects(body_mask(suv, voxel_size=voxel_size).astype(np.uint8))
    if not found:
        return (slice(None),) * 3
    margin = [int(np.ceil(_MARGIN / size)) for size in voxel_size]
    return tuple(slice(max(0, s.start - m), s.stop + m) for s, m in zip(found[0], margin, strict=True))


@dataclass(frozen=True)
class Filter:
    """A filter and the settings that are tried."""

    apply: Callable[[NDArray[np.floating], float, Sequence[float], float], NDArray[np.floating]]
    """Denoised SUV of (SUV, setting, voxel size [mm], noise of the whole scan's square root)."""
    candidates: tuple[float, ...]
    """Settings, rising."""
    unit: str
    """What a setting is."""
    label: str
    """What a person calls it."""


def _gaussian(
    suv: NDArray[np.floating], fwhm: float, voxel_size: Sequence[float], noise: float
) -> NDArray[np.floating]:
    return gaussian_filter_mm(suv, fwhm=fwhm, voxel_size=voxel_size)


def _nonlocal_means(
    suv: NDArray[np.floating], strength: float, voxel_size: Sequence[float], noise: float
) -> NDArray[np.floating]:
    return nonlocal_means_filter(suv, strength=strength, voxel_size=voxel_size, noise=noise)


def _bm4d(
    suv: NDArray[np.floating], strength: float, voxel_size: Sequence[float], noise: float
) -> NDArray[np.floating]:
    return bm4d_filter(suv, strength=strength, voxel_size=voxel_size, noise=noise)


FILTERS: Mapping[str, Filter] = MappingProxyType(
    {
        "gaussian": Filter(_gaussian, (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16), "width [mm]", "Gaussian"),
        "nonlocal_means": Filter(
            _nonlocal_means, (0, 1, 1.5, 1.75, 2, 2.25, 2.5, 3, 3.5, 4, 5, 6, 8), "strength", "Non-local means"
        ),
        "bm4d": Filter(_bm4d, (0, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 8), "strength", "BM4D"),
    }
)
"""The filters by name."""


def filters_named(names: Sequence[str]) -> tuple[str, ...]:
    """Check names of filters, and return them once each, in the order of FILTERS.

    Raises
    ------
    PETError
        If one is not known, or not installed.
    """
    if unknown := [name for name in names if name not in FILTERS]:
        raise PETError(f"filter {unknown[0]!r} is not known, expected {', '.join(FILTERS)}")
    if "bm4d" in names and find_spec("bm4d") is None:
        raise PETError("filter 'bm4d' is not installed, expected it (pip install bm4d; non-commercial licence)")
    return tuple(name for name in FILTERS if name in names)
