"""The Gaussian filter keeps activity and has the width that it states."""

import numpy as np
import pytest

from pipeline.images import gaussian_filter_mm

VOXEL_SIZE = (2.0, 2.0, 4.0)


def test_it_keeps_the_total_activity():
    suv = np.random.default_rng(0).gamma(1.0, 1.0, (20, 18, 16))
    assert gaussian_filter_mm(suv, fwhm=9.0, voxel_size=VOXEL_SIZE).sum() == pytest.approx(suv.sum(), rel=1e-12)


def test_a_point_becomes_half_its_peak_half_a_width_away_on_every_axis():
    point = np.zeros((41, 41, 41))
    point[20, 20, 20] = 1.0
    blurred = gaussian_filter_mm(point, fwhm=16.0, voxel_size=VOXEL_SIZE) / 1.0
    peak = blurred[20, 20, 20]
    # 8 mm are four voxels of 2 mm and two of 4 mm.
    for where in [(24, 20, 20), (20, 16, 20), (20, 20, 22)]:
        assert blurred[where] / peak == pytest.approx(0.5, rel=1e-6)


def test_no_width_no_change():
    suv = np.random.default_rng(0).random((5, 5, 5)).astype(np.float32)
    np.testing.assert_array_equal(gaussian_filter_mm(suv, fwhm=0.0, voxel_size=VOXEL_SIZE), suv)


def test_whole_numbers_are_not_rounded():
    point = np.zeros((9, 9, 9), dtype=np.int16)
    point[4, 4, 4] = 1
    blurred = gaussian_filter_mm(point, fwhm=6.0, voxel_size=VOXEL_SIZE)
    np.testing.assert_allclose(blurred, gaussian_filter_mm(point.astype(float), fwhm=6.0, voxel_size=VOXEL_SIZE))


def test_a_negative_width_is_refused():
    with pytest.raises(ValueError, match="negative"):
        gaussian_filter_mm(np.ones((3, 3, 3)), fwhm=-1.0, voxel_size=VOXEL_SIZE)
