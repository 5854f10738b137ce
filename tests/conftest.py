"""Fixtures for every test."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """Folder of real and reference data, which the project does not ship; tests that need it skip without it."""
    folder = Path(os.environ.get("UNIPET_REFERENCE_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"reference data is not at {folder}; set UNIPET_REFERENCE_DATA")
    return folder


@pytest.fixture(scope="session")
def tiny_cohort(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two subjects simulated on a coarse scanner, in seconds."""
    from pipeline.simulation import Scanner, simulate_cohort

    scanner = Scanner(
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
    folder = tmp_path_factory.mktemp("cohort")
    return simulate_cohort(folder, n_subjects=2, seed=11, scanner=scanner, dose_reduction_factors=(4, 20))
