"""A data set of small random scans with manifest and store, and folders laid out as data sets lay them out."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from pipeline.data import Manifest, Preparation, prepare_store
from pipeline.data.manifest import File, Image, Licence, Subject
from pipeline.pet import PETHeader, PETSeries, write_dicom_series, write_nifti
from tests.fdg import FDG

SHAPE = (40, 36, 44)
VOXEL_SIZE = 5.0
FACTORS = (4.0, 20.0)


@dataclass
class Scans:
    """Scans on disk."""

    root: Path
    manifest: Manifest
    truth: dict[tuple[str, str], NDArray[np.float32]]
    """Every image by subject and name."""

    def prepare(self, store: Path, **options: object) -> Preparation:
        return prepare_store(self.manifest, store, root=self.root, **options)

    def file(self, subject: str, name: str) -> Path:
        return self.root / subject / f"{name}.nii.gz"

    def write(self, subject: str, name: str, values: NDArray) -> None:
        """Write an image anew."""
        self.truth[subject, name] = values.astype(np.float32)
        write_nifti(_series(values), self.file(subject, name))


def _series(values: NDArray) -> PETSeries:
    affine = np.diag([VOXEL_SIZE, VOXEL_SIZE, VOXEL_SIZE, 1.0])
    return PETSeries(suv=values, affine=affine, header=PETHeader(units="GML"))


def _body() -> NDArray[np.float32]:
    """An ellipse of SUV 1 through all planes, with a hot and a warm ball."""
    x, y, z = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    suv = (((x - 20) / 15) ** 2 + ((y - 18) / 12) ** 2 < 1).astype(np.float32)
    suv[(x - 12) ** 2 + (y - 18) ** 2 + (z - 10) ** 2 < 9] = 8
    suv[(x - 28) ** 2 + (y - 20) ** 2 + (z - 34) ** 2 < 4] = 4
    return suv


def _make(folder: Path, n_subjects: int) -> Scans:
    rng = np.random.default_rng(5)
    scans = Scans(folder, None, {})
    subjects = []
    for n in range(n_subjects):
        name = f"s{n}"
        (folder / name).mkdir(parents=True)
        clean = _body()
        images = []
        for key, role, factor in [
            ("full", "dose", 1.0),
            ("drf004", "dose", 4.0),
            ("drf020", "dose", 20.0),
            ("noise_free", "noise_free", 1.0),
        ]:
            noise = 0 if role == "noise_free" else rng.normal(size=SHAPE) * 0.05 * np.sqrt(factor) * (clean > 0)
            scans.write(name, key, clean + noise)
            images.append(Image(path=f"{name}/{key}.nii.gz", role=role, dose_reduction_factor=factor))
        mask = nib.Nifti1Image((clean > 2).astype(np.uint8), np.diag([VOXEL_SIZE] * 3 + [1.0]))
        mask.header.set_xyzt_units("mm")
        nib.save(mask, folder / name / "lesions.nii.gz")
        subjects.append(
            Subject(
                id=name,
                patient=f"patient {n}",
                split="validation" if n == 2 else "train",
                tracer="FDG",
                images=tuple(images),
                lesions=File(path=f"{name}/lesions.nii.gz"),
            )
        )
    scans.manifest = Manifest(
        name="random",
        title="Random scans",
        source="random numbers",
        how_to_get="run the tests",
        licence=Licence(name="none", allows="everything"),
        layout="bids_pet",
        subjects=tuple(subjects),
    )
    return scans


@pytest.fixture(scope="session")
def body() -> NDArray[np.float32]:
    """What every image shows, without noise."""
    return _body()


@pytest.fixture(scope="session")
def make_scans(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Scans]:
    """Function that makes scans that a test may change."""
    return lambda n_subjects=2: _make(tmp_path_factory.mktemp("scans"), n_subjects)


@pytest.fixture(scope="session")
def scans(make_scans: Callable[..., Scans]) -> Scans:
    """Three subjects, which no test changes."""
    return make_scans(3)


@pytest.fixture(scope="session")
def store_folder(scans: Scans, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their store, which no test changes."""
    folder = tmp_path_factory.mktemp("prepared") / "store"
    assert not scans.prepare(folder).of_status("failed")
    return folder


CYLINDER = (24, 22, 20)

HEADER = replace(FDG, patient_height=None, patient_sex="", manufacturer="Example", model_name="Scanner 1")


def _cylinder(noise: float, *, seed: int = 0, level: float = 1.0) -> NDArray[np.float32]:
    """A cylinder of one SUV with white noise."""
    x, y, _ = np.meshgrid(*(np.arange(n) for n in CYLINDER), indexing="ij")
    inside = ((x - CYLINDER[0] / 2) / 9) ** 2 + ((y - CYLINDER[1] / 2) / 9) ** 2 < 1
    values = level * inside * (1 + noise * np.random.default_rng(seed).standard_normal(CYLINDER))
    return np.clip(values, 0, None).astype(np.float32)


@pytest.fixture(scope="session")
def _slices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A DICOM series of FDG, and one that is labelled FDG but is of Ga-68."""
    folder = tmp_path_factory.mktemp("slices")
    series = PETSeries(suv=_cylinder(0.1), affine=np.diag([8.0, 8.0, 8.0, 1.0]), header=HEADER)
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
        voxels = _cylinder(noise, seed=seed, level=level) if values is None else values
        path.parent.mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(voxels, np.diag([8.0, 8.0, 8.0, 1.0]) if grid is None else grid)
        image.header.set_xyzt_units("mm", "sec")
        nib.save(image, path)
        if sidecar is not None:
            path.with_name(path.name.split(".nii")[0] + ".json").write_text(json.dumps(sidecar))
        return path

    return make
