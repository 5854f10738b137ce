"""The filters that a network has to beat: what they do to small volumes, and that their settings are chosen right."""

import numpy as np
import pytest

from pipeline.comparison import best_gaussian_fwhm, best_nonlocal_means_strength, nonlocal_means_filter
from pipeline.evaluation import noise_sd, psnr
from pipeline.images import gaussian_filter_mm

VOXEL_SIZE = (4.0, 4.0, 4.0)
FLAT = (2.0, 2.0, 4.0)


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Noisy and true image of a body of SUV 1 with a hot ball of SUV 6 in it."""
    grid = np.indices((36, 36, 36)) - 17.5
    radius = np.sqrt((grid**2).sum(axis=0))
    truth = 1.0 * (radius < 15) + 5.0 * (radius < 5)
    truth = gaussian_filter_mm(truth, fwhm=8, voxel_size=VOXEL_SIZE)
    noise = np.random.default_rng(0).normal(0, 0.25, truth.shape) * np.sqrt(np.maximum(truth, 0))
    return (truth + noise).astype(np.float32), truth.astype(np.float32)


def test_no_strength_is_a_copy(pair):
    result = nonlocal_means_filter(pair[0], strength=0, voxel_size=VOXEL_SIZE)
    np.testing.assert_array_equal(result, pair[0])
    assert result is not pair[0]


def test_it_beats_the_best_gaussian_where_there_are_edges(pair):
    noisy, truth = pair
    filtered = nonlocal_means_filter(noisy, strength=1.75, voxel_size=VOXEL_SIZE)
    smooth = (gaussian_filter_mm(noisy, fwhm=fwhm, voxel_size=VOXEL_SIZE) for fwhm in (2, 4, 5, 6, 8))
    assert psnr(filtered, truth, data_range=20) > max(psnr(s, truth, data_range=20) for s in smooth) + 1


def test_the_square_root_costs_no_mean(pair):
    noisy, truth = pair
    filtered = nonlocal_means_filter(noisy, strength=2.5, voxel_size=VOXEL_SIZE)
    assert filtered.mean() == pytest.approx(noisy.mean(), rel=1e-4)
    tissue = (truth > 0.95) & (truth < 1.05)
    # The square of a mean root alone would be 6 % low, the variance of the noise.
    assert filtered[tissue].mean() == pytest.approx(1, rel=0.02)


def test_an_image_without_noise_is_left_alone():
    flat = np.full((20, 20, 20), 2.0, dtype=np.float32)
    np.testing.assert_array_equal(nonlocal_means_filter(flat, strength=2, voxel_size=VOXEL_SIZE), flat)
    air = np.zeros((20, 20, 20), dtype=np.float32)
    np.testing.assert_array_equal(nonlocal_means_filter(air, strength=2, voxel_size=VOXEL_SIZE), air)


def test_the_best_strength_is_the_one_with_the_highest_psnr(pair):
    noisy, truth = pair
    # The search has to climb: the best is at neither the middle nor its neighbours.
    candidates = (0, 1, 1.75, 2.5, 3, 4, 5, 6, 8)
    scores = [
        psnr(nonlocal_means_filter(noisy, strength=s, voxel_size=VOXEL_SIZE), truth, data_range=20) for s in candidates
    ]
    chosen = best_nonlocal_means_strength([(noisy, truth, VOXEL_SIZE)], data_range=20, candidates=candidates)
    assert chosen == candidates[int(np.argmax(scores))] == 1
    assert best_nonlocal_means_strength([(truth, truth, VOXEL_SIZE)], data_range=20, candidates=candidates) == 0


def test_mistakes_are_refused(pair):
    with pytest.raises(ValueError, match="negative"):
        nonlocal_means_filter(pair[0], strength=-1, voxel_size=VOXEL_SIZE)
    with pytest.raises(ValueError, match="no pairs"):
        best_nonlocal_means_strength([], data_range=20)


def test_noise_is_measured_in_the_unit_of_the_image():
    ramp = np.broadcast_to(np.linspace(0, 9, 40)[:, None, None], (40, 40, 40))
    noisy = ramp + np.random.default_rng(1).normal(0, 0.3, ramp.shape)
    assert noise_sd(noisy, mask=np.ones(ramp.shape, bool)) == pytest.approx(0.3, rel=0.02)


def test_the_width_that_made_the_reference_is_chosen():
    rng = np.random.default_rng(1)
    pairs = []
    for _ in range(2):
        sharp = rng.gamma(1.0, 1.0, (24, 24, 12))
        pairs.append((sharp, gaussian_filter_mm(sharp, fwhm=6.0, voxel_size=FLAT) + 1e-3, FLAT))
    chosen = best_gaussian_fwhm((pair for pair in pairs), data_range=20.0, candidates=(8, 0, 4, 6, 10))
    assert chosen == 6.0


def test_more_noise_asks_for_a_wider_filter():
    rng = np.random.default_rng(2)
    truth = gaussian_filter_mm(rng.gamma(0.3, 3.0, (32, 32, 16)), fwhm=12.0, voxel_size=FLAT)
    widths = [
        best_gaussian_fwhm([(truth + rng.normal(0, sd, truth.shape), truth, FLAT)], data_range=20.0)
        for sd in (0.02, 0.2, 2.0)
    ]
    assert widths[0] < widths[1] < widths[2]


def test_no_width_to_choose_from_is_refused():
    with pytest.raises(ValueError, match="no pairs"):
        best_gaussian_fwhm([], data_range=20.0)
