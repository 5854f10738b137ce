"""Where the slices of a series lie: their order, and the affine of the stack.

Everything is computed from ImagePositionPatient and ImageOrientationPatient (DICOM PS3.3 C.7.6.2), never from
InstanceNumber, SliceLocation or file names.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from pipeline.errors import PETError, naming
from pipeline.pet.dicom.values import value_of

__all__ = ["SliceStack", "stack_slices"]

POSITION_TOLERANCE = 0.02
"""Positions [mm] closer than this are the same: two numbers, each rounded to a hundredth."""

GAP_TOLERANCE = 0.05
"""A gap between neighbouring slices may differ from the typical one by this fraction of it. Scanners round
the table position of each bed: a GE Discovery ST writes 3.19 and 3.29 mm between beds of slices 3.27 mm apart."""

GRID_TOLERANCE = 0.1
"""A slice may be this fraction of the spacing off the even grid through the first and the last."""

ORIENTATION_TOLERANCE = 1e-3
"""Direction cosines may be this far from orthonormal, and from those of the first slice."""

SPACING_TOLERANCE = 1e-4
"""Pixel spacings [mm] may differ by this much between slices."""

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class SliceStack:
    """The grid of a stack of slices, axes in the order column, row, slice."""

    order: tuple[int, ...]
    """Index of each slice in the sequence that was stacked, along the normal of the slices."""

    affine: NDArray[np.float64]
    """(column, row, slice) to RAS+ position [mm]. Shape (4, 4)."""

    shape: tuple[int, int, int]
    """Number of columns, rows and slices."""

    unevenness: float
    """How far a slice is off the even grid that the affine describes, at most [mm]."""


def _vector(dataset: Dataset, keyword: str, n_values: int, name: str) -> NDArray[np.float64]:
    with naming(name):
        value = value_of(dataset, keyword)
    numbers = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    if len(numbers) != n_values:
        raise PETError(f"{name}: {keyword} has {len(numbers)} values, expected {n_values}")
    try:
        vector = np.array(numbers, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PETError(f"{name}: {keyword} holds values that are not numbers") from error
    if not np.isfinite(vector).all():
        raise PETError(f"{name}: {keyword} is not finite")
    return vector


def _stored(dataset: Dataset, tag: BaseTag) -> bytes | None:
    """Return the bytes of an element that pydicom has not decoded yet."""
    element = dataset.get_item(tag) if tag in dataset else None
    return element.value if element is not None and isinstance(element.value, bytes) else None


_ORIENTATION, _SPACING = Tag("ImageOrientationPatient"), Tag("PixelSpacing")


def _check_spacing(positions: NDArray[np.float64], names: Sequence[str]) -> float:
    """Return how far sorted positions are off an even grid [mm], or refuse missing, double or uneven ones."""
    gaps = np.diff(positions)
    doubles = np.flatnonzero(gaps <= POSITION_TOLERANCE)
    if doubles.size:
        n_places = 1 + int((gaps > POSITION_TOLERANCE).sum())
        if len(positions) % n_places == 0 and doubles.size == len(positions) - n_places and n_places > 1:
            n_frames = len(positions) // n_places
            raise PETError(f"{n_frames} slices at each of {n_places} positions (dynamic or gated series), expected one")
        k = int(doubles[0])
        raise PETError(
            f"two slices at {positions[k]:.3f} mm along the normal ({names[k]}, {names[k + 1]}), expected one"
        )
    typical = float(np.median(gaps))
    even = (positions[-1] - positions[0]) / (len(positions) - 1)
    grid = positions[0] + even * np.arange(len(positions))
    off_typical, off_grid = np.abs(gaps - typical), np.abs(positions - grid)
    if off_typical.max() <= GAP_TOLERANCE * typical and off_grid.max() <= GRID_TOLERANCE * typical:
        return float(off_grid.max())
    k = int(np.argmax(off_typical))
    n_steps = gaps[k] / typical
    where = f"between {positions[k]:.3f} and {positions[k + 1]:.3f} mm ({names[k]}, {names[k + 1]})"
    if round(n_steps) >= 2 and abs(n_steps - round(n_steps)) * typical <= GAP_TOLERANCE * typical:
        n_missing = round(n_steps) - 1
        missing = ", ".join(f"{positions[k] + (j + 1) * typical:.3f}" for j in range(n_missing))
        raise PETError(f"{n_missing} slice(s) missing {where}, expected at {missing} mm")
    raise PETError(f"spacing of slices is {gaps[k]:.3f} mm {where}, expected {typical:.3f} mm as elsewhere")


def stack_slices(slices: Sequence[Dataset], names: Sequence[str]) -> SliceStack:
    """Return the order and the affine of the slices of one series.

    Parameters
    ----------
    slices
        Headers of the slices, in any order.
    names
        Their file names, for error messages.

    Raises
    ------
    PETError
        If there are fewer than two slices, their orientation, spacing or matrix differs, a slice is missing
        or double, or they are unevenly spaced or shifted sideways.
    """
    if len(slices) < 2:
        raise PETError(f"{len(slices)} slice, expected at least 2")
    # Most slices store the same bytes, and decoding them takes longer than all the rest.
    usual = _stored(slices[0], _ORIENTATION), _stored(slices[0], _SPACING)
    orientation = _vector(slices[0], "ImageOrientationPatient", 6, names[0])
    spacing = _vector(slices[0], "PixelSpacing", 2, names[0])
    along_row, along_column = orientation[:3], orientation[3:]
    products = np.array([along_row @ along_row, along_column @ along_column, along_row @ along_column])
    if np.abs(products - [1, 1, 0]).max() > ORIENTATION_TOLERANCE:
        raise PETError(f"{names[0]}: ImageOrientationPatient {orientation.tolist()} is not orthonormal")
    if (spacing <= 0).any():
        raise PETError(f"{names[0]}: PixelSpacing is {spacing.tolist()}, expected positive numbers")
    matrix = (slices[0].get("Columns"), slices[0].get("Rows"))
    positions = np.empty((len(slices), 3))
    for k, (dataset, name) in enumerate(zip(slices, names, strict=True)):
        positions[k] = _vector(dataset, "ImagePositionPatient", 3, name)
        found = (dataset.get("Columns"), dataset.get("Rows"))
        if found != matrix:
            raise PETError(f"{name}: matrix is {found[0]} x {found[1]}, expected {matrix[0]} x {matrix[1]}")
        if None not in usual and (_stored(dataset, _ORIENTATION), _stored(dataset, _SPACING)) == usual:
            continue
        other = _vector(dataset, "ImageOrientationPatient", 6, name)
        if np.abs(other - orientation).max() > ORIENTATION_TOLERANCE:
            raise PETError(
                f"{name}: ImageOrientationPatient is {other.tolist()}, expected {orientation.tolist()} as in {names[0]}"
            )
        size = _vector(dataset, "PixelSpacing", 2, name)
        if np.abs(size - spacing).max() > SPACING_TOLERANCE:
            raise PETError(f"{name}: PixelSpacing is {size.tolist()}, expected {spacing.tolist()} as in {names[0]}")
    normal = np.cross(along_row, along_column)
    normal /= np.linalg.norm(normal)
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    unevenness = _check_spacing(heights[order], [names[k] for k in order])
    first = positions[order[0]]
    sideways = positions - first - np.outer(heights - heights[order[0]], normal)
    worst = int(np.argmax(np.linalg.norm(sideways, axis=1)))
    if np.linalg.norm(sideways[worst]) > max(POSITION_TOLERANCE, ORIENTATION_TOLERANCE * np.ptp(heights)):
        raise PETError(
            f"{names[worst]}: slice is shifted {np.linalg.norm(sideways[worst]):.3f} mm sideways, expected a "
            "straight stack"
        )
    affine = np.eye(4)
    # PixelSpacing is (distance of rows, distance of columns).
    affine[:3, 0] = along_row * spacing[1]
    affine[:3, 1] = along_column * spacing[0]
    affine[:3, 2] = (positions[order[-1]] - first) / (len(slices) - 1)
    affine[:3, 3] = first
    return SliceStack(
        order=tuple(int(k) for k in order),
        affine=LPS_TO_RAS @ affine,
        shape=(int(matrix[0]), int(matrix[1]), len(slices)),
        unevenness=unevenness,
    )
