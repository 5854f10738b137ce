"""Volumes that lie on the grid of a PET image: labels of lesions and organs, attenuation."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PETError, naming
from pipeline.images import label_touching
from pipeline.pet import PETSeries
from pipeline.pet.dicom.geometry import to_canonical
from pipeline.pet.nifti import read_voxels

__all__ = ["numbered_lesions", "read_labels_on", "read_on", "same_grid"]

_AGREEMENT = 0.1
"""Corners of two volumes on the same grid lie at most this far apart [voxels]."""


def same_grid(
    shape: tuple[int, ...], affine: NDArray[np.float64], *, like: PETSeries, agreement: float = _AGREEMENT
) -> bool:
    """Whether a volume has the shape of a series, and its corners lie where those of the series lie."""
    if tuple(shape) != like.suv.shape:
        return False
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(shape) - 1)
    homogeneous = np.c_[corners, np.ones(len(corners))]
    apart = np.abs(homogeneous @ (np.linalg.inv(like.affine) @ affine).T - homogeneous).max()
    return bool(apart <= agreement)


def read_on(path: str | Path, *, like: PETSeries) -> NDArray[np.float32]:
    """Read a NIfTI volume that lies on the grid of a series.

    Returns
    -------
    numpy.ndarray
        Shape (X, Y, Z), axes as in the series.

    Raises
    ------
    PETError
        If it cannot be read, or lies on another grid.
    """
    path = Path(path)
    with naming(path):
        values, affine = to_canonical(*read_voxels(path))
        if not same_grid(values.shape, affine, like=like):
            size = "x".join(str(n) for n in values.shape)
            expected = "x".join(str(n) for n in like.suv.shape)
            raise PETError(f"lies on another grid ({size} voxels) than its PET image ({expected} voxels)")
    return np.ascontiguousarray(values, dtype=np.float32)


def read_labels_on(path: str | Path, *, like: PETSeries) -> NDArray[np.unsignedinteger]:
    """Read whole numbers from 0 up on the grid of a series, in the smallest type that holds them.

    Raises
    ------
    PETError
        If they cannot be read, lie on another grid, or are no whole numbers from 0 up.
    """
    values = read_on(path, like=like)
    # Above 2^24 float32 has no odd numbers left.
    if values.min() < 0 or values.max() > 2**24 or (values != np.rint(values)).any():
        found = f"values from {values.min():g} to {values.max():g}"
        raise PETError(f"{path}: holds {found}, expected whole numbers from 0 up")
    return values.astype(np.min_scalar_type(int(values.max())))


def numbered_lesions(labels: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """Lesions with numbers of their own: a mask of 0 and 1 is split into its connected (26) components."""
    if labels.max() > 1:
        return labels
    components, n_lesions = label_touching(labels)
    return components.astype(np.min_scalar_type(n_lesions))
