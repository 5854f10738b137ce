"""DICOM RTSTRUCT as regions of a scan: the voxels whose centres lie inside the contours.

A contour stands for the space around its plane, half way to the next plane of its region: contours of another image of
the frame of reference, such as a CT with thinner or thicker slices, are filled as well. Contours of one plane exclude
one another (XOR), so that one inside another is a hole (DICOM PS3.3 C.8.8.6.3).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from pipeline.errors import PETError, naming
from pipeline.images import Regions
from pipeline.pet.dicom.values import number_of, stored_value, text_of, value_of
from pipeline.pet.grid import LPS_TO_RAS, Grid
from pipeline.pet.series import PETSeries
from pipeline.regions.dicom_objects import check_frame_of_reference
from pipeline.regions.names import chosen, inert
from pipeline.regions.placing import check_inside

__all__ = ["RTSTRUCT_CLASS", "read_structure_set"]

RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
"""SOP class of RT Structure Set Storage."""

CLOSED = {"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"}
"""Values of ContourGeometricType (3006,0042) that enclose an area."""

FLATNESS = 0.25
"""The points of a contour lie this close to one plane of the scan's grid, in distances of its planes."""

_CONTOUR_DATA = Tag("ContourData")

_SAME_PLANE = 0.1  # [mm] positions are rounded to a hundredth


@dataclass(frozen=True)
class _Box:
    """Voxels of a region within their bounding box, which may reach beyond the scan."""

    mask: NDArray[np.bool_]
    start: NDArray[np.intp]

    def within(self, shape: Sequence[int]) -> tuple[tuple[slice, ...], NDArray[np.bool_]]:
        """Return the part of the box that lies in a volume, and the mask in it."""
        low = np.clip(self.start, 0, shape)
        high = np.clip(self.start + self.mask.shape, low, shape)
        own = tuple(slice(a, b) for a, b in zip(low - self.start, high - self.start, strict=True))
        return tuple(slice(a, b) for a, b in zip(low, high, strict=True)), self.mask[own]


def read_structure_set(dataset: Dataset, series: PETSeries, *, names: Sequence[str] | None = None) -> Regions:
    """Read a DICOM RTSTRUCT; regions have the order of the file and their names; see `pipeline.regions.read_regions`.

    Regions without a closed contour, such as points, are left out.
    """
    rois = value_of(dataset, "StructureSetROISequence") or ()
    stated = {_number(roi, "ROINumber"): inert(text_of(roi, "ROIName")) for roi in rois}
    if len(stated) < len(rois):
        raise PETError("ROINumber stands twice in StructureSetROISequence, expected each once")
    frames = {_number(roi, "ROINumber"): text_of(roi, "ReferencedFrameOfReferenceUID") for roi in rois}
    drawn = value_of(dataset, "ROIContourSequence") or ()
    contours = {_number(item, "ReferencedROINumber"): _closed_contours(item) for item in drawn}
    enclosing = {number: name for number, name in stated.items() if contours.get(number)}
    if not enclosing:
        raise PETError(f"none of {len(stated)} regions has a closed contour, expected one")
    wanted = chosen(enclosing, names)
    notes = [check_frame_of_reference(frame, series) for frame in {frames[number] for number in wanted}]
    labels = np.zeros(series.suv.shape, dtype=np.int32)
    called: dict[int, str] = {}
    for number, roi in enumerate(wanted, start=1):
        with naming(f"region {enclosing[roi]!r}"):
            box = _filled([_points_of(contour) for contour in contours[roi]], series.grid)
            place, mask = box.within(series.suv.shape)
            n_labelled = int(np.count_nonzero(box.mask))
            n_outside = n_labelled - int(np.count_nonzero(mask))
            check_inside(n_outside, n_labelled, found=_grid_of(box, series.grid), expected=series.grid)
            _check_apart(labels[place][mask], called)
        labels[place][mask] = number
        called[number] = enclosing[roi]
    return _regions(labels, called, notes)


def _number(item: Dataset, keyword: str) -> int:
    number = number_of(item, keyword)
    if number is None:
        raise PETError(f"{keyword} is missing, expected one for every region")
    return int(number)


def _regions(labels: NDArray[np.int32], called: dict[int, str], notes: Sequence[str]) -> Regions:
    present = set(np.unique(labels)) - {0}
    lost = [str(number) for number in called if number not in present]
    texts = ["given DICOM RTSTRUCT, voxels whose centres lie inside the contours", *sorted(set(notes))]
    if lost:
        texts.append(f"{len(lost)} regions between voxel centres left out (number {', '.join(lost[:10])})")
    names = {number: name for number, name in called.items() if number in present}
    return Regions(labels, ", ".join(text for text in texts if text), names=names)


