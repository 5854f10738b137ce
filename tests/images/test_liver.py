"""The liver's coefficient of variation: found in the liver, right in value, refused where there is none."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.images.liver import LIVER_SPHERE_DIAMETER, find_liver, measured_liver_cov
from pipeline.pet import PETError, PETHeader, PETSeries, read_pet
from pipeline.simulation import ORGAN_LABELS, make_phantom

SIDE = 7.5
SHAPE = (64, 64, 128)
NOISE = 0.12
"""Standard deviation over the square root of SUV."""


def noise_field(rng, shape, *, fwhm=10.0, side=SIDE):
    field = ndimage.gaussian_filter(rng.standard_normal(shape), fwhm / 2.355 / side)
    return (field / field.std()).astype(np.float32)


def patient_of(seed):
    rng = np.random.default_rng(seed)
    phantom = make_phantom(rng, shape=SHAPE, voxel_size=(SIDE,) * 3, n_lesions=8)
    activity = ndimage.gaussian_filter(phantom.activity, 8.0 / 2.355 / SIDE)
    noisy = np.maximum(activity + NOISE * np.sqrt(np.maximum(activity, 0)) * noise_field(rng, SHAPE), 0)
    return noisy.astype(np.float32), phantom.labels


def series_of(suv, side=SIDE):
    affine = np.diag([side, side, side, 1.0])
    affine[:3, 3] = [-200.0, -150.0, -900.0]
    return PETSeries(suv=suv, affine=affine, header=PETHeader(units="GML"))


def ball_around(center, shape, side=SIDE, diameter=LIVER_SPHERE_DIAMETER):
    grid = np.ogrid[tuple(slice(0, n) for n in shape)]
    return sum(((g - c) * side) ** 2 for g, c in zip(grid, center, strict=True)) <= (diameter / 2) ** 2


N_PATIENTS = 6


@pytest.fixture(scope="module")
def patients():
    return [patient_of(seed) for seed in range(N_PATIENTS)]


def test_the_sphere_lies_in_the_liver(patients):
    check_spheres(patients)


@pytest.mark.slow
def test_the_sphere_lies_in_the_liver_of_twenty_patients():
    check_spheres(patient_of(seed) for seed in range(N_PATIENTS, 20))


def check_spheres(patients):
    for seed, (suv, labels) in enumerate(patients):
        center = find_liver(suv, voxel_size=(SIDE,) * 3)
        ball = ball_around(center, suv.shape)
        assert (labels[ball] == ORGAN_LABELS["liver"]).all(), seed
        middle = np.average(np.arange(SHAPE[0]), weights=(labels > 0).sum(axis=(1, 2)))
        assert center[0] > middle, "the right lobe"


def test_pooled_noise_is_the_noise_that_was_added(patients):
    single, pooled = [], []
    for suv, labels in patients:
        found = measured_liver_cov(series_of(suv))
        assert (labels[found.region] == ORGAN_LABELS["liver"]).mean() > 0.95
        expected = NOISE / np.sqrt(found.suv_mean)
        single.append(found.cov / expected)
        pooled.append(found.noise_cov / expected)
    assert np.mean(pooled) == pytest.approx(1, abs=0.05)
    # What the docstring says of the two errors; livers with texture and vessels widen the pooled one.
    assert np.std(pooled) < 0.09
    assert 0.06 < np.std(single) < 0.25


def test_a_given_centre_in_mm_and_a_mask_measure_there(patients):
    suv, _ = patients[0]
    series = series_of(suv)
    voxel = (40, 30, 50)
    center = (series.affine @ [*voxel, 1.0])[:3]
    found = measured_liver_cov(series, center=center)
    values = suv[ball_around(voxel, suv.shape)].astype(float)
    assert found.center == pytest.approx(center)
    assert found.suv_mean == pytest.approx(values.mean(), rel=1e-6)
    assert found.cov == pytest.approx(values.std(ddof=1) / values.mean(), rel=1e-6)
    mask = ball_around(voxel, suv.shape)
    masked = measured_liver_cov(series, mask=mask)
    assert (masked.suv_mean, masked.cov) == pytest.approx((found.suv_mean, found.cov), rel=1e-6)
    assert masked.noise_cov == masked.cov
    np.testing.assert_array_equal(masked.region, mask)


def test_texture_coarser_than_the_sphere_is_no_noise():
    """A slope of 30 % over 100 mm widens the sphere's spread a little, and noise of known size is found under it."""
    side, shape = 5.0, (60, 60, 60)
    rng = np.random.default_rng(0)
    slope = 1 + 0.003 * side * (np.arange(60) - 30)[:, None, None]
    suv = np.float32(2) * slope * (1 + 0.1 * noise_field(rng, shape, fwhm=6.0, side=side))
    found = measured_liver_cov(series_of(suv.astype(np.float32), side), center=(-50.0, 0.0, -750.0))
    assert found.noise_cov == pytest.approx(0.1, rel=0.08)


