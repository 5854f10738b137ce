"""Labels of another grid on the grid of a scan, where that changes them little enough to be measured."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.errors import PETError
from pipeline.images import voxel_volume
from pipeline.pet.grid import SAME_GRID, Grid, same_grid

__all__ = ["MOST_OUTSIDE", "check_inside", "labels_on"]

MOST_OUTSIDE = 0.01
"""Part of the labelled voxels that may lie outside of the scan."""


def check_inside(n_outside: int, n_labelled: int, *, found: Grid, expected: Grid) -> None:
    """Refuse regions of which more than `MOST_OUTSIDE` lies outside of the scan.

    Raises
    ------
    PETError
        Names both grids.
    """
    if n_outside > MOST_OUTSIDE * n_labelled:
        part = f"{n_outside} of {n_labelled} labelled voxels lie outside of the scan"
        raise PETError(f"{part}: labels on {_place(found)}, scan on {_place(expected)}")


def _place(grid: Grid) -> str:
    lowest, highest = grid.corners.min(axis=0), grid.corners.max(axis=0)
    return f"{grid} from ({_numbers(lowest)}) to ({_numbers(highest)}) mm"


def _numbers(values: NDArray[np.float64]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)


def labels_on(
    labels: NDArray[np.unsignedinteger], found: Grid, expected: Grid
) -> tuple[NDArray[np.unsignedinteger], str]:
    """Return labels on the grid of a scan, and what was done to them, empty where they are the voxels as they were.

    A voxel of the scan gets the label in whose voxel its centre lies (nearest neighbour).

    Parameters
    ----------
    labels
        0 outside; shape of `found`.
    found, expected
        Grid of the labels and of the scan, axes of both in RAS+ order.

    Raises
    ------
    PETError
        If more than 1 % of the labelled voxels lie outside of the scan, or none of its voxel centres lies in a region.
    """
    if same_grid(found, expected):
        return labels, ""
    n_labelled = int(np.count_nonzero(labels))
    check_inside(_n_outside(labels, found, expected), n_labelled, found=found, expected=expected)
    to_found = np.linalg.inv(found.affine) @ expected.affine
    placed = ndimage.affine_transform(
        labels,
        to_found[:3, :3],
        to_found[:3, 3],
        output_shape=tuple(expected.shape),
        order=0,
        mode="grid-constant",
        prefilter=False,
    )
    if _has_the_voxels_of(found, expected):
        return placed, ""
    before, after = set(np.unique(labels)) - {0}, set(np.unique(placed)) - {0}
    if before and not after:
        raise PETError(f"no voxel centre of the scan lies in a region: labels on {_place(found)}, {_place(expected)}")
    volumes = [n * voxel_volume(_sizes(g)) for n, g in ((n_labelled, found), (np.count_nonzero(placed), expected))]
    done = f"nearest neighbour from {found} to {expected}, {volumes[0]:.4g} mL became {volumes[1]:.4g} mL"
    lost = sorted(int(number) for number in before - after)
    if lost:
        done += f", {len(lost)} regions between voxel centres left out (number {', '.join(map(str, lost[:10]))})"
    return placed, done


def _sizes(grid: Grid) -> Sequence[float]:
    return [float(size) for size in np.linalg.norm(grid.affine[:3, :3], axis=0)]


def _n_outside(labels: NDArray[np.unsignedinteger], found: Grid, expected: Grid) -> int:
    """Return how many labelled voxels have their centres outside of a grid."""
    boxes = ndimage.find_objects((labels > 0).view(np.int8))
    if not boxes:
        return 0
    to_expected = np.linalg.inv(expected.affine) @ found.affine
    margin = 0.5 + SAME_GRID / np.array(_sizes(expected))
    rows, columns = (np.arange(axis.start, axis.stop) for axis in boxes[0][1:])
    n_outside = 0
    # Plane by plane: the labels of a CT have up to 200 million voxels.
    for plane in range(boxes[0][0].start, boxes[0][0].stop):
        is_outside = np.zeros((len(rows), len(columns)), dtype=bool)
        for axis, n in enumerate(expected.shape):
            by_plane, by_row, by_column, start = to_expected[axis]
            place = by_row * rows[:, None] + by_column * columns + (by_plane * plane + start)
            is_outside |= (place < -margin[axis]) | (place > n - 1 + margin[axis])
        n_outside += int(np.count_nonzero(is_outside & (labels[plane][boxes[0][1:]] > 0)))
    return n_outside


def _has_the_voxels_of(found: Grid, expected: Grid) -> bool:
    """Return whether the voxels of one grid are some of the other's, as those of a SEG without empty slices."""
    shift = np.rint((np.linalg.inv(expected.affine) @ found.affine)[:3, 3])
    affine = expected.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ shift
    return same_grid(found, Grid(found.shape, affine))
