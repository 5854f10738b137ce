"""Local variance and its ratio."""

import numpy as np
import pytest

from pipeline.evaluation import local_variance, local_variance_ratio
from pipeline.images import gaussian_filter_mm


@pytest.fixture
def rough() -> np.ndarray:
    return np.random.default_rng(0).normal(3, 0.5, (24, 24, 24))


def test_one_hot_voxel_by_hand():
    image = np.zeros((5, 5, 5))
    image[2, 2, 2] = 27.0
    # E[x^2] - E[x]^2 = 27^2 / 27 - 1 wherever the 27 voxels around hold the hot one.
    expected = np.zeros((5, 5, 5))
    expected[1:4, 1:4, 1:4] = 26.0
    np.testing.assert_allclose(local_variance(image), expected, atol=1e-12)


def test_an_image_has_its_own_texture_and_a_scaled_one_the_square_of_it(rough):
    assert local_variance_ratio(rough, rough) == 1
    assert local_variance_ratio(2 * rough + 5, rough) == pytest.approx(4)


def test_smoothing_lowers_and_noise_raises_it(rough):
    smooth = gaussian_filter_mm(rough, fwhm=8, voxel_size=(4, 4, 4))
    assert local_variance_ratio(smooth, rough) < 0.3
    noisier = rough + np.random.default_rng(1).normal(0, 0.5, rough.shape)
    assert local_variance_ratio(noisier, rough) == pytest.approx(2, rel=0.1)


def test_what_is_flat_in_the_reference_does_not_count(rough):
    reference = rough.copy()
    reference[12:] = 3.0
    noisy = reference.copy()
    noisy[14:] += np.random.default_rng(2).normal(0, 1, noisy[14:].shape)
    assert local_variance_ratio(noisy, reference) == 1


def test_a_flat_reference_is_refused():
    with pytest.raises(ValueError, match="no local variance"):
        local_variance_ratio(np.ones((5, 5, 5)), np.ones((5, 5, 5)))
    with pytest.raises(ValueError, match="shapes"):
        local_variance_ratio(np.ones((5, 5, 5)), np.ones((5, 5, 6)))
