"""Image quality against values computed by hand and against an independent, brute-force computation."""

import numpy as np
import pytest

from pipeline.evaluation import bias, noise_level, nrmse, psnr, ssim


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(0).gamma(2.0, 1.0, (13, 12, 14)).astype(np.float32)


def test_psnr_of_a_constant_error_of_a_hundredth_of_the_range_is_40_db(volume):
    assert psnr(volume + 0.2, volume, data_range=20.0) == pytest.approx(40.0, abs=1e-4)


def test_psnr_of_equal_images_is_infinite(volume):
    assert psnr(volume, volume, data_range=20.0) == np.inf


def test_psnr_in_a_mask_sees_only_the_mask():
    target = np.zeros((4, 4, 4))
    pred = target.copy()
    pred[0], pred[1:] = 1.0, 100.0
    mask = np.zeros(target.shape, bool)
    mask[0] = True
    assert psnr(pred, target, data_range=10.0, mask=mask) == pytest.approx(20.0)


def test_ssim_of_equal_images_is_one(volume):
    assert ssim(volume, volume, data_range=20.0) == pytest.approx(1.0, abs=1e-12)


def test_ssim_equals_a_direct_sum_over_every_window(volume):
    noisy = volume + np.random.default_rng(1).normal(0, 0.7, volume.shape)
    tap = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    weights = tap[:, None, None] * tap[:, None] * tap
    weights /= weights.sum()
    c1, c2 = (0.01 * 10) ** 2, (0.03 * 10) ** 2
    values = []
    for i, j, k in np.ndindex(3, 2, 4):
        a = noisy[i : i + 11, j : j + 11, k : k + 11]
        b = volume[i : i + 11, j : j + 11, k : k + 11]
        mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
        var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
        cov = (weights * (a - mean_a) * (b - mean_b)).sum()
        values.append(
            (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
        )
    assert ssim(noisy, volume, data_range=10.0) == pytest.approx(np.mean(values), rel=1e-10)


def test_ssim_does_not_depend_on_how_the_volume_is_cut_into_slabs():
    rng = np.random.default_rng(2)
    a, b = rng.random((11, 12, 90)), rng.random((11, 12, 90))
    # 80 window positions along Z need three slabs; the same volume turned needs one.
    turned = ssim(a.transpose(2, 1, 0), b.transpose(2, 1, 0), data_range=1.0)
    assert ssim(a, b, data_range=1.0) == pytest.approx(turned, rel=1e-12)


def test_ssim_refuses_a_volume_smaller_than_its_window():
    with pytest.raises(ValueError, match="at least 11"):
        ssim(np.ones((10, 20, 20)), np.ones((10, 20, 20)), data_range=1.0)


@pytest.mark.parametrize("data_range", [0.0, -1.0, np.nan])
def test_a_range_that_is_not_positive_is_refused(volume, data_range):
    for measure in (psnr, ssim):
        with pytest.raises(ValueError, match="data_range"):
            measure(volume, volume, data_range=data_range)


def test_nrmse_and_bias_by_hand():
    target, pred = np.array([3.0, 4.0]), np.array([3.0, 5.0])
    assert nrmse(pred, target) == pytest.approx(1 / 5)
    assert bias(pred, target) == pytest.approx(100 / 7)


def test_scaling_an_image_by_1_1_is_a_tenth_of_nrmse_and_ten_percent_of_bias(volume):
    assert nrmse(volume * 1.1, volume) == pytest.approx(0.1, rel=1e-5)
    assert bias(volume * 1.1, volume) == pytest.approx(10.0, rel=1e-5)


def test_shapes_that_differ_are_refused_not_broadcast(volume):
    for measure in (nrmse, bias):
        with pytest.raises(ValueError, match="shape"):
            measure(volume, volume[:1])
    with pytest.raises(ValueError, match="mask"):
        bias(volume, volume, mask=np.ones((1, 1, 1), bool))


def test_noise_level_of_white_noise_on_a_ramp_is_its_coefficient_of_variation():
    rng = np.random.default_rng(3)
    ramp = np.linspace(1.5, 2.5, 60)[:, None, None] + np.zeros((60, 60, 20))
    noisy = ramp + rng.normal(0, 0.2, ramp.shape)
    assert noise_level(noisy, mask=np.ones(ramp.shape, bool)) == pytest.approx(10.0, rel=0.02)
    assert noise_level(ramp, mask=np.ones(ramp.shape, bool)) == pytest.approx(0.0, abs=1e-6)
