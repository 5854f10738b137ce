"""Metabolic tumour volume and total lesion glycolysis of a known lesion, segmented in each image by one rule."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.images import ISOCONTOUR, connected_to, region_and_surroundings, voxel_volume

__all__ = ["SEGMENTATION_RULE", "metabolic_volumes"]

_REACH = 10.0  # [mm]

SEGMENTATION_RULE = f"41 % of the image's own SUVmax in the lesion, connected, up to {_REACH:g} mm around it"
"""How MTV and TLG are segmented, to be quoted with them."""


def metabolic_volumes(
    images: Sequence[NDArray[np.floating]],
    lesion_labels: NDArray[np.integer],
    number: int,
    box: tuple[slice, ...],
    *,
    voxel_size: Sequence[float],
) -> list[tuple[float, float]]:
    """Return MTV [mL] and TLG [g], SUVmean x MTV, of one lesion in each of several images.

    The SUVmax is that of the image within the label. What belongs to the lesion are the voxels from 41 % of it on that
    are connected (26) to the hottest one, in the label or within 10 mm of it and not in the label of another lesion.
    Each image has its own outline, as at its reader's. A lesion below 2.4 times its background fills the neighbourhood
    in every image, and an MTV of it says little. Both are 0 where the lesion shows nothing above SUV 0.

    Images [g/mL] and labels, 0 outside, have one shape (X, Y, Z); `box` is the bounding box of the label `number`, and
    `voxel_size` is in mm.
    """
    around, inside, allowed = region_and_surroundings(lesion_labels, number, box, reach=_REACH, voxel_size=voxel_size)
    return [_measured(image[around], inside, allowed, voxel_size) for image in images]


def _measured(
    suv: NDArray[np.floating], inside: NDArray[np.bool_], allowed: NDArray[np.bool_], voxel_size: Sequence[float]
) -> tuple[float, float]:
    hottest = np.unravel_index(np.argmax(np.where(inside, suv, -np.inf)), suv.shape)
    if not suv[hottest] > 0:
        return 0.0, 0.0
    values = suv[connected_to(hottest, allowed & (suv >= ISOCONTOUR * suv[hottest]))]
    volume = len(values) * voxel_volume(voxel_size)
    return volume, float(values.mean(dtype=np.float64)) * volume
