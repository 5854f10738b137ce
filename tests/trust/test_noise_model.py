"""The noise of a scan against fields whose noise is known."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.constants import FWHM_PER_SIGMA
from pipeline.errors import UndefinedMeasureError
from pipeline.images import equivalent_diameter
from pipeline.trust.noise_model import noise_features, scan_noise

SIDES = (4.0, 4.0, 4.0)
SHAPE = (48, 48, 40)


def field(sigmas, *, seed=0, shape=SHAPE):
    """White noise filtered by a Gaussian of these widths [voxels], SD 1."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigmas)
    return noise / noise.std()


def cube(edge, shape=SHAPE):
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(n // 2 - edge // 2, n // 2 - edge // 2 + edge) for n in shape)] = True
    return mask


@pytest.mark.parametrize("edge", [1, 3, 8])
def test_white_noise_gives_sigma_over_root_n(edge):
    noise = scan_noise(5 + 0.5 * field(0), voxel_size=SIDES)
    assert noise.correlation == pytest.approx((0, 0, 0), abs=0.03)
    assert noise.sd_of_mean(cube(edge)) == pytest.approx(0.5 / edge**1.5, rel=0.12)


@pytest.mark.parametrize("sigmas", [(0.6, 0.6, 0.4), (1.0, 1.0, 1.5)])
def test_correlated_noise_gives_the_sd_of_means_of_copies(sigmas):
    noise = scan_noise(5 + 0.5 * field(sigmas), voxel_size=SIDES)
    kernel = np.zeros((25, 25, 25))
    kernel[12, 12, 12] = 1
    psf = ndimage.gaussian_filter(kernel, sigmas)
    # The mean over a cube is white noise through one more filter: its variance is the filter's energy.
    blurred = ndimage.uniform_filter(psf, 5, mode="constant")
    expected = 0.5 * np.sqrt((blurred**2).sum() / (psf**2).sum())
    assert noise.sd_of_mean(cube(5)) == pytest.approx(expected, rel=0.12)


def test_the_width_of_the_filter_is_read_from_the_noise():
    noise = scan_noise(5 + 0.3 * field((1.0, 1.0, 1.5)), voxel_size=(4.0, 4.0, 3.0))
    assert noise.correlation_fwhm == pytest.approx(FWHM_PER_SIGMA * np.array([4.0, 4.0, 4.5]), rel=0.08)


def test_noise_is_local():
    sd = np.where(np.arange(SHAPE[2]) < 20, 0.2, 0.6)
    noise = scan_noise(5 + field(0.7) * sd, voxel_size=SIDES)
    low, high = cube(5), cube(5)
    low, high = np.roll(low, -12, axis=2), np.roll(high, 12, axis=2)
    assert noise.sd_of_mean(high) / noise.sd_of_mean(low) == pytest.approx(3, rel=0.15)


def test_edges_and_trends_are_no_noise():
    anatomy = np.full(SHAPE, 3.0)
    anatomy[:24] = 9.0
    anatomy += np.linspace(0, 3, SHAPE[1])[None, :, None]
    plain, with_anatomy = (scan_noise(a + 0.1 * field(0.7), voxel_size=SIDES) for a in (np.full(SHAPE, 7.5), anatomy))
    assert np.median(with_anatomy.voxel_sd) == pytest.approx(np.median(plain.voxel_sd), rel=0.1)


@pytest.mark.parametrize("k", [0.5, 4.0])
def test_a_scan_of_k_times_the_suv_has_k_times_the_sd(k):
    scan, coefficients = 8 + field(0.8), (0.1, -0.1, 0.2, -0.1, -0.2)
    one, other = (scan_noise(a, voxel_size=SIDES, coefficients=coefficients) for a in (scan, k * scan))
    assert other.sd_of_mean(cube(4)) == pytest.approx(k * one.sd_of_mean(cube(4)), rel=0.02)


def test_a_box_of_the_image_gives_what_the_image_gives():
    noise = scan_noise(5 + field((0.8, 0.8, 1.2)), voxel_size=SIDES, coefficients=(0.1, -0.1, 0.2, -0.1, -0.2))
    mask = cube(5)
    box = (slice(18, 30), slice(20, 29), slice(15, 25))
    assert noise.sd_of_mean(mask[box], box) == pytest.approx(noise.sd_of_mean(mask))


def test_intervals_hold_the_mean_as_often_as_they_say():
    held = []
    for seed in range(5):
        scan = field((0.8, 0.8, 1.0), seed=seed)
        noise = scan_noise(6 + 0.6 * scan, voxel_size=SIDES)
        for x in range(10, 40, 9):
            for z in range(8, 36, 9):
                box = (slice(x, x + 4), slice(20, 24), slice(z, z + 4))
                error = 0.6 * (scan[box].mean() - scan.mean())
                held.append(abs(error) < 1.96 * noise.sd_of_mean(np.ones((4, 4, 4), dtype=bool), box))
    assert 0.90 <= np.mean(held) <= 0.99


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros(SHAPE), "0 voxels of tissue"),
        (np.full((48, 48, 1), 5.0), "expected 5 x 5 x 5"),
        (np.full(SHAPE, 5.0), "has none between neighbouring voxels"),
    ],
    ids=["all air", "one slice", "no noise"],
)
def test_where_noise_cannot_be_measured_it_says_so(image, said):
    with pytest.raises(UndefinedMeasureError, match=said):
        scan_noise(image, voxel_size=SIDES)


def test_an_empty_region_has_no_mean():
    noise = scan_noise(5 + field(0.7), voxel_size=SIDES)
    with pytest.raises(UndefinedMeasureError, match="no voxel"):
        noise.sd_of_mean(np.zeros(SHAPE, dtype=bool))


def test_features_stay_within_what_was_fitted():
    of = {"voxel_sd": 0.3, "activity": 1.9, "surround": 1.9}
    assert noise_features(diameter=20.0, **of) == pytest.approx([1, 0, np.log(0.15), 0, 0])
    assert (noise_features(diameter=500.0, **of) == noise_features(diameter=50.0, **of)).all()


def test_equivalent_diameter_of_a_sphere():
    assert equivalent_diameter(1000, voxel_size=(10.0, 1.0, 1.0)) == pytest.approx((60000 / np.pi) ** (1 / 3))
