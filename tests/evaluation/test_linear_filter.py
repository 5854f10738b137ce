"""Measures of white noise under a linear filter: PSNR, noise, local variance and noise power equal their formulas."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.evaluation import local_variance, noise_power, noise_sd, psnr
from pipeline.images import ball_offsets

SHAPE, VOXEL_SIZE = (64, 56, 60), (4.0, 4.0, 3.0)
NOISE = 0.5  # [g/mL]
SIGMA = (1.1, 1.1, 1.4)  # [voxels]
VOLUME = float(np.prod(VOXEL_SIZE))


def kernels() -> list[np.ndarray]:
    """Taps of the filter along each axis."""
    point = np.zeros(41)
    point[20] = 1
    return [ndimage.gaussian_filter1d(point, sigma) for sigma in SIGMA]


def lag_one() -> list[float]:
    """Correlation of neighbours along each axis after the filter: the kernel's autocorrelation."""
    return [float(k[1:] @ k[:-1] / (k @ k)) for k in kernels()]


@pytest.fixture(scope="module")
def white():
    return np.random.default_rng(0).normal(0, NOISE, SHAPE)


@pytest.fixture(scope="module")
def filtered(white):
    return ndimage.gaussian_filter(white, SIGMA, mode="wrap")


@pytest.fixture(scope="module")
def region():
    """A ball, as an organ's core is no box."""
    mask = np.zeros(SHAPE, dtype=bool)
    mask[tuple((ball_offsets(84, voxel_size=VOXEL_SIZE) + np.array(SHAPE) // 2).T)] = True
    return mask


@pytest.fixture(scope="module")
def filtered_sd():
    return NOISE * np.sqrt(np.prod([k @ k for k in kernels()]))


def test_psnr_of_filtered_noise(white, filtered, filtered_sd):
    uniform = np.full(SHAPE, 2.0)
    for noise, sd in ((white, NOISE), (filtered, filtered_sd)):
        expected = 20 * np.log10(20 / sd)
        assert psnr(uniform + noise, uniform, data_range=20) == pytest.approx(expected, abs=0.1)


def test_noise_sd_of_filtered_noise(white, filtered, filtered_sd):
    # The mixed second difference has the variance s^2 (1 - rho_x) (1 - rho_y) where correlations separate.
    everywhere = np.ones(SHAPE, dtype=bool)
    rho_x, rho_y, _ = lag_one()
    assert noise_sd(2 + white, mask=everywhere) == pytest.approx(NOISE, rel=0.01)
    expected = filtered_sd * np.sqrt((1 - rho_x) * (1 - rho_y))
    assert noise_sd(2 + filtered, mask=everywhere) == pytest.approx(expected, rel=0.02)


def test_local_variance_of_filtered_noise(filtered, filtered_sd):
    # E[x^2] - E[mean^2], the variance of a mean over three along each axis being (3 + 4 rho_1 + 2 rho_2) / 9.
    shares = [(3 + 4 * r + 2 * float(k[2:] @ k[:-2] / (k @ k))) / 9 for r, k in zip(lag_one(), kernels(), strict=True)]
    expected = filtered_sd**2 * (1 - np.prod(shares))
    assert local_variance(filtered)[1:-1, 1:-1, 1:-1].mean() == pytest.approx(expected, rel=0.03)


def test_white_noise_is_flat_and_integrates_to_its_variance(white, region):
    found = noise_power(white, region, voxel_size=VOXEL_SIZE)
    # The first shell lacks the mean, which is subtracted.
    np.testing.assert_allclose(found.power[1:], NOISE**2 * VOLUME, rtol=0.08)
    assert found.variance == pytest.approx(white[region].var(), rel=1e-9)
    assert found.variance == pytest.approx(NOISE**2, rel=0.02)
    # The whole of frequency space is one over the volume of a voxel.
    assert found.extent.sum() == pytest.approx(1 / VOLUME)


def test_a_filter_multiplies_the_noise_power_by_its_squared_transfer_function(filtered, region):
    found = noise_power(filtered, region, voxel_size=VOXEL_SIZE)
    axes = [np.fft.fftfreq(96, size) for size in VOXEL_SIZE]
    transfers = [
        np.abs(np.exp(-2j * np.pi * np.outer(f * size, np.arange(-20, 21))) @ k) ** 2
        for f, size, k in zip(axes, VOXEL_SIZE, kernels(), strict=True)
    ]
    squared = transfers[0][:, None, None] * transfers[1][:, None] * transfers[2]
    frequency = np.sqrt(axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2)
    shell = (frequency / 0.02).astype(int).ravel()
    expected = NOISE**2 * VOLUME * np.bincount(shell, weights=squared.ravel()) / np.bincount(shell)
    strong = np.flatnonzero(expected > 0.01 * expected[0])[1:]
    assert len(strong) >= 3
    np.testing.assert_allclose(found.power[strong], expected[strong], rtol=0.1)
    assert found.variance == pytest.approx(filtered[region].var(), rel=1e-9)


def test_the_mean_frequency_falls_under_a_smoothing_filter(white, filtered, region):
    first, second = (noise_power(noise, region, voxel_size=VOXEL_SIZE).mean_frequency for noise in (white, filtered))
    assert second < 0.5 * first


def test_the_noise_power_of_a_wave_lies_at_its_frequency():
    x = np.arange(64) * 4.0
    wave = np.broadcast_to(np.sin(2 * np.pi * 0.0625 * x)[:, None, None], (64, 8, 8))
    found = noise_power(wave, np.ones(wave.shape, dtype=bool), voxel_size=(4, 4, 4))
    assert found.mean_frequency == pytest.approx(0.0625)
    assert found.variance == pytest.approx(0.5)


def test_noise_power_refuses_what_has_none():
    cube = np.zeros((8, 8, 8))
    with pytest.raises(ValueError, match="fewer than two"):
        noise_power(cube, cube > 0, voxel_size=(1, 1, 1))
    assert np.isnan(noise_power(cube, cube == 0, voxel_size=(1, 1, 1)).mean_frequency)
    with pytest.raises(ValueError, match="equal"):
        noise_power(cube, np.ones((8, 8, 7), bool), voxel_size=(1, 1, 1))
