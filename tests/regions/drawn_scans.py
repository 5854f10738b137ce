"""Tiny scans, regions drawn on them, and a SEG decoded without the library that wrote it."""

import numpy as np
from pydicom.dataset import Dataset

from pipeline.images import Regions
from pipeline.pet import PETSeries
from pipeline.pet.grid import Grid
from tests.fdg import FDG

__all__ = ["SHAPE", "drawn", "labels_by_frames", "series_on"]

SHAPE = (9, 8, 7)


def series_on(affine: np.ndarray, shape: tuple[int, int, int] = SHAPE) -> PETSeries:
    """A scan of noise on a grid of its own."""
    suv = np.random.default_rng(3).uniform(0.5, 9.0, shape).astype(np.float32)
    return PETSeries(suv=suv, affine=affine, header=FDG)


def drawn(shape: tuple[int, int, int] = SHAPE) -> Regions:
    """Three regions without any symmetry: two that touch, one of a single voxel on the last slice; number 2 is free."""
    labels = np.zeros(shape, np.int32)
    labels[1:4, 2:4, 1:3] = 1
    labels[4, 2:6, 1] = 3
    labels[-1, -1, -1] = 4
    return Regions(labels, "drawn by hand", names={1: "Liver met", 4: "Node"})


def labels_by_frames(dataset: Dataset, grid: Grid) -> np.ndarray:
    """Segment numbers on a grid, from bits and plane positions of a SEG alone, without the library that wrote it."""
    labels = np.zeros(grid.shape, int)
    rows, columns = dataset.Rows, dataset.Columns
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
    frames = bits[: dataset.NumberOfFrames * rows * columns].reshape(-1, rows, columns)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    row_spacing, column_spacing = shared.PixelMeasuresSequence[0].PixelSpacing
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    for frame, item in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(item.PlanePositionSequence[0].ImagePositionPatient, float)
        number = item.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        for row, column in np.argwhere(frame):
            place = position + orientation[:3] * column * column_spacing + orientation[3:] * row * row_spacing
            index = np.linalg.inv(grid.affine) @ [-place[0], -place[1], place[2], 1]
            nearest = tuple(np.rint(index[:3]).astype(int))
            assert np.abs(index[:3] - nearest).max() < 0.01
            assert labels[nearest] == 0
            labels[nearest] = number
    return labels
