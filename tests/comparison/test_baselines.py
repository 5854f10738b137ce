"""The filters that a network has to beat: what they do to small volumes, and that their settings are chosen right."""

import sys

import numpy as np
import pytest

from pipeline.comparison import best_setting, bm4d_filter, filters_named, nonlocal_means_filter
from pipeline.evaluation import noise_sd, psnr
from pipeline.images import gaussian_filter_mm
from pipeline.pet import PETError, PETHeader, PETSeries

VOXEL_SIZE = (4.0, 4.0, 4.0)
FLAT = (2.0, 2.0, 4.0)


def series(suv, voxel_size=VOXEL_SIZE) -> PETSeries:
    return PETSeries(suv=np.float32(suv), affine=np.diag([*voxel_size, 1.0]), header=PETHeader(units="GML"))


def best(name, *pairs, voxel_size=VOXEL_SIZE, **options):
    return best_setting(name, [(series(a, voxel_size), series(b, voxel_size)) for a, b in pairs], **options)


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
    chosen = best("nonlocal_means", (noisy, truth), candidates=candidates)
    assert chosen == candidates[int(np.argmax(scores))] == 1
    assert best("nonlocal_means", (truth, truth), candidates=candidates) == 0


def test_mistakes_are_refused(pair):
    with pytest.raises(ValueError, match="negative"):
        nonlocal_means_filter(pair[0], strength=-1, voxel_size=VOXEL_SIZE)
    with pytest.raises(ValueError, match="no pairs"):
        best("nonlocal_means")


def test_noise_is_measured_in_the_unit_of_the_image():
    ramp = np.broadcast_to(np.linspace(0, 9, 40)[:, None, None], (40, 40, 40))
    noisy = ramp + np.random.default_rng(1).normal(0, 0.3, ramp.shape)
    assert noise_sd(noisy, mask=np.ones(ramp.shape, bool)) == pytest.approx(0.3, rel=0.02)


def test_the_width_that_made_the_reference_is_chosen():
    rng = np.random.default_rng(1)
    pairs = []
    for _ in range(2):
        sharp = rng.gamma(1.0, 1.0, (24, 24, 12))
        pairs.append((sharp, gaussian_filter_mm(sharp, fwhm=6.0, voxel_size=FLAT) + 1e-3))
    chosen = best("gaussian", *pairs, voxel_size=FLAT, candidates=(8, 0, 4, 6, 10))
    assert chosen == 6.0


def test_more_noise_asks_for_a_wider_filter():
    rng = np.random.default_rng(2)
    truth = gaussian_filter_mm(rng.gamma(0.3, 3.0, (32, 32, 16)), fwhm=12.0, voxel_size=FLAT)
    widths = [
        best("gaussian", (truth + rng.normal(0, sd, truth.shape), truth), voxel_size=FLAT) for sd in (0.02, 0.2, 2.0)
    ]
    assert widths[0] < widths[1] < widths[2]


def test_a_tall_scan_is_judged_on_slabs_with_the_noise_of_all_of_it(pair):
    """Noise that trebles towards one end asks for another strength there than in the other part of the scan."""
    tall = np.concatenate([pair[1]] * 3, axis=2)
    rising = np.linspace(0.1, 0.3, tall.shape[2])
    noisy = tall + np.random.default_rng(3).normal(0, 1, tall.shape) * rising * np.sqrt(np.maximum(tall, 0))
    candidates = (1, 1.5, 2, 2.5, 3)
    scores = [
        psnr(nonlocal_means_filter(noisy, strength=s, voxel_size=VOXEL_SIZE), tall, data_range=20) for s in candidates
    ]
    chosen = best("nonlocal_means", (noisy, tall), candidates=candidates)
    assert chosen == candidates[int(np.argmax(scores))]


def test_far_from_the_body_the_result_is_the_local_mean(pair):
    padded = np.pad(pair[0], ((20, 0), (0, 0), (0, 0)))
    inside = nonlocal_means_filter(padded, strength=2, voxel_size=VOXEL_SIZE)[25:]
    np.testing.assert_allclose(inside, nonlocal_means_filter(pair[0], strength=2, voxel_size=VOXEL_SIZE)[5:], atol=0.02)


def test_bm4d_beats_the_best_gaussian_where_it_is_installed(pair):
    pytest.importorskip("bm4d")
    noisy, truth = pair
    filtered = bm4d_filter(noisy, strength=1.5, voxel_size=VOXEL_SIZE)
    smooth = (gaussian_filter_mm(noisy, fwhm=fwhm, voxel_size=VOXEL_SIZE) for fwhm in (2, 4, 5, 6, 8))
    assert psnr(filtered, truth, data_range=20) > max(psnr(s, truth, data_range=20) for s in smooth)
    assert filtered.mean() == pytest.approx(noisy.mean(), rel=1e-4)


def test_bm4d_is_asked_for_by_name_where_it_is_missing(pair, monkeypatch):
    monkeypatch.setitem(sys.modules, "bm4d", None)
    monkeypatch.setattr("pipeline.comparison.filters.find_spec", lambda name: None)
    with pytest.raises(PETError, match="pip install bm4d"):
        bm4d_filter(pair[0], strength=1, voxel_size=VOXEL_SIZE)
    with pytest.raises(PETError, match="non-commercial"):
        filters_named(["gaussian", "bm4d"])
    with pytest.raises(PETError, match="'median' is not known, expected gaussian"):
        filters_named(["median"])
