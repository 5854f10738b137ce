"""The slices of a series: where they lie in the patient, and the pixel data that they hold.

Order and affine are computed from ImagePositionPatient and ImageOrientationPatient (DICOM PS3.3 C.7.6.2), never from
InstanceNumber, SliceLocation or file names. Pixel data is checked against header and file before memory is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import get_decoder, pixel_array
from pydicom.tag import Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from pipeline.errors import PETError, naming, reason_of
from pipeline.pet.dicom.reading.files import SliceFile
from pipeline.pet.dicom.reading.stored_files import HARMLESS, HARMLESS_SERIES
from pipeline.pet.dicom.values import number_of, stored_value, value_of
from pipeline.pet.grid import LPS_TO_RAS, MOST_REMOTE, VOXEL_SIZES

__all__ = [
    "SliceStack",
    "check_pixels",
    "check_slopes",
    "decoded_slice",
    "padding_of",
    "stack_slices",
]

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

MAX_COMPRESSION = 1000
"""A header that promises this many times the bytes of the compressed pixel data does not belong to them."""

FEW_SLICES = 5
"""So many slices may all reach full range by chance."""


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


def _vector(dataset: Dataset, keyword: str, n_values: int) -> NDArray[np.float64]:
    value = value_of(dataset, keyword)
    numbers = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    if len(numbers) != n_values:
        raise PETError(f"{keyword} has {len(numbers)} values, expected {n_values}")
    try:
        vector = np.array(numbers, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PETError(f"{keyword} holds values that are not numbers") from error
    if not np.isfinite(vector).all():
        raise PETError(f"{keyword} is not finite")
    return vector


def _plane_of(dataset: Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the direction cosines of row and column, and the distances of rows and columns [mm]."""
    orientation, spacing = _vector(dataset, "ImageOrientationPatient", 6), _vector(dataset, "PixelSpacing", 2)
    along_row, along_column = orientation[:3], orientation[3:]
    products = np.array([along_row @ along_row, along_column @ along_column, along_row @ along_column])
    if np.abs(products - [1, 1, 0]).max() > ORIENTATION_TOLERANCE:
        raise PETError(f"ImageOrientationPatient {orientation.tolist()} is not orthonormal")
    smallest, largest = VOXEL_SIZES
    if spacing.min() < smallest or spacing.max() > largest:
        raise PETError(f"PixelSpacing is {spacing.tolist()}, expected {smallest:g} to {largest:g} mm")
    return orientation, spacing


_ORIENTATION, _SPACING = Tag("ImageOrientationPatient"), Tag("PixelSpacing")


def _stored_plane(dataset: Dataset) -> list[Any]:
    return [stored_value(dataset, tag) for tag in (_ORIENTATION, _SPACING)]


def _check_plane(
    dataset: Dataset, orientation: NDArray[np.float64], spacing: NDArray[np.float64], reference: str
) -> None:
    """Refuse a slice whose orientation or spacing is not that of the file `reference`."""
    for keyword, expected, tolerance in (
        ("ImageOrientationPatient", orientation, ORIENTATION_TOLERANCE),
        ("PixelSpacing", spacing, SPACING_TOLERANCE),
    ):
        found = _vector(dataset, keyword, expected.size)
        if np.abs(found - expected).max() > tolerance:
            raise PETError(f"{keyword} is {found.tolist()}, expected {expected.tolist()} as in {reference}")


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
    typical, largest = float(np.median(gaps)), VOXEL_SIZES[1]
    if typical > largest:
        raise PETError(f"slices are {typical:g} mm apart, expected at most {largest:g} mm")
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


