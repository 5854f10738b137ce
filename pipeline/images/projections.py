"""From a volume to what a panel shows: cropping, projection, plane.

Volumes have shape (X, Y, Z) with axes towards right, front and head, as `PETSeries` guarantees.
Panels follow the radiological convention: the patient's right on the left of an axial or coronal view, the front
on the left of a sagittal view; the head, or in an axial view the front, is up.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["View", "body_box", "center_of_activity", "maximum_projection", "plane"]

View = Literal["axial", "coronal", "sagittal"]

_AXIS_ALONG_THE_VIEW = {"axial": 2, "coronal": 1, "sagittal": 0}


def body_box(
    mask: NDArray[np.bool_], *, voxel_size: Sequence[float], margin: float = 15.0
) -> tuple[slice, slice, slice]:
    """Return the box around a mask, with a margin [mm] in X and Y and all of Z; everything for an empty mask."""
    box = []
    for axis in (0, 1):
        occupied = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        extra = round(margin / voxel_size[axis])
        first, last = (occupied[0], occupied[-1]) if occupied.size else (0, mask.shape[axis] - 1)
        box.append(slice(max(int(first) - extra, 0), min(int(last) + extra + 1, mask.shape[axis])))
    return box[0], box[1], slice(0, mask.shape[2])


def center_of_activity(suv: NDArray[np.floating], *, ceiling: float = 2.0) -> tuple[int, int, int]:
    """Return the centre of the activity [voxels]; SUV is cut at `ceiling`, so that bladder and brain do not pull."""
    activity = np.clip(suv, 0, ceiling)
    center = []
    for axis in range(3):
        profile = activity.sum(axis=tuple(other for other in range(3) if other != axis), dtype=np.float64)
        total = profile.sum()
        middle = (profile @ np.arange(profile.size)) / total if total else (profile.size - 1) / 2
        center.append(round(float(middle)))
    return center[0], center[1], center[2]


def maximum_projection(volume: NDArray, view: View) -> NDArray:
    """Return the maximum intensity projection as a panel: axial (Y, X), coronal (Z, X), sagittal (Z, Y)."""
    return _as_panel(volume.max(axis=_AXIS_ALONG_THE_VIEW[view]))


def plane(volume: NDArray, view: View, *, index: int) -> NDArray:
    """Return one plane of the volume as a panel: axial (Y, X), coronal (Z, X), sagittal (Z, Y)."""
    return _as_panel(volume.take(index, axis=_AXIS_ALONG_THE_VIEW[view]))


def _as_panel(image: NDArray) -> NDArray:
    # Columns of the array run left to right and back to front, rows feet to head or back to front: all are reversed.
    return image[::-1, ::-1].T
