"""Every region of a scan measured beside denoised: SUVmean, SUVpeak and TLG, and one recommended value of each.

The region is taken as it was drawn; its truth is the scan without noise, which the scanner's resolution has blurred.

A region that is drawn in the noisy image, too, holds voxels that are there because of their noise, and the mean of the
noisy image over them is too high: on simulated scans of a twentieth of the dose by a quarter from 15 to 25 mm. So the
recommended value takes from the noisy image only what the denoised image puts into the region as well. It takes it only
in small regions, where a network loses signal, and only well above the threshold that drew the region: near it the
noise decided whether there is a region at all, and noise that passed is too high::

    recommended = denoised + w (measured - denoised, over the part that the denoised image draws, times that part)
    interval = recommended +- the root of (k SD of the measured value)^2 + (c recommended)^2

w is 1 in small regions well above the threshold, and falls linearly to 0 with the size and towards the threshold; w, k
and c are those of `RecommendationRule`. A region of which noise drew the larger part has no recommended value.

For SUVpeak the place is where the *denoised* image peaks in the region, and stays there: a maximum of the noisy image
would choose its noise. What noise the denoised image kept still chooses, and leaves large regions a bias upwards.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.evaluation.coverage import half_width
from pipeline.evaluation.quantification import PEAK_RADIUS, each_region, sphere_mean
from pipeline.images import ball_offsets, equivalent_diameter, gaussian_filter_mm, voxel_volume
from pipeline.trust.calibration import RecommendationRule, TrustCalibration
from pipeline.trust.noise_model import ScanNoise

__all__ = ["RegionParts", "RegionTrust", "TrustedValue", "measured_regions", "recommend", "region_parts", "resolution"]

LEVEL = 0.95
"""Probability that intervals are stated at."""
OUTLINE_FWHM = 8.0
"""Width of the Gaussian before a threshold draws outlines, that of `pipeline.images.regions_in_either` [mm]."""
LARGEST_NOISE_PART = 0.5
"""Part of a region that only the noisy image may draw for a value to be recommended."""
_VOXELS_TO_RESOLVE = 2.0


@dataclass(frozen=True)
class RegionParts:
    """What a recommendation is made of, for one quantity of one region [g/mL]."""

    diameter: float
    """Of the sphere of the region's volume [mm]."""
    measured: float
    """Mean of the noisy scan."""
    measured_sd: float
    """What counting gives it."""
    denoised: float
    """Mean, or peak, of the denoised scan."""
    difference: float
    """Measured less denoised, over the part that the denoised image draws, times that part of the whole."""
    drawn_by_noise: float
    """Part of the region that only the noisy image draws, 0 to 1."""
    over_threshold: float
    """Denoised SUVmean over the threshold that drew the region; infinite if it is not known."""


@dataclass(frozen=True)
class TrustedValue:
    """One quantity of one region: measured, denoised, and recommended, with 95 % intervals."""

    measured: float
    """In the noisy scan."""
    measured_sd: float
    """Standard deviation that counting gives it."""
    measured_low: float
    """Lower end of the interval that counting gives it."""
    measured_high: float
    """Upper end of it."""
    denoised: float
    """In the denoised scan."""
    corrected: float | None
    """The denoised value less the bias that repeats of the scan showed; None without repeats."""
    recommended: float | None
    """The best by rule; None where the region is smaller than the scan resolves, or noise drew most of it."""
    low: float | None
    """Lower end of the recommended value's interval."""
    high: float | None
    """Upper end of it."""


@dataclass(frozen=True)
class RegionTrust:
    """What can be said of one region; SUV [g/mL], TLG [g]."""

    number: int
    """Label of the region."""
    volume: float
    """Voxels times voxel volume [mL]."""
    diameter: float
    """Of the sphere of that volume [mm]."""
    suv_mean: TrustedValue
    """Mean of the region."""
    suv_peak: TrustedValue
    """Mean of a sphere of 1 mL where the denoised image peaks in the region."""
    tlg: TrustedValue
    """SUVmean times volume, which is taken as drawn."""
    drawn_by_noise: float
    """Part of the region that only the noisy image draws, 0 to 1."""
    statement: str
    """Empty, or why there is no recommended value: "not assessable: ..." or "drawn by the noise of the scan ..."."""


