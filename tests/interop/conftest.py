"""A real series, or a generated one where that is absent, and the series derived from it."""

import os
from pathlib import Path

import numpy as np
import pydicom
import pytest

from pipeline.pet import read_pet, write_dicom_series
from tests.series import Scan, save_series, slices_of


def _generated(folder: Path) -> Path:
    """Write a series with the errors that the real one has."""
    slices = slices_of(Scan(manufacturer="GE MEDICAL SYSTEMS", slope_per_slice=True, n_beds=2))
    for dataset in slices:
        dataset.BodyPartExamined = "EXTREMITY"
        dataset.pop("Laterality")
        dataset.NumberOfTimeSlices = 6
    return save_series(slices, folder)


@pytest.fixture(scope="session")
def source_folder(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The GE whole-body series if the reference data is there, else a generated series of 12 slices."""
    data = Path(os.environ.get("UNIPET_REFERENCE_DATA", repository.parent / "shared" / "data"))
    real = data / "ge_discovery_st_whole_body" / "FDG_PET" / "image"
    return real if real.is_dir() else _generated(tmp_path_factory.mktemp("generated") / "series")


@pytest.fixture(scope="session")
def derived_folder(source_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The series derived from it by changing nothing."""
    series = read_pet(source_folder)
    return write_dicom_series(series, tmp_path_factory.mktemp("derived") / "denoised", description="Identity")


@pytest.fixture(scope="session")
def derived_suv(derived_folder: Path) -> np.ndarray:
    """SUVbw of the derived series. Shape (X, Y, Z)."""
    return read_pet(derived_folder).suv


@pytest.fixture(scope="session")
def derived_uids(derived_folder: Path) -> tuple[str, str]:
    """Study and series instance UID of the derived series."""
    header = pydicom.dcmread(next(derived_folder.iterdir()), stop_before_pixels=True)
    return header.StudyInstanceUID, header.SeriesInstanceUID
