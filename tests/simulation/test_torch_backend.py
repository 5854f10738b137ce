"""OSEM on torch against OSEM on numpy: the same counts, the same images to rounding."""

from dataclasses import replace

import numpy as np
import pytest
from scanners import FLAT_SCANNER

from pipeline.pet import PETError
from pipeline.simulation import ORGAN_LABELS, simulate_subject, system_model

torch = pytest.importorskip("torch")

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
FACTORS = (4, 20)


@pytest.fixture(scope="module", params=[None, 60.0], ids=["plain", "tof"])
def scanner(request):
    return replace(FLAT_SCANNER, tof_fwhm=request.param)


@pytest.fixture(scope="module")
def reference(scanner):
    return simulate_subject(5, scanner=scanner, dose_reduction_factors=FACTORS)


@pytest.fixture(scope="module", params=DEVICES)
def subject(request, scanner):
    return simulate_subject(5, scanner=scanner, dose_reduction_factors=FACTORS, device=request.param)


def images(subject):
    return [subject.noise_free, subject.full_dose, subject.full_dose_repeat, *subject.low_dose.values()]


def test_voxels_are_equal_to_rounding(reference, subject):
    for mine, theirs in zip(images(subject), images(reference), strict=True):
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5 * theirs.max())


def test_organ_means_are_equal(reference, subject):
    for mine, theirs in zip(images(subject), images(reference), strict=True):
        for label in set(ORGAN_LABELS.values()) & set(np.unique(reference.truth.labels)):
            organ = reference.truth.labels == label
            assert mine[organ].mean(dtype=np.float64) == pytest.approx(theirs[organ].mean(dtype=np.float64), rel=1e-4)


def test_counts_are_those_of_the_seed(reference, subject):
    for key in ("prompts_full_dose", "prompts_low_dose", "counts_per_suv_mm"):
        assert subject.parameters[key] == reference.parameters[key]


def test_where_it_ran_is_on_record(reference, subject):
    assert reference.parameters["reconstructed_on"] == "numpy"
    assert subject.parameters["reconstructed_on"] in ("cpu", "cuda")


def test_an_unknown_device_is_refused_in_one_line(scanner):
    for device in ("abacus", "cuda:99"):
        with pytest.raises(PETError, match=f"device '{device}'") as error:
            system_model(scanner, device)
        assert "\n" not in str(error.value)
