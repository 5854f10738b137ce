"""Seams: whether a volume that was computed tile by tile shows where the tiles meet."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["seam_ratio"]

_NEIGHBOURS = (2, 3)  # blended tiles smear a seam over the planes next to it


def seam_ratio(
    volume: ArrayLike,
    borders: Sequence[Sequence[int]],
    *,
    mask: ArrayLike | None = None,
    reference: ArrayLike | None = None,
) -> float:
    """Return the mean absolute difference across tile borders over that in the interior nearby; 1 without seams.

    The interior of a border are the planes two and three voxels before and after it, in pairs, so that a gradient which
    changes steadily along the axis cancels. Anatomy does not change steadily: with few borders, an organ's edge in one
    of them moves the ratio by tens of percent. A reference takes that out: it is the same volume computed without
    tiles, and the result is divided by its ratio.

    `borders` has for each axis the indices of the first planes of tiles, as 8 and 16 for tiles of 8 planes in 24.
    Volume, mask and reference have the shape (X, Y, Z); a difference counts if both its voxels are in the mask.

    Raises
    ------
    ValueError
        If there is no border with an interior to both sides, or the interior is flat.
    """
    values = np.asarray(volume, dtype=np.float64)
    if values.ndim != 3 or len(borders) != 3:
        raise ValueError(f"volume has {values.ndim} axes and borders {len(borders)}, expected 3 and 3")
    inside = np.ones(values.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    if inside.shape != values.shape:
        raise ValueError(f"mask has shape {inside.shape}, expected {values.shape} as the volume has")
    if reference is None:
        return _ratio(values, borders, inside)
    untiled = np.asarray(reference, dtype=np.float64)
    if untiled.shape != values.shape:
        raise ValueError(f"reference has shape {untiled.shape}, expected {values.shape} as the volume has")
    return _ratio(values, borders, inside) / _ratio(untiled, borders, inside)


def _ratio(values: NDArray[np.float64], borders: Sequence[Sequence[int]], inside: NDArray[np.bool_]) -> float:
    across, nearby = [], []
    for axis, positions in enumerate(borders):
        profile = _mean_difference(values, inside, axis)
        for border in sorted(set(positions)):
            pairs = [(border - k, border + k) for k in _NEIGHBOURS]
            interior = [pair for pair in pairs if pair[0] > 0 and pair[1] < len(profile) and not {*pair} & {*positions}]
            if interior and 0 < border < len(profile):
                across.append(profile[border])
                nearby.append(np.mean([profile[list(pair)].mean() for pair in interior]))
    if not across:
        raise ValueError("no tile border has an interior to both sides, expected tiles of at least 3 voxels")
    if not np.sum(nearby) > 0:
        raise ValueError("the volume is flat next to every tile border, a ratio of gradients is not defined")
    return float(np.sum(across) / np.sum(nearby))


def _mean_difference(values: NDArray[np.float64], inside: NDArray[np.bool_], axis: int) -> NDArray[np.float64]:
    """Return each plane's mean absolute difference from the plane before along an axis; 0 for the first."""
    values, inside = np.moveaxis(values, axis, 0), np.moveaxis(inside, axis, 0)
    profile = np.zeros(len(values))
    for i in range(1, len(values)):
        both = inside[i] & inside[i - 1]
        # A sum over the whole plane's size, not a mean over the mask: planes that barely touch it weigh little.
        profile[i] = np.abs(values[i] - values[i - 1])[both].sum() / both.size
    return profile
