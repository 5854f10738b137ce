"""A scan as DICOM."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.pet import PETSeries, read_pet, write_dicom_series
from tests.regions.drawn_scans import series_on


@pytest.fixture(scope="session")
def scan(tmp_path_factory: pytest.TempPathFactory) -> tuple[PETSeries, Path]:
    """A series of anisotropic voxels as DICOM, read back, and its folder."""
    affine = np.diag([4.0, 5.0, 3.0, 1.0])
    affine[:3, 3] = [-17.0, 21.0, -300.5]
    folder = write_dicom_series(series_on(affine), tmp_path_factory.mktemp("scan") / "pet", description="Denoised")
    return read_pet(folder), folder
