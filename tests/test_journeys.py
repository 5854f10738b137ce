"""A reader follows three journeys through the package in few files."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

from pipeline.data import Manifest, prepare_store
from studies.journeys import LIMITS, denoise_journey, suv_journey, training_journey
from tests.pet.scans import Scan, write_slices
from tests.pet.test_branches import SCANS
from tests.series import Scan as Body
from tests.series import save_series, slices_of


def alone(journey, path):
    """Profile in a process of its own: the threads of the engine's workers would be profiled, too, and starve."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(journey, path).result()


@pytest.mark.parametrize("name", ["activity", "not corrected, three beds"])
def test_an_suv_factor_is_found_in_few_files(name, tmp_path):
    entered = alone(suv_journey, write_slices(SCANS.get(name, Scan()), tmp_path / "scan"))
    assert "pet/dicom/reading/header.py" in entered
    assert len(entered) <= LIMITS["suv"], entered


def test_a_dicom_series_is_denoised_in_few_files(tmp_path):
    entered = alone(denoise_journey, save_series(slices_of(Body()), tmp_path / "scan"))
    ways = {"pet/dicom/writing/derived.py", "inference/streaming/planes.py", "networks/unipet.py", "report/figures.py"}
    assert ways <= set(entered)
    assert len(entered) <= LIMITS["denoise"], entered


@pytest.mark.slow
def test_a_first_gradient_step_is_taken_in_few_files(data, tmp_path):
    _, manifest, _, root, *_ = data
    prepare_store(Manifest.from_file(manifest), tmp_path / "store", root=root)
    entered = alone(training_journey, tmp_path / "store")
    assert {"data/store/store.py", "training/trainers/denoising.py", "networks/critic.py"} <= set(entered)
    assert len(entered) <= LIMITS["training"], entered
