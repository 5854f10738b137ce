"""A data set of small random scans, its manifest and its store."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.data import Manifest, Preparation, prepare_store
from pipeline.data.manifest import File, Image, Licence, Subject
from pipeline.pet import PETHeader, PETSeries, write_nifti

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
