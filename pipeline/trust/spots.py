"""Is it there: how often noise alone makes a spot as strong, for each local maximum and each region of a scan."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from pipeline.constants import OSEM_NOISE_POWER
from pipeline.evaluation.hot_spots import is_above_background
from pipeline.images import ball_offsets, label_touching, shell_around
from pipeline.trust.noise_field import NoiseField, affine_of, compared_images, n_end_slices, noise_fields

__all__ = [
    "SIMULATED_NULL",
    "SPOT_COLUMNS",
    "SPOT_FWHM",
    "LargestSpot",
    "Spots",
    "Support",
    "background_around",
    "largest_spot",
    "spots_of",
    "support_in_words",
]

Support = Literal["supported", "uncertain", "not supported by the data"]

SPOT_COLUMNS: dict[str, str] = {
    "region": "number in the lesion table of the region at the place; 0 outside of them",
    "x_mm": "place of the maximum, +x is the patient's right [mm]",
    "y_mm": "place of the maximum, +y is anterior [mm]",
    "z_mm": "place of the maximum, +z is superior [mm]",
    "suv_max": "of the denoised image at the place [g/mL]",
    "suv_background": "median of the denoised image around it [g/mL]",
    "suv_excess": "over the background, under a Gaussian of 10 mm [g/mL]",
    "strength": "excess in units of its error",
    "probability": "that noise alone makes a spot as strong anywhere in such a scan",
    "support": "supported, uncertain, or not supported by the data",
}
"""Meaning and unit of the columns of `Spots.spots` and `Spots.regions`, in order."""

SPOT_FWHM = 10.0
"""Width of the Gaussian that a spot is measured under [mm]."""
SUPPORTED = 0.01
"""Probability below which a spot is "supported"."""
NOT_SUPPORTED = 0.5
"""Probability from which it is "not supported by the data"."""

_SHELL = (15.0, 25.0)  # [mm] from the centre of a spot: its background
_SHELL_SPACING = 5.0  # [mm] at which its voxels are taken
_RIM = (5.0, 15.0)  # [mm] from the surface of a region: its background
_TEXTURE = 0.07  # of the background: how uneven tissue is without any spot
_LEAST_SD = 0.07  # [g/mL] in the dark
_EULER = 0.5772156649


@dataclass(frozen=True)
class LargestSpot:
    """How strong the strongest spot is that noise alone makes in a scan: a Gumbel distribution."""

    location: float
    scale: float
    source: str
    """What it was measured on, to be quoted with every probability."""

    @classmethod
    def of_replicates(cls, strongest: ArrayLike) -> "LargestSpot":
        """Return the distribution that replicates of a scan without its spots show, by the method of moments.

        `strongest` is what `largest_spot` says of each replicate, at least three.

        Raises
        ------
        ValueError
            There are fewer.
        """
        values = np.asarray(strongest, dtype=np.float64)
        if values.size < 3:
            raise ValueError(f"LargestSpot: {values.size} replicates, expected at least 3")
        scale = max(float(values.std(ddof=1)) * np.sqrt(6) / np.pi, 1e-6)
        location = float(values.mean()) - _EULER * scale
        return cls(location, scale, f"{values.size} repeats of this scan without its spots")

    def probability(self, strength: ArrayLike) -> NDArray[np.float64]:
        """Return the probability that noise alone makes a spot at least so strong anywhere in a scan."""
        z = (np.asarray(strength, dtype=np.float64) - self.location) / self.scale
        return -np.expm1(-np.exp(-z))


SIMULATED_NULL = LargestSpot(
    3.67,
    1.08,
    "216 simulated scans of 36 patients, 13 scanners and four tracers at DRF 2 to 100, away from their ends",
)
"""Fitted to the strongest false spot of each scan by `LargestSpot.of_replicates`; of these scans 4.2 % have a stronger
one than its probability of 5 % says, and 0.9 % than that of 1 %."""


@dataclass(frozen=True)
class Spots:
    """The spots of a scan and of its regions, or why they cannot be judged."""

    statement: str
    """The result in one line."""
    spots: pd.DataFrame
    """One row per local maximum above its background, strongest first, columns SPOT_COLUMNS."""
    regions: pd.DataFrame
    """The same for each region of the labels, in their order, at its maximum and over the tissue around it."""
    rule: str
    """What the words mean, and what the probability was measured on."""


def support_in_words(probability: float, *, at_end: bool = False) -> Support:
    """Return what a probability of noise alone means for a spot, which may lie at an end of the scan."""
    if probability < SUPPORTED:
        return "uncertain" if at_end else "supported"
    return "uncertain" if probability < NOT_SUPPORTED else "not supported by the data"


def spots_of(
    noisy: ArrayLike,
    denoised: ArrayLike,
    *,
    voxel_size: Sequence[float],
    affine: NDArray[np.floating] | None = None,
    body: NDArray[np.bool_] | None = None,
    labels: NDArray[np.integer] | None = None,
    fields: Sequence[NoiseField] = (),
    null: LargestSpot = SIMULATED_NULL,
) -> Spots:
    """Return the spots of a denoised scan, and of its regions, with the probability that noise alone makes such a one.

    A spot is a local maximum of the denoised scan x in the body above 1.5 x background + 0.3 SUV; the background b is
    the median of the body 15 to 25 mm around it. Its strength is (G x - b) / sqrt((s b)^2 + (0.07 b)^2 + 0.07^2), G a
    Gaussian of 10 mm, s the relative SD that `noise_fields` finds in noisy over denoised there, for the uptake b. Of
    what was tried this tells true from false spots best; the excess of the noisy scan over its SD is worse.

    Parameters
    ----------
    noisy, denoised
        SUV on one grid, shape (X, Y, Z) [g/mL].
    voxel_size
        Spacing along X, Y, Z [mm].
    affine
        From voxel to mm (RAS+); None counts from the centre of voxel (0, 0, 0).
    body
        Outline of the patient, shape (X, Y, Z); None finds it in the denoised image.
    labels
        Regions, 0 outside, shape (X, Y, Z).
    fields
        What `noise_fields` gives for these images, if it is at hand; that of 10 mm is made where it is missing.
    null
        How strong spots by noise alone are; see `LargestSpot.of_replicates` for that of this very scan.

    Raises
    ------
    ValueError
        Shapes differ.
    """
    y, x, mask, reason = compared_images(noisy, denoised, voxel_size=voxel_size, body=body)
    if labels is not None and labels.shape != x.shape:
        raise ValueError(f"shapes {labels.shape} and {x.shape} of labels and images, expected one shape (X, Y, Z)")
    n_end = n_end_slices(SPOT_FWHM, voxel_size[2])
    rule = (
        f"supported: noise alone makes a spot as strong in fewer than {SUPPORTED:.0%} of such scans; not supported by "
        f"the data: in {NOT_SUPPORTED:.0%} or more; uncertain: between. A spot is uncertain at best in the first "
        f"and last {n_end} slices: fewer counts and no neighbours make stronger false spots there. "
        f"Measured on {null.source}"
    )
    if reason is not None:
        empty = pd.DataFrame(columns=list(SPOT_COLUMNS))
        return Spots(reason, empty, empty, rule)
    field = next((field for field in fields if field.fwhm == SPOT_FWHM), None)
    if field is None:
        (field,) = noise_fields(y, x, voxel_size=voxel_size, scales=[SPOT_FWHM], body=mask)
    image = x[field.box]
    numbers = np.zeros(image.shape, dtype=np.int32) if labels is None else labels[field.box]
    to_mm = affine_of(affine, voxel_size)
    places, background = _local_maxima(image, field, voxel_size)
    inner = (n_end, x.shape[2] - n_end)
    spots = _table(image, field, places, background, numbers, to_mm, null, inner)
    spots = spots.sort_values("strength", ascending=False, kind="stable", ignore_index=True)
    regions = _table(image, field, *_region_maxima(image, numbers, voxel_size), numbers, to_mm, null, inner)
    n_supported = int((spots["support"] == "supported").sum())
    return Spots(f"{n_supported} of {len(spots)} spots are supported by the data", spots, regions, rule)


def largest_spot(
    noisy: ArrayLike, denoised: ArrayLike, *, voxel_size: Sequence[float], body: NDArray[np.bool_] | None = None
) -> float:
    """Return the strength of the strongest spot; 0 without any. Of a repeat without true spots it is a false one."""
    strengths = spots_of(noisy, denoised, voxel_size=voxel_size, body=body).spots["strength"]
    return float(strengths.max()) if len(strengths) else 0.0


def _local_maxima(
    image: NDArray[np.float32], field: NoiseField, voxel_size: Sequence[float]
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the voxels (n, 3) of the local maxima that stand out of their background, and that background."""
    # Above the background there is at least 0.3 SUV.
    peaks = field.body & (image == ndimage.maximum_filter(image, 3)) & is_above_background(image, 0)
    # Equal neighbours on a plateau are one spot: its first voxel.
    labels, _ = label_touching(peaks)
    _, first = np.unique(labels[peaks], return_index=True)
    places = np.argwhere(peaks)[np.sort(first)]
    background = background_around(image, places, body=field.body, voxel_size=voxel_size)
    kept = is_above_background(image[tuple(places.T)], background)
    return places[kept], background[kept]