def stack_slices(files: Sequence[SliceFile]) -> SliceStack:
    """Return the order and the affine of the slices of one series, which may come in any order.

    Raises
    ------
    PETError
        If there are fewer than two slices, their orientation, spacing or matrix differs, a slice is missing
        or double, or they are unevenly spaced or shifted sideways.
    """
    if len(files) < 2:
        raise PETError(f"{len(files)} slice, expected at least 2")
    first, names = files[0].dataset, [file.name for file in files]
    stored_plane = _stored_plane(first)
    with naming(names[0]):
        orientation, spacing = _plane_of(first)
    matrix = (first.get("Columns"), first.get("Rows"))
    positions = np.empty((len(files), 3))
    for k, file in enumerate(files):
        with naming(file.name):
            positions[k] = _vector(file.dataset, "ImagePositionPatient", 3)
            if np.abs(positions[k]).max() > MOST_REMOTE:
                found = positions[k].tolist()
                raise PETError(f"ImagePositionPatient is {found}, expected at most {MOST_REMOTE:.0f} mm")
            columns, rows = file.dataset.get("Columns"), file.dataset.get("Rows")
            if (columns, rows) != matrix:
                raise PETError(f"matrix is {columns} x {rows}, expected {matrix[0]} x {matrix[1]}")
            # Most slices store the same bytes, and decoding them takes longer than all the rest.
            if _stored_plane(file.dataset) != stored_plane:
                _check_plane(file.dataset, orientation, spacing, names[0])
    along_row, along_column = orientation[:3], orientation[3:]
    normal = np.cross(along_row, along_column)
    normal /= np.linalg.norm(normal)
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    unevenness = _check_spacing(heights[order], [names[k] for k in order])
    lowest, highest = positions[order[0]], positions[order[-1]]
    sideways = np.linalg.norm(positions - lowest - np.outer(heights - heights[order[0]], normal), axis=1)
    worst = int(np.argmax(sideways))
    if sideways[worst] > max(POSITION_TOLERANCE, ORIENTATION_TOLERANCE * np.ptp(heights)):
        raise PETError(f"{names[worst]}: slice is shifted {sideways[worst]:.3f} mm sideways, expected a straight stack")
    affine = np.eye(4)
    # PixelSpacing is (distance of rows, distance of columns).
    affine[:3, 0] = along_row * spacing[1]
    affine[:3, 1] = along_column * spacing[0]
    affine[:3, 2] = (highest - lowest) / (len(files) - 1)
    affine[:3, 3] = lowest
    return SliceStack(
        order=tuple(int(k) for k in order),
        affine=LPS_TO_RAS @ affine,
        shape=(int(matrix[0]), int(matrix[1]), len(files)),
        unevenness=unevenness,
    )


def check_pixels(files: Sequence[SliceFile]) -> None:
    """Check rescaling and the size of the pixel data of every slice, before any memory is taken.

    Files that were read without their pixel data are compared with the size of the file. The `PETError` names the first
    slice whose rescaling is not that of a PET image, or whose pixel data is missing, cut short, or absurdly small for
    Rows and Columns.
    """
    n_needed = n_stored = 0
    for file in files:
        with naming(file.name):
            needed, stored = _check_slice(file)
        n_needed += needed
        n_stored += stored
    if n_needed > max(HARMLESS_SERIES, MAX_COMPRESSION * n_stored):
        raise PETError(f"{len(files)} slices would take {n_needed} bytes, their pixel data has {n_stored}; damaged")


def _check_slice(file: SliceFile) -> tuple[int, int]:
    """Return how many bytes the slice will take, and how many its share of the pixel data has."""
    dataset = file.dataset
    slope, intercept = number_of(dataset, "RescaleSlope"), number_of(dataset, "RescaleIntercept")
    if slope is None:
        raise PETError("RescaleSlope is missing, expected one on every slice")
    if slope <= 0:
        raise PETError(f"RescaleSlope is {slope:g}, expected a positive number")
    # DICOM PS3.3 C.8.9.4: the intercept of a PET image shall be 0, so a missing one is.
    if intercept:
        raise PETError(f"RescaleIntercept is {intercept:g}, expected 0")
    n_samples = (number_of(dataset, "SamplesPerPixel") or 1) * (number_of(dataset, "NumberOfFrames") or 1)
    if n_samples != 1:
        raise PETError(f"{n_samples:g} frames or samples per pixel, expected one grey-level slice")
    bits = _positive_int(dataset, "BitsAllocated")
    bits_stored, high = number_of(dataset, "BitsStored"), number_of(dataset, "HighBit")
    if bits_stored is not None and high is not None and high != bits_stored - 1:
        raise PETError(f"HighBit is {high:g}, expected {bits_stored - 1:g}, one less than BitsStored")
    needed = _positive_int(dataset, "Rows") * _positive_int(dataset, "Columns") * bits // 8
    n_frames = 1 if file.image is None else int(number_of(file.image, "NumberOfFrames") or 1)
    stored, what = _stored_bytes(file)
    if stored is None:
        return needed, needed
    if not file.syntax.is_compressed and stored < needed * n_frames:
        raise PETError(f"{what} has {stored} bytes, expected {needed * n_frames}; the file is cut short")
    if needed * n_frames > max(HARMLESS, MAX_COMPRESSION * stored):
        raise PETError(f"{what} has {stored} bytes for an image of {needed * n_frames}; it is damaged")
    return needed, stored // n_frames


