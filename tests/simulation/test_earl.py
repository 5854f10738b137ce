"""Recovery as at EARL: of the truth it is one, of a uniform image what the ratio says; limits as published."""

import numpy as np
import pytest
from scipy.special import erf

from pipeline.images import gaussian_filter_mm
from pipeline.pet import PETError
from pipeline.simulation import Scanner, nema_phantom
from pipeline.simulation.patient.earl import EARL1_MAX, EARL1_MEAN, earl_recovery, harmonising_filter
from pipeline.simulation.patient.nema import SPHERE_DIAMETERS

FINE = Scanner(name="fine", matrix=(160, 160, 32), voxel_size=(2.0, 2.0, 2.0), supersampling=1, bed_length=None)


@pytest.fixture(scope="module")
def truth():
    return nema_phantom(FINE, ratio=10.0).activity


def test_of_the_truth_everything_is_recovered(truth):
    found = earl_recovery(truth, FINE, ratio=10.0)
    np.testing.assert_allclose(found.maximum, 1, atol=1e-6)
    # Voxels that the surface cuts count where they are more than half full: the more, the smaller the sphere.
    assert (np.diff(found.mean) > 0).all()
    assert found.mean[0] > 0.85
    assert found.mean[-1] > 0.96


def test_blur_costs_small_spheres_most_and_the_mean_more_than_the_maximum(truth):
    found = earl_recovery(gaussian_filter_mm(truth, fwhm=8.0, voxel_size=FINE.voxel_size), FINE, ratio=10.0)
    assert (np.diff(found.mean) > 0).all()
    assert (found.mean < found.maximum).all()
    assert found.maximum[-1] == pytest.approx(1, abs=0.01)
    # The middle of a Gaussian of 8 mm over a ball of 10 mm: erf(a) - 2 a exp(-a^2) / sqrt(pi), a = r / (sqrt 2 sigma).
    a = 5 / (np.sqrt(2) * 8 / 2.3548)
    expected = 0.1 + 0.9 * (erf(a) - 2 * a * np.exp(-(a**2)) / np.sqrt(np.pi))
    assert found.maximum[0] == pytest.approx(expected, abs=0.02)


def test_the_filter_brings_a_sharp_scanner_within_the_limits_and_leaves_one_that_is(truth):
    smooth = gaussian_filter_mm(truth, fwhm=8.0, voxel_size=FINE.voxel_size)
    # The truth needs a wider filter than what is blurred already: squares of widths add.
    sharp, blurred = harmonising_filter(truth, FINE), harmonising_filter(smooth, FINE)
    assert np.hypot(8.0, blurred) == pytest.approx(sharp, abs=0.75)
    filtered = gaussian_filter_mm(truth, fwhm=sharp, voxel_size=FINE.voxel_size)
    assert earl_recovery(filtered, FINE, ratio=10.0).within_earl1.sum() >= 5
    assert not earl_recovery(truth, FINE, ratio=10.0).within_earl1.any()


def test_scaled_concentrations_scale_the_recovery(truth):
    one, half = (earl_recovery(image, FINE, ratio=10.0) for image in (truth, truth / 2))
    np.testing.assert_allclose(half.mean, one.mean / 2)


def test_another_grid_is_refused(truth):
    with pytest.raises(PETError, match="voxels"):
        earl_recovery(truth[:-2], FINE, ratio=10.0)


def test_the_limits_are_of_all_spheres_and_rise_with_them():
    for limits in (EARL1_MEAN, EARL1_MAX):
        assert tuple(limits) == SPHERE_DIAMETERS
        assert all(low < high for low, high in limits.values())
        assert (np.diff([low for low, _ in limits.values()]) > 0).all()
    assert EARL1_MEAN[10.0] == (0.27, 0.43)
    assert EARL1_MAX[37.0] == (0.95, 1.16)
