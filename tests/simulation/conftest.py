"""Scanners small enough to test with, and a patient scanned on one."""

import pytest
from scanners import COARSE_SCANNER

from pipeline.simulation import Scanner, SimulatedSubject, simulate_subject


@pytest.fixture(scope="session")
def coarse_scanner() -> Scanner:
    """The whole body at 15 mm."""
    return COARSE_SCANNER


@pytest.fixture(scope="session")
def patient(coarse_scanner: Scanner) -> SimulatedSubject:
    """A patient with many lesions."""
    return simulate_subject(11, scanner=coarse_scanner, n_lesions=20)