def resolution(noise: ScanNoise, *, post_filter: float | None = None) -> float:
    """Return below which size [mm] a scan cannot resolve: what is known of its resolution from below.

    The largest of two voxels, the width of the filter that its noise shows, and that of the filter that its header
    states (`post_filter`, full width at half maximum [mm]), the first two as geometric means of the three axes. The
    scanner's own blur is not known from the image and can only add to it.
    """
    voxels = _VOXELS_TO_RESOLVE * float(np.prod(noise.voxel_size)) ** (1 / 3)
    return max(voxels, float(np.prod(noise.correlation_fwhm)) ** (1 / 3), post_filter or 0.0)


def measured_regions(
    noisy: ArrayLike,
    denoised: ArrayLike,
    labels: NDArray[np.integer],
    *,
    noise: ScanNoise,
    calibration: TrustCalibration,
    threshold: float | None = None,
    drawn: NDArray[np.bool_] | None = None,
    post_filter: float | None = None,
    bias: Mapping[int, tuple[float, float]] | None = None,
) -> list[RegionTrust]:
    """Return what can be said of each region of a label volume, in order.

    Parameters
    ----------
    noisy, denoised
        SUV [g/mL], shape (X, Y, Z).
    labels
        0 outside, 1 to n inside, as of `pipeline.images.regions_in_either` of the two images.
    noise
        Of the noisy scan, with the calibration's coefficients.
    calibration
        Rules of recommendation.
    threshold
        SUV that drew the regions [g/mL]; None takes all of a region as drawn by something else than noise, and its
        value as far above what drew it.
    drawn
        What the denoised image alone draws, shape (X, Y, Z); by default what reaches the threshold after 8 mm.
    post_filter
        Filter that the header states [mm], see `resolution`.
    bias
        Of the denoised SUVmean and SUVpeak of every region by its number, from repeats of the scan [g/mL].

    Raises
    ------
    ValueError
        Shapes differ.
    """
    y, x = np.asarray(noisy), np.asarray(denoised)
    if not y.shape == x.shape == labels.shape == noise.voxel_sd.shape:
        raise ValueError(f"measured_regions: shapes {y.shape}, {x.shape}, {labels.shape} of images and labels differ")
    finest = resolution(noise, post_filter=post_filter)
    drawn = _drawn(x, threshold, noise) if drawn is None else drawn
    found = []
    for number, box, mask in each_region(labels):
        mean, peak = region_parts(y, x, box, mask, noise=noise, drawn=drawn, threshold=threshold)
        volume = int(mask.sum()) * voxel_volume(noise.voxel_size)
        statement = _why_not(mean, finest)
        of_mean, of_peak = (None, None) if bias is None else bias[number]
        suv_mean = _value(mean, None if statement else calibration.suv_mean, of_mean)
        found.append(
            RegionTrust(
                number=number,
                volume=volume,
                diameter=mean.diameter,
                suv_mean=suv_mean,
                suv_peak=_value(peak, None if statement else calibration.suv_peak, of_peak),
                tlg=_scaled(suv_mean, volume),
                drawn_by_noise=mean.drawn_by_noise,
                statement=statement,
            )
        )
    return found


def _why_not(parts: RegionParts, finest: float) -> str:
    """Return why a region has no recommended value; empty if it has one. `finest` is what the scan resolves [mm]."""
    if parts.diameter < finest:
        return f"not assessable: {parts.diameter:.1f} mm across, the scan resolves {finest:.1f} mm at best"
    if parts.drawn_by_noise >= 1:
        return "drawn by the noise of the scan alone: no recommended value"
    if parts.drawn_by_noise > LARGEST_NOISE_PART:
        return f"drawn by the noise of the scan to {100 * parts.drawn_by_noise:.0f} %: no recommended value"
    return ""


def _drawn(denoised: NDArray[np.floating], threshold: float | None, noise: ScanNoise) -> NDArray[np.bool_] | None:
    """Return what the denoised image alone draws, shape (X, Y, Z); None if everything counts as such."""
    if threshold is None:
        return None
    return gaussian_filter_mm(denoised, fwhm=OUTLINE_FWHM, voxel_size=noise.voxel_size) >= threshold


