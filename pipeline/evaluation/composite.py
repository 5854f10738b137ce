"""A composite score in the manner of the UDPET challenge: image, organs and lesions in one number, in our reading.

Public are the weights: of doses 5 to 35 %; of each dose 30 % the image, 35 % the organs, 35 % the lesions; of these the
shares below. Not public are how a figure becomes points, which organs, which texture features and which peak. What is
chosen here is said at each place. Scores of another program, the challenge's too, are not comparable with these.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from pipeline.evaluation.image_quality import psnr
from pipeline.evaluation.quantification import each_region

__all__ = ["DOSE_WEIGHTS", "CompositeReference", "RegionReference", "composite_reference", "weighted_over_doses"]

DOSE_WEIGHTS: dict[float, float] = {4.0: 0.05, 10.0: 0.15, 20.0: 0.20, 50.0: 0.25, 100.0: 0.35}
"""Share of each dose reduction factor."""
_GLOBAL_SHARE, _ORGANS_SHARE, _LESIONS_SHARE = 0.30, 0.35, 0.35
_GLOBAL = {"nrmse": 0.3, "psnr": 0.3, "ssim": 0.4}
_REGION = {
    **{"suv_max": 0.25, "suv_mean": 0.20, "tlm": 0.15, "psnr": 0.10},
    **dict.fromkeys(("rms", "p90", "median", "contrast", "correlation", "entropy"), 0.05),
}
_PSNR_NOTHING, _PSNR_EVERYTHING = 20.0, 60.0  # [dB]
_ENTROPY_STEP = 0.25  # [g/mL]
_FEWEST_VOXELS = 8


@dataclass(frozen=True)
class RegionReference:
    """One organ or lesion of the full-dose image."""

    box: tuple[slice, ...]
    """Its bounding box."""
    inside: NDArray[np.bool_]
    """The region within its box."""
    suv: NDArray[np.floating]
    """Full dose in the region [g/mL], shape (n,)."""
    features: Mapping[str, float]
    """Figures of the full dose, by name."""

    def score(self, image: NDArray[np.floating]) -> float:
        """Return the points of this region in an SUV image (X, Y, Z) [g/mL], 0 to 1."""
        part, peak = image[self.box], float(self.suv.max())
        found = _features(part, self.inside)
        points = {name: _relative_points(found[name], true) for name, true in self.features.items()}
        points["psnr"] = _psnr_points(psnr(part[self.inside], self.suv, data_range=peak)) if peak > 0 else 0.0
        return sum(share * points[name] for name, share in _REGION.items())


@dataclass(frozen=True)
class CompositeReference:
    """The regions of a full-dose image that denoised images of the subject are scored in."""

    organs: Sequence[RegionReference]
    lesions: Sequence[RegionReference]

    def score(self, image: ArrayLike, *, nrmse: float, psnr_at_maximum: float, ssim: float) -> float:
        """Return the score of a denoised SUV image (X, Y, Z) [g/mL] at one dose; NaN without lesions or organs.

        The full-dose image itself has 1. A figure of a region earns 1 - |figure / that of full dose - 1|, at least 0.
        PSNR earns nothing at 20 dB and everything from 60 dB on; its peak is the highest SUV of the full dose, in the
        region or in the image. NRMSE earns one less itself, SSIM itself. TLM, the total lesion metabolism, is SUVmean x
        the volume of the label, so its error is that of SUVmean. The texture features are, over neighbours along the
        axes, contrast (mean squared difference) and correlation, and the entropy in steps of 0.25 SUV. Regions of a
        kind weigh alike.

        `nrmse`, `psnr_at_maximum` [dB] and `ssim` are those of the whole image against full dose.
        """
        if not (self.organs and self.lesions):
            return float("nan")
        suv = np.asarray(image)
        points = {"nrmse": max(0.0, 1 - nrmse), "psnr": _psnr_points(psnr_at_maximum), "ssim": max(0.0, ssim)}
        of_image = sum(share * points[name] for name, share in _GLOBAL.items())
        organs, lesions = (
            float(np.mean([region.score(suv) for region in kind])) for kind in (self.organs, self.lesions)
        )
        return float(_GLOBAL_SHARE * of_image + _ORGANS_SHARE * organs + _LESIONS_SHARE * lesions)


def composite_reference(
    full: ArrayLike, *, organs: Sequence[NDArray[np.bool_]], lesion_labels: NDArray[np.integer]
) -> CompositeReference:
    """Return what denoised images of a subject are scored against.

    The full-dose image [g/mL], the masks of organs and the labels of lesions, 0 outside, have one shape (X, Y, Z).
    Regions of fewer than 8 voxels are left out: they have no texture.
    """
    suv = np.asarray(full)
    masks = [(box, mask[box]) for mask in organs for box in ndimage.find_objects(mask.astype(np.int8))]
    labelled = [(box, inside) for _, box, inside in each_region(lesion_labels)]
    of_organs, of_lesions = (
        [_region(suv, box, inside) for box, inside in kind if inside.sum() >= _FEWEST_VOXELS]
        for kind in (masks, labelled)
    )
    return CompositeReference(of_organs, of_lesions)


def weighted_over_doses(scores: Mapping[float, float]) -> float:
    """Return the score over doses from those of dose reduction factor 4, 10, 20, 50 and 100; NaN if one is missing."""
    return sum(weight * scores.get(factor, float("nan")) for factor, weight in DOSE_WEIGHTS.items())


def _region(full: NDArray[np.floating], box: tuple[slice, ...], inside: NDArray[np.bool_]) -> RegionReference:
    part = full[box]
    return RegionReference(box, inside, part[inside], _features(part, inside))


def _features(part: NDArray[np.floating], inside: NDArray[np.bool_]) -> dict[str, float]:
    """Return every figure of a region but its PSNR, `part` being the image in the region's bounding box."""
    suv = part[inside].astype(np.float64)
    mean = float(suv.mean())
    median, p90 = (float(value) for value in np.percentile(suv, (50, 90)))
    contrast, correlation = _neighbours(part, inside)
    _, counts = np.unique(np.floor(suv / _ENTROPY_STEP), return_counts=True)
    shares = counts / counts.sum()
    return {
        "suv_max": float(suv.max()),
        "suv_mean": mean,
        "tlm": mean * len(suv),  # the volume of a voxel cancels in the ratio
        "rms": float(np.sqrt(np.mean(suv**2))),
        "p90": p90,
        "median": median,
        "contrast": contrast,
        "correlation": correlation,
        "entropy": float(-(shares * np.log2(shares)).sum()),
    }


def _neighbours(part: NDArray[np.floating], inside: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the mean squared difference of neighbours along the axes, both in the region, and their correlation."""
    first, second = [], []
    for axis in range(3):
        low = tuple(slice(None, -1) if i == axis else slice(None) for i in range(3))
        high = tuple(slice(1, None) if i == axis else slice(None) for i in range(3))
        pairs = inside[low] & inside[high]
        first.append(part[low][pairs])
        second.append(part[high][pairs])
    a, b = (np.concatenate(values).astype(np.float64) for values in (first, second))
    if not len(a):
        return 0.0, 0.0
    contrast = float(np.mean((a - b) ** 2))
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt(np.mean(a**2) * np.mean(b**2)))
    return contrast, float(np.mean(a * b)) / spread if spread else 0.0


def _relative_points(found: float, true: float) -> float:
    if true == 0:
        return float(found == 0)
    return max(0.0, 1 - abs(found / true - 1))


def _psnr_points(decibels: float) -> float:
    return float(np.clip((decibels - _PSNR_NOTHING) / (_PSNR_EVERYTHING - _PSNR_NOTHING), 0, 1))
