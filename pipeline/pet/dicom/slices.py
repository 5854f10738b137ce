"""The slices of a series: where they lie in the patient, and the pixel data that they hold.

Order and affine are computed from ImagePositionPatient and ImageOrientationPatient (DICOM PS3.3 C.7.6.2), never from
InstanceNumber, SliceLocation or file names. Pixel data is checked against header and file before memory is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import get_decoder, pixel_array
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from pipeline.errors import PETError, naming, reason_of
from pipeline.pet.dicom.reading.files import HARMLESS, HARMLESS_SERIES, SliceFile
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
    value = stored_value(dataset, tag) if tag in dataset else None
    return value if isinstance(value, bytes) else None


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
    smallest, largest = VOXEL_SIZES
    if spacing.min() < smallest or spacing.max() > largest:
        raise PETError(f"{names[0]}: PixelSpacing is {spacing.tolist()}, expected {smallest:g} to {largest:g} mm")
    matrix = (slices[0].get("Columns"), slices[0].get("Rows"))
    positions = np.empty((len(slices), 3))
    for k, (dataset, name) in enumerate(zip(slices, names, strict=True)):
        positions[k] = _vector(dataset, "ImagePositionPatient", 3, name)
        if np.abs(positions[k]).max() > MOST_REMOTE:
            raise PETError(
                f"{name}: ImagePositionPatient is {positions[k].tolist()}, expected at most {MOST_REMOTE:.0f} mm"
            )
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


def check_pixels(files: Sequence[SliceFile]) -> None:
    """Check rescaling and the size of the pixel data of every slice, before any memory is taken.

    Files that were read without their pixel data are compared with the size of the file.

    Raises
    ------
    PETError
        Naming the first slice whose rescaling is not that of a PET image, or whose pixel data is missing, cut
        short, or absurdly small for Rows and Columns.
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
        return None if is_deflated else file.path.stat().st_size, "the file"
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

    Raises
    ------
    PETError
        If the pixel data cannot be decoded; where a decoder is missing, the message says what to install.
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

    Padding of 0 is not told from a measured 0, which it equals.

    Parameters
    ----------
    file
        The slice.
    stored
        What `decoded_slice` returned. Shape (rows, columns).

    Raises
    ------
    PETError
        If the padding value is no integer.
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

    Parameters
    ----------
    files
        The slices.
    largest
        The largest stored value of each slice.

    Raises
    ------
    PETError
        If more than a few slices all reach full range although all have one RescaleSlope. A phantom without noise, of
        which every slice has the same maximum, has one slope in truth: it is accepted unless that is 1, the slope
        that stands where none was kept.
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