def _stored_bytes(file: SliceFile) -> tuple[int | None, str]:
    """Return the size of what holds the pixels, and its name; None where it tells nothing."""
    if not file.has_pixels:
        is_deflated = file.syntax == DeflatedExplicitVRLittleEndian
        return None if is_deflated else file.size, "the file"
    pixels = value_of(file.stored, "PixelData")
    if pixels is None:
        raise PETError("PixelData is missing, the file may be cut short")
    return len(pixels), "PixelData"


def _positive_int(dataset: Dataset, keyword: str) -> int:
    value = value_of(dataset, keyword)
    if not isinstance(value, int) or value <= 0:
        found = "missing" if value is None else value if isinstance(value, int) else "damaged"
        raise PETError(f"{keyword} is {found}, expected a positive number")
    return value


def _missing_codec(syntax: UID) -> str | None:
    """Return what to install for a compressed transfer syntax that nothing installed decodes, or None."""
    try:
        is_available = get_decoder(syntax).is_available
    except NotImplementedError:
        return None
    return None if is_available else "install the decoders with: pip install 'unipet_3d[codecs]'"


def decoded_slice(file: SliceFile) -> NDArray[np.integer]:
    """Return the stored values of one slice. Shape (rows, columns).

    If a decoder is missing, the `PETError` says what to install.
    """
    try:
        # Unlike Dataset.pixel_array, this keeps no second copy in the data set.
        return pixel_array(file.stored, index=file.frame)
    except MemoryError:
        raise
    except Exception as error:
        reason = _missing_codec(file.syntax) or reason_of(error)
        raise PETError(f"{file.name}: pixel data ({file.syntax.name}) cannot be decoded: {reason}") from error


def padding_of(file: SliceFile, stored: NDArray[np.integer]) -> NDArray[np.bool_] | None:
    """Return which stored values are padding (PixelPaddingValue, DICOM PS3.3 C.7.5.1.1.2); None if there are none.

    `stored` is what `decoded_slice` returned. Padding of 0 is not told from a measured 0, which it equals.
    """
    with naming(file.name):
        value = number_of(file.dataset, "PixelPaddingValue")
        limit = number_of(file.dataset, "PixelPaddingRangeLimit")
    if not value and not limit:
        return None
    # Some files write the value of signed pixels as if it were unsigned, or the other way round.
    ends = np.array([value or 0, value or 0 if limit is None else limit]).astype(np.int64).astype(stored.dtype)
    mask = (stored >= ends.min()) & (stored <= ends.max())
    return mask if mask.any() else None


def check_slopes(files: Sequence[SliceFile], largest: Sequence[int]) -> None:
    """Refuse a series whose slices were each scaled to full range, and have lost the slopes that undo it.

    `largest` is the largest stored value of each slice. More than a few slices that all reach full range, although all
    have one RescaleSlope, are refused. A phantom without noise, of which every slice has the same maximum, has one
    slope in truth: it is accepted unless that is 1, the slope that stands where none was kept.
    """
    slopes = {float(file.dataset.RescaleSlope) for file in files}
    if len(files) <= FEW_SLICES or len(slopes) > 1:
        return
    first = files[0].dataset
    full = 2 ** (int(first.get("BitsStored", first.BitsAllocated)) - int(first.get("PixelRepresentation", 0))) - 1
    if min(largest) >= full - 1 and (slopes == {1.0} or len(set(largest)) > 1):
        raise PETError(
            f"RescaleSlope is {slopes.pop():g} on every slice, and each of {len(files)} slices reaches {full - 1} or "
            f"{full}: the slices were scaled one by one, and their slopes are lost"
        )
