"""Regions on spheres of known volume, and the body outline on an image with the noise of 1 % of the dose."""

import numpy as np
import pytest

from pipeline.images import (
    body_mask,
    delineated_regions,
    fixed_threshold,
    gaussian_filter_mm,
    regions_in_either,
    voxel_volume,
)

VOXEL_SIZE = (2.0, 2.0, 3.0)
SHAPE = (60, 60, 40)


def sphere(center_mm: tuple[float, float, float], diameter: float) -> np.ndarray:
    grid = np.meshgrid(*(np.arange(n) * s for n, s in zip(SHAPE, VOXEL_SIZE, strict=True)), indexing="ij")
    return sum((g - c) ** 2 for g, c in zip(grid, center_mm, strict=True)) <= (diameter / 2) ** 2


@pytest.fixture
def three_spheres() -> np.ndarray:
    suv = np.full(SHAPE, 0.5, np.float32)
    suv[sphere((30, 30, 30), 24.0)] = 6.0
    suv[sphere((80, 80, 60), 30.0)] = 5.0
    suv[sphere((30, 90, 90), 20.0)] = 9.0
    suv[sphere((90, 20, 90), 10.0)] = 20.0  # 0.5 mL
    return suv


def test_spheres_are_found_hottest_first_with_their_volumes(three_spheres):
    regions = delineated_regions(three_spheres, fixed_threshold(4.0), voxel_size=VOXEL_SIZE, min_volume=3.0)
    assert regions.n_regions == 3
    assert regions.method == "fixed SUV >= 4, >= 3 mL, 26-connectivity"
    for number, (suv, diameter) in enumerate([(9.0, 20.0), (6.0, 24.0), (5.0, 30.0)], start=1):
        mask = regions.labels == number
        assert np.all(three_spheres[mask] == suv)
        volume = mask.sum() * voxel_volume(VOXEL_SIZE)
        assert volume == pytest.approx(np.pi / 6 * diameter**3 / 1000, rel=0.04)


def test_the_smallest_volume_is_a_limit_that_counts_in(three_spheres):
    small = np.zeros(SHAPE)
    small[5, 5, 5:8] = 4.0
    limit = 3 * voxel_volume(VOXEL_SIZE)
    kept = delineated_regions(small, fixed_threshold(4.0), voxel_size=VOXEL_SIZE, min_volume=limit)
    dropped = delineated_regions(small, fixed_threshold(4.0), voxel_size=VOXEL_SIZE, min_volume=limit * 1.01)
    assert (kept.n_regions, dropped.n_regions) == (1, 0)


def test_voxels_that_touch_by_a_corner_are_one_region():
    suv = np.zeros((6, 6, 6))
    suv[1, 1, 1] = suv[2, 2, 2] = suv[4, 4, 4] = 5.0
    regions = delineated_regions(suv, fixed_threshold(4.0), voxel_size=(1, 1, 1), min_volume=0.0)
    assert regions.labels[1, 1, 1] == regions.labels[2, 2, 2] == 1
    assert regions.labels[4, 4, 4] == 2


def test_nothing_hot_no_regions():
    regions = delineated_regions(np.zeros(SHAPE), fixed_threshold(4.0), voxel_size=VOXEL_SIZE, min_volume=0.0)
    assert regions.n_regions == 0
    assert not regions.labels.any()


def test_erased_and_invented_spots_are_regions_and_are_named():
    background = np.full(SHAPE, 0.5)
    kept, erased, invented = (
        np.where(sphere(center, 24.0), suv, 0.0)
        for center, suv in [((30, 30, 30), 12.0), ((80, 80, 60), 10.0), ((30, 90, 90), 8.0)]
    )
    regions = regions_in_either(background + kept + erased, background + kept + invented, voxel_size=VOXEL_SIZE)
    assert regions.found_in == ("both", "before only", "after only")
    assert "either image" in regions.method


def test_regions_are_the_same_whichever_image_comes_first(three_spheres):
    other = three_spheres[::-1].copy()
    one = regions_in_either(three_spheres, other, voxel_size=VOXEL_SIZE)
    two = regions_in_either(other, three_spheres, voxel_size=VOXEL_SIZE)
    np.testing.assert_array_equal(one.labels, two.labels)


def body() -> tuple[np.ndarray, np.ndarray]:
    """SUV and outline of a trunk with fat, dark lungs open to no air, and two legs; 4 mm voxels."""
    x, y, z = np.meshgrid(*(np.arange(n) * 4.0 for n in (100, 70, 120)), indexing="ij")
    trunk = ((x - 200) / 160) ** 2 + ((y - 140) / 110) ** 2 <= 1
    legs = np.minimum(np.abs(x - 110), np.abs(x - 290)) ** 2 + (y - 140) ** 2 <= 65**2
    outline = np.where(z < 160, legs, trunk)
    inner = np.where(z < 160, legs, ((x - 200) / 140) ** 2 + ((y - 140) / 90) ** 2 <= 1)
    lungs = (((np.abs(x - 200) - 70) / 45) ** 2 + ((y - 140) / 60) ** 2 <= 1) & (z > 280)
    suv = np.select([lungs, inner, outline], [0.05, 0.8, 0.28], 0.0)
    return gaussian_filter_mm(suv, fwhm=6.0, voxel_size=(4, 4, 4)), outline


@pytest.mark.parametrize("coefficient_of_variation", [0.0, 1.5])
def test_the_body_is_outlined_with_and_without_noise(coefficient_of_variation):
    suv, outline = body()
    if coefficient_of_variation:
        # Gamma noise: positive and skewed like OSEM at very low counts, also a little in the air.
        shape = 1 / coefficient_of_variation**2
        suv = (suv + 0.02) * np.random.default_rng(0).gamma(shape, 1 / shape, suv.shape)
    mask = body_mask(suv, voxel_size=(4, 4, 4))
    dice = 2 * (mask & outline).sum() / (mask.sum() + outline.sum())
    assert dice > 0.95
    assert all(mask[voxel] for voxel in [(50, 35, 100), (32, 35, 110)]), "mediastinum and lung are body"
    assert all(mask[voxel] for voxel in [(27, 35, 2), (72, 35, 2)]), "both legs are body"
    assert not mask[50, 35, 2], "the air between the legs is not"


def test_something_hot_beside_the_patient_is_not_body():
    suv, _ = body()
    suv[2:6, 2:6, 60:64] = 20.0  # an injection syringe
    assert not body_mask(suv, voxel_size=(4, 4, 4))[:8, :8].any()
