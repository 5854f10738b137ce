"""Scans and methods of a second or less."""

from pathlib import Path

import pytest

from pipeline.pet import write_nifti
from tests.workflow.conftest import body_series, identity, scan

__all__ = ["body_series", "identity", "scan", "scans"]


@pytest.fixture
def scans(body_series, tmp_path) -> Path:
    """Return a folder of three scans."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for k in range(3):
        write_nifti(body_series(seed=k), folder / f"sub-{k:02d}_pet.nii.gz")
    return folder