def region_parts(
    noisy: NDArray[np.floating],
    denoised: NDArray[np.floating],
    box: tuple[slice, ...],
    mask: NDArray[np.bool_],
    *,
    noise: ScanNoise,
    drawn: NDArray[np.bool_] | None,
    threshold: float | None,
) -> tuple[RegionParts, RegionParts]:
    """Return the parts of SUVmean and of SUVpeak of a region.

    `box` is the region's place in the images (X, Y, Z) and `mask` the region in it; `drawn` is what the denoised image
    alone draws, all of the region if None, and `threshold` the SUV that drew it [g/mL].
    """
    core = mask if drawn is None else mask & drawn[box]
    n, n_core = int(mask.sum()), int(core.sum())
    diameter = equivalent_diameter(n, voxel_size=noise.voxel_size)
    y, x = noisy[box].astype(np.float64), denoised[box].astype(np.float64)
    sd = noise.sd_of_mean(mask, box)
    part = n_core / n
    mean = RegionParts(
        diameter=diameter,
        measured=float(y[mask].mean()),
        measured_sd=sd,
        denoised=float(x[mask].mean()),
        difference=part * float((y - x)[core].mean()) if n_core else 0.0,
        drawn_by_noise=1 - part,
        over_threshold=float(x[mask].mean()) / threshold if threshold else np.inf,
    )
    ball_box, ball, highest = peak_sphere(denoised, box, mask, noise.voxel_size)
    at_peak = float(noisy[ball_box][ball].mean(dtype=np.float64))
    peak_sd = noise.sd_of_mean(ball, ball_box)
    peak = replace(mean, measured=at_peak, measured_sd=peak_sd, denoised=highest, difference=at_peak - highest)
    return mean, peak


def peak_sphere(
    image: NDArray[np.floating], box: tuple[slice, ...], mask: NDArray[np.bool_], voxel_size: Sequence[float]
) -> tuple[tuple[slice, ...], NDArray[np.bool_], float]:
    """Return the sphere of 1 mL around a voxel of a region that has the highest mean of an image (X, Y, Z).

    Its box, its mask in the box, what lies beyond the image left out, and its mean in the image's unit.
    """
    means = np.where(mask, sphere_mean(image, box, voxel_size), -np.inf)
    place = np.unravel_index(int(means.argmax()), means.shape)
    voxels = ball_offsets(PEAK_RADIUS, voxel_size=voxel_size) + place + [axis.start for axis in box]
    voxels = voxels[((voxels >= 0) & (voxels < image.shape)).all(axis=1)]
    first, last = voxels.min(axis=0), voxels.max(axis=0)
    ball = np.zeros(last - first + 1, dtype=bool)
    ball[tuple((voxels - first).T)] = True
    return tuple(slice(int(a), int(b) + 1) for a, b in zip(first, last, strict=True)), ball, float(means[place])


def measured_weight(diameter: ArrayLike, over_threshold: ArrayLike, rule: RecommendationRule) -> NDArray[np.float64]:
    """Return the weight, 0 to 1, of the measured value in regions of diameters [mm] and SUVmean over the threshold."""
    small = np.interp(np.asarray(diameter, dtype=np.float64), (rule.measured_to, rule.denoised_from), (1.0, 0.0))
    hot = np.interp(np.asarray(over_threshold, dtype=np.float64), (rule.doubtful_to, rule.certain_from), (0.0, 1.0))
    return small * hot


def recommend(parts: RegionParts, rule: RecommendationRule) -> tuple[float, float, float]:
    """Return the recommended value of a region and the ends of its 95 % interval, not below 0 [g/mL]."""
    weight = float(measured_weight(parts.diameter, parts.over_threshold, rule))
    value = parts.denoised + weight * parts.difference
    counting = rule.counting * parts.measured_sd * float(smallness(parts.diameter)) ** rule.size_power
    half = float(np.hypot(counting, rule.other * value))
    return value, max(value - half, min(value, 0.0)), value + half


def smallness(diameter: ArrayLike) -> NDArray[np.float64]:
    """Return how many times smaller than 20 mm regions of these diameters are, at 8 to 50 mm."""
    return 20 / np.clip(np.asarray(diameter, dtype=np.float64), 8, 50)


def _value(parts: RegionParts, rule: RecommendationRule | None, bias: float | None) -> TrustedValue:
    half = float(half_width(LEVEL)) * parts.measured_sd
    recommended, low, high = (None, None, None) if rule is None else recommend(parts, rule)
    return TrustedValue(
        measured=parts.measured,
        measured_sd=parts.measured_sd,
        measured_low=parts.measured - half,
        measured_high=parts.measured + half,
        denoised=parts.denoised,
        corrected=None if bias is None else parts.denoised - bias,
        recommended=recommended,
        low=low,
        high=high,
    )


def _scaled(value: TrustedValue, factor: float) -> TrustedValue:
    """Return a value times a number above 0."""
    scaled: dict[str, Any] = {name: None if v is None else v * factor for name, v in vars(value).items()}
    return TrustedValue(**scaled)
