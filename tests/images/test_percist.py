"""The PERCIST references on images whose organs are known, and their thresholds by hand."""

import numpy as np
import pytest

from pipeline.errors import PETError
from pipeline.images import blood_pool_reference, delineated_regions, liver_reference, percist_threshold
from pipeline.images.liver import measured_liver_cov
from pipeline.pet import PETHeader, PETSeries

SIDE = 4.0
SHAPE = (60, 50, 60)
CENTER = (40.0, -20.0, 500.0)


def series_of(suv: np.ndarray) -> PETSeries:
    affine = np.diag([SIDE, SIDE, SIDE, 1.0])
    affine[:3, 3] = [-100.0, -100.0, 400.0]
    return PETSeries(suv=suv.astype(np.float32), affine=affine, header=PETHeader(units="GML"))


def noisy(mean: float) -> PETSeries:
    return series_of(np.random.default_rng(0).normal(mean, 0.3, SHAPE))


def test_a_given_liver_sphere_is_that_of_the_noise_measurement():
    scan = noisy(2.0)
    reference = liver_reference(scan, center=CENTER)
    noise = measured_liver_cov(scan, center=CENTER)
    assert (reference.organ, reference.found, reference.center) == ("liver", False, CENTER)
    assert reference.suv_mean == noise.suv_mean
    assert reference.suv_sd == pytest.approx(noise.cov * noise.suv_mean)
    grid = np.ogrid[-4:5, -4:5, -4:5]
    assert reference.n_voxels == np.count_nonzero(sum((SIDE * g) ** 2 for g in grid) <= 15.0**2)
    assert reference.threshold == pytest.approx(1.5 * noise.suv_mean + 2 * reference.suv_sd)


def test_the_blood_pool_is_a_cylinder_of_1_by_2_cm():
    suv = np.full(SHAPE, 9.0)
    x, y, z = (int((c - o) / SIDE) for c, o in zip(CENTER, (-100, -100, 400), strict=True))
    suv[x - 1 : x + 2, y - 1 : y + 2, z - 2 : z + 3] = 1.6
    suv[x, y, z] = 1.8
    reference = blood_pool_reference(series_of(suv), center=CENTER)
    assert reference.n_voxels == 5 * 5  # a cross of 5 voxels in 5 slices
    mean = 1.6 + 0.2 / 25
    assert reference.suv_mean == pytest.approx(mean)
    assert reference.threshold == pytest.approx(2 * mean + 2 * 0.2 / 5)


def test_the_threshold_draws_and_tells_its_reference():
    scan = noisy(2.0)
    scan.suv[5:8, 5:8, 5:8] = 9.0
    reference = liver_reference(scan, center=CENTER)
    regions = delineated_regions(scan.suv, percist_threshold(reference), voxel_size=(SIDE,) * 3, min_volume=1.0)
    assert regions.n_regions == 1
    np.testing.assert_array_equal(np.argwhere(regions.labels == 1).min(axis=0), [5, 5, 5])
    assert regions.method.startswith("PERCIST, SUV >= 3.6")
    assert "1.5 x mean + 2 SD of the liver (2" in regions.method


@pytest.mark.parametrize(
    ("center", "match"),
    [((-100.0, 0.0, 500.0), "blood pool cylinder at .* leaves the image"), ((0.0, 0.0), "expected x, y, z")],
)
def test_a_cylinder_outside_the_image_is_refused(center, match):
    with pytest.raises(PETError, match=match):
        blood_pool_reference(noisy(1.6), center=center)


def test_a_cold_place_is_no_reference():
    with pytest.raises(PETError, match="mean SUV in the blood pool cylinder"):
        blood_pool_reference(series_of(np.zeros(SHAPE)), center=CENTER)
