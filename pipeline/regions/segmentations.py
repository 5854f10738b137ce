"""DICOM SEG as regions of a scan, read by highdicom."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from pipeline.errors import PETError, reason_of
from pipeline.images import Regions, numbered_lesions
from pipeline.pet.dicom.slices import GRID_TOLERANCE
from pipeline.pet.dicom.values import text_of
from pipeline.pet.grid import LPS_TO_RAS, Grid, check_geometry, to_canonical
from pipeline.pet.series import PETSeries
from pipeline.regions.dicom_objects import check_frame_of_reference
from pipeline.regions.names import LONGEST_NAME, chosen, inert
from pipeline.regions.placing import labels_on

__all__ = ["SEGMENTATION_CLASSES", "read_segmentation"]

SEGMENTATION_CLASSES = {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"}
"""SOP classes of Segmentation Storage and Label Map Segmentation Storage."""

_TYPES = ("BINARY", "LABELMAP")


def read_segmentation(dataset: Dataset, series: PETSeries, *, names: Sequence[str] | None = None) -> Regions:
    """Read a DICOM SEG, one region a segment, its number and label kept; see `pipeline.regions.read_regions`.

    A single segment that was not asked for by its name is a mask of all lesions, as autoPET and LION have it.
    """
    kind = text_of(dataset, "SegmentationType")
    if kind not in _TYPES:
        raise PETError(f"SegmentationType is {kind or 'missing'}, expected {' or '.join(_TYPES)}")
    note = check_frame_of_reference(text_of(dataset, "FrameOfReferenceUID"), series)
    called, labels, affine = _volume_of(dataset, names, series)
    labels, affine = to_canonical(labels, affine)
    given = "given DICOM SEG"
    if names is None and len(called) == 1:
        labels, called = _parts(labels, *called.values())
        given += " of one segment, its 26-connected parts"
    labels, done = labels_on(labels, Grid(labels.shape, affine), series.grid)
    method = ", ".join(text for text in (given, done, note) if text)
    found = Regions(np.ascontiguousarray(labels, dtype=np.int32), method)
    return Regions(found.labels, method, names={number: called[number] for number in found.numbers})


def _volume_of(
    dataset: Dataset, names: Sequence[str] | None, series: PETSeries
) -> tuple[dict[int, str], NDArray[np.unsignedinteger], NDArray[np.float64]]:
    """Return names by number, labels (slice, row, column), and the affine to RAS+ [mm]."""
    # Imported here, since it takes more than a second.
    from highdicom.seg import Segmentation

    try:
        called = {int(item.SegmentNumber): inert(item.SegmentLabel) for item in dataset.SegmentSequence}
        called.pop(0, None)
        numbers = chosen(called, names)
        _snap(dataset, series.grid)
        segmentation = Segmentation.from_dataset(dataset, copy=False)
        geometry = segmentation.get_volume_geometry()
        if geometry is None:
            raise PETError("frames do not form one stack of parallel slices at even distances")
        _check_size(dataset, geometry.spatial_shape, LPS_TO_RAS @ geometry.affine)
        volume = segmentation.get_volume(segment_numbers=numbers, combine_segments=True, dtype=np.uint16)
    except (PETError, MemoryError):
        raise
    except Exception as error:
        # The library decodes what the file holds, and raises whatever damage leads to.
        if "overlap" in str(error).lower():
            shown = ", ".join(map(repr, called.values()))
            raise PETError(f"segments share voxels, expected regions apart; choose by name: {shown}") from error
        raise PETError(f"DICOM SEG cannot be read ({reason_of(error)})") from error
    affine = LPS_TO_RAS @ volume.affine
    if volume.spatial_shape[0] == 1:
        affine[:3, 0] = _step_of(series.affine, affine[:3, 0])
    return called, volume.array, affine


def _parts(labels: NDArray[np.unsignedinteger], name: str) -> tuple[NDArray[np.unsignedinteger], dict[int, str]]:
    """Return the connected parts of a segment as labels, and their names."""
    parts = numbered_lesions((labels > 0).astype(np.uint8))
    n_parts = int(parts.max(initial=0))
    if n_parts == 1:
        return parts, {1: name}
    return parts, {number: f"{name[: LONGEST_NAME - 7]} {number}" for number in range(1, n_parts + 1)}


def _snap(dataset: Dataset, grid: Grid) -> None:
    """Move frames to the slices of the scan that they were drawn on, if all are within a tenth of their distance.

    A scanner's own slices lie up to that far off an even grid, and frames that repeat their positions form no stack.
    """
    to_index = np.linalg.inv(LPS_TO_RAS @ grid.affine)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    if "PlaneOrientationSequence" not in shared:
        return
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=np.float64)
    normal = to_index[:3, :3] @ np.cross(orientation[:3], orientation[3:])
    axis = int(np.argmax(np.abs(normal)))
    items = [item.PlanePositionSequence[0] for item in dataset.PerFrameFunctionalGroupsSequence]
    positions = np.array([item.ImagePositionPatient for item in items], dtype=np.float64)
    heights = (positions @ to_index[:3, :3].T + to_index[:3, 3])[:, axis]
    steps = np.rint(heights) - heights
    is_along_axis = np.abs(np.delete(normal, axis)).max() <= GRID_TOLERANCE * np.abs(normal[axis]) / max(grid.shape)
    if is_along_axis and np.abs(steps).max() <= GRID_TOLERANCE:
        step = (LPS_TO_RAS @ grid.affine)[:3, axis]
        for item, position in zip(items, positions + steps[:, None] * step, strict=True):
            item.ImagePositionPatient = [format_number_as_ds(float(value)) for value in position]


def _check_size(dataset: Dataset, shape: Sequence[int], affine: NDArray[np.float64]) -> None:
    """Refuse, before memory is taken, a volume that no image of a patient has or whose pixels are not there."""
    check_geometry(Grid(tuple(shape), affine))
    n_bits = int(dataset.Rows) * int(dataset.Columns) * int(dataset.NumberOfFrames) * int(dataset.BitsAllocated)
    n_stored = len(dataset.PixelData)
    if not dataset.file_meta.TransferSyntaxUID.is_compressed and n_stored < math.ceil(n_bits / 8):
        raise PETError(f"PixelData has {n_stored} bytes, expected {math.ceil(n_bits / 8)}; the file is cut short")


def _step_of(affine: NDArray[np.float64], step: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the step of the scan's slices along that of a single slice, whose own thickness says nothing."""
    axis = int(np.argmax(np.abs(step @ affine[:3, :3]) / np.linalg.norm(affine[:3, :3], axis=0)))
    return affine[:3, axis] * np.sign(step @ affine[:3, axis])
