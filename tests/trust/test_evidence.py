"""The evidence map on fields whose noise is known, and on a phantom with something taken away or put in."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from pipeline.images import gaussian_filter_mm
from pipeline.trust.evidence import EVIDENCE_COLUMNS, EVIDENCE_SCALES, evidence_fields, evidence_of_change, height_of
from pipeline.trust.noise_field import _interpolated, noise_fields

VOXEL_SIZE = (5.0, 5.0, 5.0)
SHAPE = (36, 36, 36)
BODY = np.zeros(SHAPE, dtype=bool)
BODY[4:-4, 4:-4] = True
AFFINE = np.array([[5.0, 0, 0, -100], [0, 5, 0, 20], [0, 0, 5, -300], [0, 0, 0, 1]])


def noisy_and_uniform(seed: int, *, fwhm: float, cov: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """A uniform block in air with and without Gaussian noise, white or smoothed, of a coefficient of variation."""
    white = np.random.default_rng(seed).standard_normal([n + 16 for n in SHAPE]).astype(np.float32)
    noise = gaussian_filter_mm(white, fwhm=fwhm, voxel_size=VOXEL_SIZE)[8:-8, 8:-8, 8:-8]
    uniform = np.zeros(SHAPE, dtype=np.float32)
    uniform[BODY] = 3.0
    return uniform * (1 + cov * noise / noise.std()), uniform


def with_ball(image: np.ndarray, *, center: tuple[int, int, int], diameter: float, contrast: float) -> np.ndarray:
    """The image with a ball, blurred by 6 mm, of a contrast to what is there."""
    grid = np.meshgrid(*[np.arange(n) for n in image.shape], indexing="ij")
    distance = np.sqrt(sum(((g - c) * s) ** 2 for g, c, s in zip(grid, center, VOXEL_SIZE, strict=True)))
    inside = np.clip((diameter / 2 - distance) / VOXEL_SIZE[0] + 0.5, 0, 1).astype(np.float32)
    return image * (1 + (contrast - 1) * gaussian_filter_mm(inside, fwhm=6.0, voxel_size=VOXEL_SIZE))


@pytest.mark.parametrize("fwhm", [0.0, 8.0])
@pytest.mark.parametrize("scale", [6.0, 17.0])
def test_the_field_of_noise_has_mean_0_and_sd_1(fwhm, scale):
    noisy, uniform = noisy_and_uniform(1, fwhm=fwhm)
    (field,) = noise_fields(noisy, uniform, voxel_size=VOXEL_SIZE, body=BODY, scales=[scale])
    values = field.z[field.body]
    assert abs(values.mean()) < 0.2
    assert values.std() == pytest.approx(1, abs=0.07)


def test_the_spread_is_the_known_coefficient_of_variation():
    noisy, uniform = noisy_and_uniform(1, fwhm=0.0, cov=0.05)
    (field,) = noise_fields(noisy, uniform, voxel_size=VOXEL_SIZE, body=BODY, scales=[0.0])
    assert np.median(field.spread) == pytest.approx(0.05, rel=0.03)


def test_log_normal_noise_is_a_gaussian_field_of_the_same_tails():
    white = np.random.default_rng(3).standard_normal(SHAPE).astype(np.float32)
    uniform = np.full(SHAPE, 2.0, dtype=np.float32)
    noisy = uniform * np.exp(0.5 * white - 0.125).astype(np.float32)
    (field,) = noise_fields(noisy, uniform, voxel_size=VOXEL_SIZE, body=BODY, scales=[0.0])
    assert np.mean(field.z > 2) == pytest.approx(0.0228, abs=0.002)
    assert np.mean(field.z < -2) == pytest.approx(0.0228, abs=0.002)


def test_a_map_beside_a_much_larger_value_stays_above_its_smallest():
    coarse = np.array([1e-8, 1e-8, 1e4, 1e-8], dtype=np.float32).reshape(4, 1, 1)
    fine = _interpolated(coarse, (3, 3, 3), (12, 3, 3))
    assert fine.min() == np.float32(1e-8)
    assert fine.max() == np.float32(1e4)


def test_noise_passes_a_height_in_as_many_places_as_expected():
    found, expected = 0, 0.0
    for seed in range(4):
        noisy, uniform = noisy_and_uniform(seed, fwhm=6.0)
        (field,) = noise_fields(noisy, uniform, voxel_size=VOXEL_SIZE, body=BODY, scales=[17.0])
        expected += 2 * float(field.size.expected_maxima(3.0))
        for signed in (field.z, -field.z):
            peaks = (signed == ndimage.maximum_filter(signed, 3)) & field.body
            found += int((peaks & (signed > 3)).sum())
    # The field is divided by what it has itself: extremes are a little rarer than those of a known SD.
    assert 0.3 * expected < found < 1.2 * expected


@pytest.mark.parametrize("fwhm", [0.0, 8.0])
def test_false_alarms_are_as_rare_as_stated(fwhm):
    scans = [noisy_and_uniform(seed, fwhm=fwhm) for seed in range(8)]
    found = [evidence_of_change(*scan, voxel_size=VOXEL_SIZE, false_alarms=0.2) for scan in scans]
    # Of a Poisson number of mean 1.6 more than 5 are rarer than 1 %.
    assert sum(len(one.regions) for one in found) <= 5


@pytest.mark.parametrize(("change", "sign"), [("removed", 1), ("added", -1)])
def test_a_planted_ball_is_found_with_its_place_sign_and_scale(change, sign):
    noisy, uniform = noisy_and_uniform(5, fwhm=6.0)
    center = (20, 16, 18)
    planted = with_ball(np.ones(SHAPE, np.float32), center=center, diameter=20.0, contrast=1.5)
    images = (noisy * planted, uniform) if sign > 0 else (noisy, uniform * planted)
    found = evidence_of_change(*images, voxel_size=VOXEL_SIZE, affine=AFFINE)
    first = found.regions.iloc[0]
    assert first["change"] == change
    place = (AFFINE @ [*center, 1])[:3]
    assert np.linalg.norm(first[["x_mm", "y_mm", "z_mm"]].to_numpy(float) - place) <= 7.1
    assert first["scale_mm"] in (10.0, 17.0)
    assert sign * first["suv_removed"] > 0.5
    assert first["expected_by_noise"] < 1e-3
    assert sign * found.map[center] > found.threshold
    assert change in found.statement


def test_a_larger_ball_is_found_at_a_larger_scale():
    scales = []
    for diameter in (8.0, 35.0):
        noisy, uniform = noisy_and_uniform(5, fwhm=4.0)
        planted = with_ball(noisy, center=(18, 18, 18), diameter=diameter, contrast=1.6)
        table = evidence_of_change(planted, uniform, voxel_size=VOXEL_SIZE).regions
        scales.append(table["scale_mm"].iloc[0])
    assert scales[0] < scales[1]


def test_the_unit_of_both_images_does_not_matter():
    noisy, uniform = noisy_and_uniform(7, fwhm=6.0)
    planted = with_ball(noisy, center=(18, 18, 18), diameter=20.0, contrast=1.5)
    one = evidence_of_change(planted, uniform, voxel_size=VOXEL_SIZE, body=BODY)
    four = evidence_of_change(4 * planted, 4 * uniform, voxel_size=VOXEL_SIZE, body=BODY)
    np.testing.assert_allclose(one.map, four.map, atol=1e-3)


def test_a_higher_number_of_false_alarms_is_a_lower_threshold():
    noisy, uniform = noisy_and_uniform(7, fwhm=6.0)
    fields = [field.size for field in evidence_fields(noisy, uniform, voxel_size=VOXEL_SIZE, body=BODY)]
    heights = [height_of(fields, expected) for expected in (0.01, 0.1, 1.0)]
    assert heights == sorted(heights, reverse=True)


def test_noisier_ends_raise_no_alarm():
    noisy, uniform = noisy_and_uniform(8, fwhm=0.0)
    noisy[..., :2] = uniform[..., :2] + 4 * (noisy[..., :2] - uniform[..., :2])
    (field,) = noise_fields(noisy, uniform, voxel_size=VOXEL_SIZE, body=BODY, scales=[6.0])
    assert field.z[..., :2].std() < 1.1


def test_fields_at_hand_are_not_made_again():
    images = noisy_and_uniform(7, fwhm=6.0)
    fields = list(evidence_fields(*images, voxel_size=VOXEL_SIZE))
    assert [field.fwhm for field in fields] == list(EVIDENCE_SCALES)
    one, two = (evidence_of_change(*images, voxel_size=VOXEL_SIZE, fields=given) for given in (fields, None))
    np.testing.assert_array_equal(one.map, two.map)
    opposite = evidence_of_change(*images, voxel_size=VOXEL_SIZE, fields=[replace(f, z=-f.z) for f in fields])
    np.testing.assert_allclose(opposite.map, -two.map, rtol=1e-6)


@pytest.mark.parametrize(
    ("noisy", "denoised", "reason"),
    [
        (np.zeros(SHAPE), np.zeros(SHAPE), "no body"),
        (np.ones((40, 40, 1)), np.ones((40, 40, 1)), "1 slice"),
        (np.ones(SHAPE), np.ones(SHAPE), "equal"),
    ],
)
def test_what_cannot_be_stated_is_said_in_one_line(noisy, denoised, reason):
    found = evidence_of_change(noisy, denoised, voxel_size=VOXEL_SIZE)
    assert reason in found.statement
    assert "\n" not in found.statement
    assert found.map is None
    assert list(evidence_fields(noisy, denoised, voxel_size=VOXEL_SIZE)) == []
    assert list(found.regions.columns) == list(EVIDENCE_COLUMNS)
    assert found.regions.empty


def test_two_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        evidence_of_change(np.ones(SHAPE), np.ones((3, 3, 3)), voxel_size=VOXEL_SIZE)