def background_around(
    image: NDArray[np.floating], places: NDArray[np.intp], *, body: NDArray[np.bool_], voxel_size: Sequence[float]
) -> NDArray[np.float32]:
    """Return the median of the body 15 to 25 mm around voxels (n, 3) [g/mL], 0 where no body is there."""
    step = np.maximum(1, np.round(_SHELL_SPACING / np.asarray(voxel_size))).astype(int)
    offsets = step * ball_offsets(_SHELL[1], voxel_size=(step * np.asarray(voxel_size)).tolist())
    offsets = offsets[((offsets * np.asarray(voxel_size)) ** 2).sum(axis=1) >= _SHELL[0] ** 2]
    reach = np.abs(offsets).max(axis=0)
    padded = np.pad(np.where(body, image, np.float32(np.inf)), [(n, n) for n in reach], constant_values=np.inf)
    strides = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    values = np.sort(padded.ravel()[((places + reach) @ strides)[:, None] + offsets @ strides], axis=1)
    n_inside = np.count_nonzero(np.isfinite(values), axis=1)
    middle = np.take_along_axis(values, np.maximum(n_inside[:, None] - 1, 0) // 2, axis=1)[:, 0]
    return np.where(n_inside > 0, middle, 0).astype(np.float32)


def _region_maxima(
    image: NDArray[np.float32], labels: NDArray[np.integer], voxel_size: Sequence[float]
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the hottest voxel (n, 3) of each region, and the median of what lies around it in no region."""
    places, background = [], []
    for number, part in enumerate(ndimage.find_objects(labels), start=1):
        if part is None:
            continue
        box, rim = shell_around(labels, number, part, inner=_RIM[0], outer=_RIM[1], voxel_size=voxel_size)
        inside = labels[box] == number
        values = np.where(inside, image[box], -np.inf)
        places.append(
            [i + p.start for i, p in zip(np.unravel_index(np.argmax(values), values.shape), box, strict=True)]
        )
        background.append(np.median(image[box][rim if rim.any() else ~inside]) if not inside.all() else 0.0)
    return np.array(places, dtype=np.intp).reshape(-1, 3), np.array(background, dtype=np.float32)


def _table(
    image: NDArray[np.float32],
    field: NoiseField,
    places: NDArray[np.intp],
    background: NDArray[np.float32],
    labels: NDArray[np.integer],
    to_mm: NDArray[np.float64],
    null: LargestSpot,
    inner: tuple[int, int],
) -> pd.DataFrame:
    """Return the table of spots at voxels (n, 3) of the field's box; `inner` are the slices that are not of an end."""
    at = tuple(places.T)
    smoothed = field.second[at]
    # The noise that there would be without the spot.
    share = np.maximum(background, _LEAST_SD) / np.maximum(smoothed, _LEAST_SD)
    noise = field.spread[at] * share ** (OSEM_NOISE_POWER - 1) * background
    excess = smoothed - background
    strength = excess / np.sqrt(noise**2 + (_TEXTURE * background) ** 2 + _LEAST_SD**2)
    probability = null.probability(strength)
    corner = np.array([part.start for part in field.box])
    slices = places[:, 2] + corner[2]
    at_end = (slices < inner[0]) | (slices >= inner[1])
    x_mm, y_mm, z_mm = (to_mm[:3, :3] @ (places + corner).T + to_mm[:3, 3:]).reshape(3, -1)
    columns = [labels[at], x_mm, y_mm, z_mm, image[at], background, excess, strength, probability]
    table = pd.DataFrame(dict(zip(SPOT_COLUMNS, columns, strict=False)))
    table["support"] = [
        support_in_words(float(p), at_end=bool(end)) for p, end in zip(probability, at_end, strict=True)
    ]
    return table
