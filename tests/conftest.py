"""Fixtures for every test."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.coarse_augmentation import COARSE_AUGMENTATION

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def workers_of_all_tests():
    """Workers start when the first test needs them, which takes seconds, and serve all further ones."""
    from pipeline.engine import workers_kept

    with workers_kept():
        yield


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """Folder of real and reference data, which the project does not ship; tests that need it skip without it."""
    if "UNIPET_REFERENCE_DATA" not in os.environ:
        pytest.skip("UNIPET_REFERENCE_DATA does not name a folder of reference data (CONTRIBUTING.md)")
    folder = Path(os.environ["UNIPET_REFERENCE_DATA"])
    assert folder.is_dir(), f"UNIPET_REFERENCE_DATA names {folder}, which is no folder"
    return folder


@pytest.fixture(scope="session")
def tiny_scanner():
    """A coarse scanner: a whole body is projected and reconstructed in less than a second."""
    from pipeline.simulation import Scanner

    return Scanner(
        name="tiny",
        matrix=(32, 32, 64),
        voxel_size=(15.0, 15.0, 15.0),
        n_angles=24,
        n_subsets=4,
        n_iterations=2,
        psf_in_plane=10.0,
        psf_axial=15.0,
        post_filter=15.0,
    )


@pytest.fixture
def tiny_preset(tiny_scanner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the cohorts of every recipe be simulated on the tiny scanner."""
    monkeypatch.setattr("pipeline.data.simulated.scanner_preset", lambda name: tiny_scanner)


@pytest.fixture(scope="session")
def tiny_cohort(tiny_scanner, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two subjects simulated on the tiny scanner, in seconds; tests only read them."""
    from pipeline.simulation import simulate_cohort

    folder = tmp_path_factory.mktemp("cohort")
    return simulate_cohort(folder, n_subjects=2, seed=12, scanner=tiny_scanner, dose_reduction_factors=(4, 20))


@pytest.fixture(scope="session")
def data(tiny_cohort: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments of `monai.bundle run` that name data: a simulated subject to train on, and one to validate on.

    Training augments few scans, and coarsely.
    """
    from pipeline.data import build_manifest

    root = tiny_cohort[0].parent
    manifest = build_manifest("simulated", root)
    splits = ("train", "validation")
    subjects = tuple(s.model_copy(update={"split": x}) for s, x in zip(manifest.subjects, splits, strict=True))
    folder = tmp_path_factory.mktemp("data")
    path = manifest.model_copy(update={"subjects": subjects}).write(folder / "manifest.yaml")
    named = ["--manifest", str(path), "--dataset_dir", str(root), "--store_dir", str(folder / "store"), "--jobs", "1"]
    return [*named, *(word for key, value in COARSE_AUGMENTATION.items() for word in (f"--{key}", value))]


_DRAWN = ("mip", "difference", "profile", "histogram", "voxel_error", "agreement", "error", "absolute_error")


@pytest.fixture
def blank_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the figures of pages blank, where a test looks at numbers and files: a page then takes a tenth of its time.

    What is made by fixtures of a wider scope, or in other processes, has its figures.
    """
    blank = BytesIO()
    Image.new("L", (1, 1)).save(blank, format="PNG")
    for name in _DRAWN:
        monkeypatch.setattr(f"pipeline.report.scan.report.{name}_figure", lambda *_, **__: blank.getvalue())
    monkeypatch.setattr(
        "pipeline.report.scan.report.region_figures",
        lambda images, regions, lesions, **_: dict.fromkeys(lesions["region"].head(20), blank.getvalue()),
    )
    monkeypatch.setattr("pipeline.report.cohort_figures.png", lambda *_, **__: blank.getvalue())


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def unipet() -> Callable[..., Done]:
    """Run a command of `unipet` in this process, as fast as a function call; an unexpected exception fails the test."""
    from typer.testing import CliRunner

    from pipeline.cli import app

    def run(*arguments: object) -> Done:
        done = CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(x) for x in arguments], catch_exceptions=False)
        return Done(returncode=done.exit_code, stdout=done.stdout, stderr=done.stderr)

    return run
