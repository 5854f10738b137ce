"""Scanners small enough to test with, and a patient scanned on one."""

import pytest

from pipeline.simulation import Scanner, SimulatedSubject, simulate_subject


@pytest.fixture(scope="session")
def coarse_scanner() -> Scanner:
    """The whole body at 15 mm."""
    return Scanner(name="coarse", matrix=(32, 32, 64), voxel_size=(15.0, 15.0, 15.0), n_angles=40, n_subsets=4)


@pytest.fixture(scope="session")
def patient(coarse_scanner: Scanner) -> SimulatedSubject:
    """A patient with many lesions."""
    return simulate_subject(11, scanner=coarse_scanner, n_lesions=20)