def test_voxels_finer_along_one_axis_do_not_move_the_liver(patients):
    suv, labels = patients[3]
    finer = np.repeat(suv, 3, axis=2)
    x, y, z = find_liver(finer, voxel_size=(SIDE, SIDE, SIDE / 3))
    assert labels[x, y, z // 3] == ORGAN_LABELS["liver"]


def test_noise_that_leaves_nothing_homogeneous_does_not_hide_the_liver(patients):
    """A noise of 40 % in the liver even after the Gaussian of the search: the scan is refused without a broader one."""
    suv, labels = patients[1]
    noise = noise_field(np.random.default_rng(3), SHAPE, fwhm=12.0)
    center = find_liver((suv + 0.8 * np.sqrt(suv) * noise).astype(np.float32), voxel_size=(SIDE,) * 3)
    assert (labels[ball_around(center, SHAPE)] == ORGAN_LABELS["liver"]).all()


@pytest.mark.parametrize("what", ["thighs", "head", "uniform", "empty"])
def test_no_liver_is_refused(patients, what):
    suv, labels = patients[1]
    pelvis = np.flatnonzero((labels == ORGAN_LABELS["bladder"]).any(axis=(0, 1)))[0]
    brain = np.flatnonzero((labels == ORGAN_LABELS["brain"]).any(axis=(0, 1)))[0]
    image = {
        "thighs": suv[..., : pelvis + 1],
        "head": suv[..., brain - 3 :],
        "uniform": np.full_like(suv, 2.0),
        "empty": np.zeros_like(suv),
    }[what]
    with pytest.raises(PETError, match="no liver was found") as caught:
        find_liver(np.ascontiguousarray(image), voxel_size=(SIDE,) * 3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"center": (-199.0, 0.0, -500.0)}, "leaves the image"),
        ({"center": (0.0, 1.0)}, "expected x, y, z"),
        ({"mask": np.zeros(SHAPE, dtype=bool)}, "0 voxels"),
        ({"mask": np.ones((2, 2, 2), dtype=bool)}, "has shape"),
    ],
)
def test_unusable_places_are_refused(patients, arguments, message):
    with pytest.raises(PETError, match=message):
        measured_liver_cov(series_of(patients[0][0]), **arguments)


def test_the_liver_of_a_real_scan(reference_data):
    """Seen on the picture: the right lobe reaches from 30 to 120 mm on the right, 440 to 560 mm below the neck."""
    series = read_pet(reference_data / "ge_discovery_st_whole_body" / "FDG_PET" / "image")
    found = measured_liver_cov(series)
    assert found.center == pytest.approx((73, -54, -378), abs=25)
    assert found.suv_mean == pytest.approx(2.1, abs=0.2)
    assert 0.14 < found.noise_cov < 0.20
    litres = found.region.sum() * np.prod(series.voxel_size) * 1e-6
    assert 0.4 < litres < 1.6
