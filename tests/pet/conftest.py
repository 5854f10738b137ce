"""Small PET series, whole and broken."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from pipeline.pet import PETHeader, PETSeries, write_dicom_series
from tests.fdg import FDG

SHAPE = (8, 10, 12)
VOXEL_SIZE = (4.0, 5.0, 3.0)
N_SLICES = SHAPE[2]


@pytest.fixture(scope="session")
def header() -> PETHeader:
    """An FDG scan of 70 kg, 350 MBq, one hour after injection."""
    return replace(FDG, manufacturer="Example", model_name="Scanner 1", reconstruction_method="OSEM")


@pytest.fixture(scope="session")
def series(header: PETHeader) -> PETSeries:
    """Noise of SUV 0 to 10 that differs in every voxel, on an off-centre grid."""
    suv = np.random.default_rng(1).uniform(0.0, 10.0, SHAPE).astype(np.float32)
    affine = np.diag([*VOXEL_SIZE, 1.0])
    affine[:3, 3] = [-17.0, 21.0, -300.5]
    return PETSeries(suv=suv, affine=affine, header=header)


@pytest.fixture(scope="session")
def _written(series: PETSeries, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dicom_series(series, tmp_path_factory.mktemp("written") / "series", description="Whole body")


@pytest.fixture
def dicom_folder(_written: Path, tmp_path: Path) -> Path:
    """Folder of a sound DICOM series, this test's own."""
    return Path(shutil.copytree(_written, tmp_path / "dicom"))


Edit = Callable[[Dataset], object]


@pytest.fixture
def edit(dicom_folder: Path) -> Callable[..., Path]:
    """Return a function that changes slices of `dicom_folder`: all of them, or one by its number."""

    def change(function: Edit, *, number: int | None = None) -> Path:
        paths = sorted(dicom_folder.glob("*.dcm"))
        for path in paths if number is None else [paths[number - 1]]:
            dataset = pydicom.dcmread(path)
            function(dataset)
            dataset.save_as(path)
        return dicom_folder

    return change
