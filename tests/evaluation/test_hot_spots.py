"""Invented spots and lesion bias in small volumes whose truth is known."""

import numpy as np
import pytest

from pipeline.evaluation import false_hot_spots, lesion_bias
from pipeline.images import gaussian_filter_mm

VOXEL_SIZE = (4.0, 4.0, 4.0)


def scene(*spots: tuple[tuple[int, int, int], float]) -> np.ndarray:
    """Background of SUV 1 with blurred spots of a given height."""
    suv = np.ones((40, 40, 40))
    for where, height in spots:
        point = np.zeros(suv.shape)
        point[where] = 1.0
        blurred = gaussian_filter_mm(point, fwhm=10.0, voxel_size=VOXEL_SIZE)
        suv += height * blurred / blurred.max()
    return suv


def test_only_the_invented_spot_counts():
    truth = scene(((10, 10, 10), 4.0))
    image = scene(((10, 10, 10), 3.0), ((28, 28, 28), 2.0))
    np.testing.assert_array_equal(false_hot_spots(image, truth, voxel_size=VOXEL_SIZE), [[28, 28, 28]])


def test_the_limit_is_one_and_a_half_backgrounds_plus_0_3():
    truth = np.ones((20, 20, 20))
    below, above = truth.copy(), truth.copy()
    below[10, 10, 10], above[10, 10, 10] = 1.79, 1.81
    assert len(false_hot_spots(below, truth, voxel_size=VOXEL_SIZE)) == 0
    assert len(false_hot_spots(above, truth, voxel_size=VOXEL_SIZE)) == 1


def test_a_lesion_moved_by_less_than_the_tolerance_is_the_same_lesion():
    truth, image = scene(((10, 10, 10), 4.0)), scene(((12, 10, 10), 4.0))
    assert len(false_hot_spots(image, truth, voxel_size=VOXEL_SIZE)) == 0
    assert len(false_hot_spots(image, truth, voxel_size=VOXEL_SIZE, tolerance=1.0)) == 1


def test_a_plateau_is_one_spot_and_the_mask_is_obeyed():
    truth = np.ones((20, 20, 20))
    image = truth.copy()
    image[5:8, 5, 5] = 3.0
    assert len(false_hot_spots(image, truth, voxel_size=VOXEL_SIZE)) == 1
    assert len(false_hot_spots(image, truth, voxel_size=VOXEL_SIZE, mask=np.zeros(truth.shape, bool))) == 0


def test_the_truth_has_no_false_spots():
    truth = scene(((10, 10, 10), 4.0), ((30, 20, 12), 9.0))
    assert len(false_hot_spots(truth, truth, voxel_size=VOXEL_SIZE)) == 0


def test_bias_of_a_scaled_image_is_the_scale_in_every_lesion():
    truth = scene(((10, 10, 10), 4.0), ((30, 20, 12), 9.0))
    labels = np.zeros(truth.shape, int)
    labels[10, 10, 10] = 1  # 64 mm^3: 5 mm across
    labels[27:34, 17:24, 9:16] = 2  # 22 mL: 35 mm across
    table = lesion_bias(truth * 0.9, truth, labels, voxel_size=VOXEL_SIZE)
    assert table.diameter_mm.tolist() == pytest.approx([(6 * 64 / np.pi) ** (1 / 3), (6 * 343 * 64 / np.pi) ** (1 / 3)])
    for quantity in ("suv_max", "suv_peak", "suv_mean"):
        np.testing.assert_allclose(table[f"{quantity}_error_percent"], -10.0)
