"""Folders of small scans, laid out as data sets lay them out."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from pipeline.pet import PETHeader, PETSeries, write_dicom_series

SHAPE = (24, 22, 20)
VOXEL_SIZE = 8.0

HEADER = PETHeader(
    units="BQML",
    decay_correction="START",
    patient_weight=70.0,
    radionuclide="F-18",
    radiopharmaceutical="FDG",
    radionuclide_half_life=6586.2,
    injected_dose=350e6,
    administration_time=-3600.0,
    reference_time=0.0,
    frame_duration=120.0,
    manufacturer="Example",
    model_name="Scanner 1",
)


def body(noise: float, *, seed: int = 0, level: float = 1.0) -> NDArray[np.float32]:
    """A cylinder of one SUV with white noise."""
    x, y, _ = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    inside = ((x - SHAPE[0] / 2) / 9) ** 2 + ((y - SHAPE[1] / 2) / 9) ** 2 < 1
    values = level * inside * (1 + noise * np.random.default_rng(seed).standard_normal(SHAPE))
    return np.clip(values, 0, None).astype(np.float32)


def affine() -> NDArray[np.float64]:
    return np.diag([VOXEL_SIZE, VOXEL_SIZE, VOXEL_SIZE, 1.0])


@pytest.fixture(scope="session")
def _slices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A DICOM series of FDG, and one that is labelled FDG but is of Ga-68."""
    folder = tmp_path_factory.mktemp("slices")
    series = PETSeries(suv=body(0.1), affine=affine(), header=HEADER)
    gallium = replace(series, header=replace(HEADER, radionuclide="Ga-68", radionuclide_half_life=4062.6))
    return {
        "F-18": write_dicom_series(series, folder / "fdg", description="PET WB"),
        "Ga-68": write_dicom_series(gallium, folder / "gallium", description="PET WB"),
    }


@pytest.fixture
def dicom(_slices: dict[str, Path]) -> Callable[..., Path]:
    """Return a function that makes a folder of DICOM slices."""

    def make(
        folder: Path,
        *,
        suffix: str = ".dcm",
        nuclide: str = "F-18",
        patient: str = "",
        edit: Callable[[Dataset], object] | None = None,
    ) -> Path:
        shutil.copytree(_slices[nuclide], folder)
        for path in sorted(folder.iterdir()):
            if patient or edit:
                dataset = pydicom.dcmread(path)
                # Real studies of two patients differ in both.
                dataset.PatientID = patient or dataset.PatientID
                dataset.StudyInstanceUID = f"1.2.{int.from_bytes(dataset.PatientID.encode(), 'big')}"[:60]
                if edit is not None:
                    edit(dataset)
                dataset.save_as(path)
            path.rename(path.with_suffix(suffix))
        return folder

    return make


@pytest.fixture
def nifti() -> Callable[..., Path]:
    """Return a function that makes a NIfTI file, and its JSON file if given one."""

    def make(
        path: Path,
        values: NDArray | None = None,
        *,
        noise: float = 0.1,
        seed: int = 0,
        level: float = 1.0,
        sidecar: dict | None = None,
        grid: NDArray[np.float64] | None = None,
    ) -> Path:
        """Write the given voxels, or a cylinder of SUV `level`."""
        voxels = body(noise, seed=seed, level=level) if values is None else values
        path.parent.mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(voxels, affine() if grid is None else grid)
        image.header.set_xyzt_units("mm", "sec")
        nib.save(image, path)
        if sidecar is not None:
            path.with_name(path.name.split(".nii")[0] + ".json").write_text(json.dumps(sidecar))
        return path

    return make