def _check_apart(taken: NDArray[np.int32], called: dict[int, str]) -> None:
    shared = np.bincount(taken, minlength=1)
    shared[0] = 0
    if shared.any():
        other = called[int(shared.argmax())]
        raise PETError(f"shares {shared.max()} voxels with {other!r}, expected regions apart; choose one by its name")


def _closed_contours(item: Dataset) -> list[Dataset]:
    """Return the contours of a region that enclose an area; points are no contours."""
    contours = value_of(item, "ContourSequence") or ()
    return [contour for contour in contours if text_of(contour, "ContourGeometricType") in CLOSED]


def _points_of(contour: Dataset) -> NDArray[np.float64]:
    """Return the points of a contour, RAS+ [mm], shape (n, 3)."""
    value = stored_value(contour, _CONTOUR_DATA)
    # Whole-body sets have millions of numbers, and pydicom takes a hundred times as long for each.
    numbers = value.decode("ascii", "replace").strip("\0 ").split("\\") if isinstance(value, bytes) else value
    try:
        points = np.array(numbers, dtype=np.float64).reshape(-1, 3)
    except (TypeError, ValueError) as error:
        raise PETError("ContourData does not hold three numbers for each point") from error
    if not np.isfinite(points).all():
        raise PETError("ContourData is not finite")
    return points @ LPS_TO_RAS[:3, :3]


def _filled(contours: Sequence[NDArray[np.float64]], grid: Grid) -> _Box:
    """Return the voxels of a grid whose centres lie inside contours."""
    to_index = np.linalg.inv(grid.affine)
    polygons = [points @ to_index[:3, :3].T + to_index[:3, 3] for points in contours]
    spread = np.max([np.ptp(points, axis=0) for points in polygons], axis=0)
    axis = int(np.argmin(spread))
    spacing = float(np.linalg.norm(grid.affine[:3, axis]))
    if spread[axis] > FLATNESS:
        raise PETError(f"contours leave the planes of the scan by up to {spread[axis] * spacing:.1f} mm, expected flat")
    points = np.concatenate(polygons)
    low, high = np.floor(points.min(axis=0)).astype(int) - 1, np.ceil(points.max(axis=0)).astype(int) + 1
    if (low < -np.array(grid.shape)).any() or (high > 2 * np.array(grid.shape)).any():
        raise PETError(f"contours lie further from the scan than its own size, expected them in {grid}")
    planes, half = _planes(np.array([p[:, axis].mean() for p in polygons]), tolerance=_SAME_PLANE / spacing)
    low[axis], high[axis] = np.floor(planes.min() - half), np.ceil(planes.max() + half)
    mask = np.zeros(high - low + 1, dtype=bool)
    inside = _areas(polygons, planes, axis=axis, low=low, shape=mask.shape)
    for k in range(mask.shape[axis]):
        distance = np.abs(planes - (k + low[axis]))
        if distance.min() <= half + _SAME_PLANE / spacing / 2:
            np.moveaxis(mask, axis, 0)[k] = inside[float(planes[distance.argmin()])]
    return _Box(mask, low)


def _planes(places: NDArray[np.float64], *, tolerance: float) -> tuple[NDArray[np.float64], float]:
    """Replace `places` by the mean of those that are one; return them, and half the distance of neighbouring planes."""
    order = np.argsort(places, kind="stable")
    group = np.concatenate([[0], np.cumsum(np.diff(places[order]) > tolerance)])
    means = np.bincount(group, weights=places[order]) / np.bincount(group)
    half = float(np.diff(means).min()) / 2 if len(means) > 1 else 0.5
    placed = np.empty_like(places)
    placed[order] = means[group]
    return placed, half


def _areas(
    polygons: Sequence[NDArray[np.float64]],
    planes: NDArray[np.float64],
    *,
    axis: int,
    low: NDArray[np.intp],
    shape: Sequence[int],
) -> dict[float, NDArray[np.bool_]]:
    """Return for each plane which voxel centres of the bounding box lie inside an odd number of its contours."""
    from matplotlib.path import Path as Polygon

    first, second = (a for a in range(3) if a != axis)
    across = np.meshgrid(np.arange(shape[first]) + low[first], np.arange(shape[second]) + low[second], indexing="ij")
    centres = np.column_stack([values.ravel() for values in across])
    inside: dict[float, NDArray[np.bool_]] = {}
    for points, plane in zip(polygons, planes, strict=True):
        area = Polygon(points[:, [first, second]]).contains_points(centres).reshape(shape[first], shape[second])
        inside[float(plane)] = area ^ inside.get(float(plane), np.zeros_like(area))
    return inside


def _grid_of(box: _Box, grid: Grid) -> Grid:
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ box.start
    return Grid(box.mask.shape, affine)
