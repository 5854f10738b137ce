"""The grid of a volume: which grids are the same, how far apart two are, and how axes are brought to RAS+."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray

from pipeline.errors import PETError

__all__ = [
    "LPS_TO_RAS",
    "SAME_GRID",
    "Grid",
    "canonical_grid",
    "check_geometry",
    "check_same_grid",
    "corner_distance",
    "grid_difference",
    "same_grid",
    "to_canonical",
    "to_native",
]

SAME_GRID = 0.1
"""Corners of one grid lie at most this far apart [mm]. Files round positions to a hundredth of a millimetre and
voxel sizes to four decimals, which moves the last of 700 slices by up to 0.04 mm. The smallest shift that matters,
a tenth of a voxel of 1.65 mm, is larger."""

MOST_REMOTE = 1e5
"""No corner of a volume lies further from the origin of the patient's coordinates [mm]."""

VOXEL_SIZES = (1e-3, 1e3)
"""Smallest and largest distance of neighbouring voxels [mm]: no image of a patient is beyond."""

MOST_VOXELS = 2**30
"""A volume has at most this many voxels, 1024 each way: a total-body PET of 1 mm has fewer."""

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From positions as DICOM and ITK state them, X to the left and Y to the back, to RAS+."""

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Grid:
    """Number of voxels and place of a volume."""

    shape: tuple[int, ...]
    """Voxels along each of three axes."""

    affine: NDArray[np.float64]
    """Voxel index to position in the patient [mm], RAS+. Shape (4, 4)."""

    @property
    def corners(self) -> NDArray[np.float64]:
        """The eight outer corners of the volume [mm], shape (8, 3): half a voxel beyond the centres of the last."""
        ends = np.array(list(product(*((-0.5, n - 0.5) for n in self.shape))))
        return ends @ self.affine[:3, :3].T + self.affine[:3, 3]

    def __str__(self) -> str:
        return f"{_times(self.shape)} voxels of {_times(np.linalg.norm(self.affine[:3, :3], axis=0))} mm"


def _times(numbers: Sequence[float] | NDArray[np.float64]) -> str:
    return " x ".join(f"{number:.5g}" for number in numbers)


def corner_distance(first: Grid, second: Grid) -> float:
    """Return the largest distance between the same corner of two grids [mm]; infinite if their shapes differ."""
    if tuple(first.shape) != tuple(second.shape):
        return float("inf")
    return float(np.linalg.norm(first.corners - second.corners, axis=1).max())


def same_grid(first: Grid, second: Grid) -> bool:
    """Return whether two grids have the same shape, and no corner lies further apart than `SAME_GRID`."""
    return corner_distance(first, second) <= SAME_GRID


def grid_difference(found: Grid, expected: Grid) -> str | None:
    """Return in a few words how a grid differs from the expected one, or None if it is the same."""
    apart = corner_distance(found, expected)
    if apart <= SAME_GRID:
        return None
    elsewhere = "" if np.isinf(apart) else f", corners up to {apart:.1f} mm elsewhere"
    return f"{found}{elsewhere}, expected one grid of {expected}"


def check_same_grid(grids: Mapping[str, Grid]) -> None:
    """Refuse grids, each under a name such as that of its file, that are not the one of the first.

    Raises
    ------
    PETError
        If one differs: the message names it, the first, and how far they are apart.
    """
    (reference, expected), *others = grids.items()
    for name, found in others:
        difference = grid_difference(found, expected)
        if difference is not None:
            raise PETError(f"{name}: lies on another grid than {reference}: {difference}")


def check_geometry(grid: Grid) -> None:
    """Refuse a grid that no image of a patient has.

    Raises
    ------
    PETError
        If the affine is not finite or singular, a voxel is smaller than 1 um or larger than 1 m, a corner lies more
        than 100 m from the origin, or there are more than 2^30 voxels.
    """
    n_voxels = math.prod(grid.shape)
    if n_voxels > MOST_VOXELS:
        raise PETError(f"{_times(grid.shape)} are {n_voxels:.3g} voxels, expected at most {MOST_VOXELS:.3g}")
    axes = grid.affine[:3, :3]
    sizes = np.linalg.norm(axes, axis=0)
    # The volume that three directions of length 1 span is 1 at right angles, and 0 in one plane.
    if not np.isfinite(grid.affine).all() or not sizes.all() or abs(np.linalg.det(axes / sizes)) < 1e-6:
        raise PETError("affine is not invertible, position and orientation are unknown")
    smallest, largest = VOXEL_SIZES
    if sizes.min() < smallest or sizes.max() > largest:
        raise PETError(f"voxels are {_times(sizes)} mm, expected {smallest:g} to {largest:g} mm each way")
    remote = float(np.abs(grid.corners).max())
    if remote > MOST_REMOTE:
        raise PETError(f"a corner lies {remote:.3g} mm from the origin, expected at most {MOST_REMOTE:g} mm")


def canonical_grid(grid: Grid) -> Grid:
    """Return the grid of the same voxels with axes flipped and permuted to come closest to RAS+."""
    orientation = io_orientation(grid.affine)
    shape = tuple(grid.shape[axis] for axis in np.argsort(orientation[:, 0]))
    return Grid(shape, grid.affine @ inv_ornt_aff(orientation, grid.shape))


def to_canonical(volume: NDArray[Scalar], affine: NDArray[np.float64]) -> tuple[NDArray[Scalar], NDArray[np.float64]]:
    """Return a view of a volume with axes flipped and permuted to come closest to RAS+, and its affine."""
    return apply_orientation(volume, io_orientation(affine)), canonical_grid(Grid(volume.shape, affine)).affine


def to_native(volume: NDArray[Scalar], native_affine: NDArray[np.float64]) -> NDArray[Scalar]:
    """Undo `to_canonical`: return a view of a canonical volume with the axes of `native_affine`."""
    back = ornt_transform(axcodes2ornt("RAS"), io_orientation(native_affine))
    return apply_orientation(volume, back)
