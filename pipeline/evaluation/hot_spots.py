"""What denoising may do to lesions where the truth is known, as in simulation: invent them or bias them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from pipeline.evaluation.metabolic_volume import metabolic_volumes
from pipeline.evaluation.quantification import each_region, measure_region
from pipeline.images import ball_offsets, equivalent_diameter, label_touching

__all__ = [
    "END_CLASSES",
    "LESION_BIAS_COLUMNS",
    "count_by_distance_from_ends",
    "false_hot_spots",
    "is_above_background",
    "lesion_bias",
]

_QUANTITIES = ("suv_max", "suv_peak", "suv_mean", "mtv", "tlg")
LESION_BIAS_COLUMNS = [
    *("region", "diameter_mm"),
    *(f"{quantity}_{end}" for quantity in _QUANTITIES for end in ("pred", "reference", "error_percent")),
]
"""Columns of `lesion_bias`."""

END_CLASSES: dict[str, tuple[float, float]] = {
    "within 3 slices of an end": (0, 3),
    "3 to 10 slices from it": (3, 10),
    "farther": (10, np.inf),
}
"""Distances from the nearer end of a scan, from and below [slices]; the first and the last slice are at 0."""


def is_above_background(suv: ArrayLike, background: ArrayLike) -> NDArray[np.bool_]:
    """Return whether SUV exceeds 1.5 x background + 0.3: what counts as a spot, in all rules of this package [g/mL]."""
    return np.asarray(suv) > 1.5 * np.asarray(background) + 0.3


def false_hot_spots(
    denoised: ArrayLike,
    noise_free: ArrayLike,
    *,
    voxel_size: Sequence[float],
    mask: NDArray[np.bool_] | None = None,
    tolerance: float = 10.0,
) -> NDArray[np.intp]:
    """Return the hot spots of the denoised image that the noise-free image lacks: voxel indices (n, 3), in array order.

    Their number is the score. A false hot spot is a local maximum among its 26 neighbours above 1.5 x background + 0.3
    SUV. The background is the highest SUV of the noise-free image within `tolerance` [mm], so that a true lesion, moved
    a little or not, and the edge of an organ explain themselves. Both images, SUV [g/mL], and `mask`, where to look,
    such as the body, have the shape (X, Y, Z); if `mask` is None, everywhere. `voxel_size` is in mm.

    Raises
    ------
    ValueError
        Shapes differ.
    """
    image, truth = np.asarray(denoised), np.asarray(noise_free)
    if image.shape != truth.shape or (mask is not None and mask.shape != image.shape):
        raise ValueError("false_hot_spots: images and mask must have one shape")
    # The background is at least the value at the spot itself: most voxels are out before any neighbourhood is read.
    spots = is_above_background(image, truth)
    if mask is not None:
        spots &= mask
    spots &= image == ndimage.maximum_filter(image, size=3, mode="nearest")
    # Equal neighbours on a plateau are one spot: keep the first voxel of each connected group.
    labels, _ = label_touching(spots)
    _, first = np.unique(labels[spots], return_index=True)
    found = np.argwhere(spots)[np.sort(first)]
    background = np.full(len(found), -np.inf)
    for offset in ball_offsets(tolerance, voxel_size=voxel_size):
        # Beyond the border lies the border's own value, as for the local maxima.
        neighbours = np.clip(found + offset, 0, np.array(image.shape) - 1)
        background = np.maximum(background, truth[tuple(neighbours.T)])
    return found[is_above_background(image[tuple(found.T)], background)]


def count_by_distance_from_ends(spots: NDArray[np.intp], *, n_slices: int) -> dict[str, int]:
    """Return how many hot spots lie how far from the ends of the scan, by the names of END_CLASSES.

    `spots` are voxel indices (n, 3) with the axial one last, `n_slices` the number of slices of the scan.
    """
    distance = np.minimum(spots[:, 2], n_slices - 1 - spots[:, 2])
    return {name: int(((distance >= low) & (distance < high)).sum()) for name, (low, high) in END_CLASSES.items()}


def lesion_bias(
    pred: ArrayLike,
    reference: ArrayLike,
    lesion_labels: NDArray[np.integer],
    *,
    voxel_size: Sequence[float],
) -> pd.DataFrame:
    """Return the error of SUVmax, SUVpeak, SUVmean, MTV and TLG of known lesions against a reference image [%].

    Both SUV images [g/mL] and the labels of the true lesions, 0 outside, lie on one grid (X, Y, Z); `voxel_size` is in
    mm. Choose the noise-free reconstruction as reference: against a noisy full-dose image SUVmax is biased by the
    reference's own noise. SUV is measured in the labels; the metabolic tumour volume (mtv [mL]) and the total lesion
    glycolysis (tlg [g]) in what :func:`metabolic_volumes` segments in each image. The table has one row per lesion:
    region, diameter_mm (of the sphere of equal volume), and for suv_max, suv_peak, suv_mean, mtv and tlg the columns
    *_pred, *_reference and *_error_percent.

    Raises
    ------
    ValueError
        Shapes differ.
    """
    image, truth = np.asarray(pred), np.asarray(reference)
    if not image.shape == truth.shape == lesion_labels.shape:
        raise ValueError(f"lesion_bias: shapes {image.shape}, {truth.shape}, {lesion_labels.shape} differ")
    rows = []
    for number, box, inside in each_region(lesion_labels):
        diameter = equivalent_diameter(int(np.count_nonzero(inside)), voxel_size=voxel_size)
        row: dict[str, float] = {"region": number, "diameter_mm": diameter}
        volumes = metabolic_volumes((image, truth), lesion_labels, number, box, voxel_size=voxel_size)
        found, true = (
            measure_region(a, box, inside, voxel_size=voxel_size) | {"mtv": mtv, "tlg": tlg}
            for a, (mtv, tlg) in zip((image, truth), volumes, strict=True)
        )
        for quantity in _QUANTITIES:
            row[f"{quantity}_pred"] = found[quantity]
            row[f"{quantity}_reference"] = true[quantity]
            row[f"{quantity}_error_percent"] = (
                100 * (found[quantity] / true[quantity] - 1) if true[quantity] else np.nan
            )
        rows.append(row)
    return pd.DataFrame(rows, columns=LESION_BIAS_COLUMNS)
