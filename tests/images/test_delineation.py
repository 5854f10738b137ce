"""Delineation on blurred spheres of known volume, and the rules for what is connected, given, excluded or too small."""

import numpy as np
import pytest

from pipeline.errors import UndefinedMeasureError
from pipeline.images import (
    THRESHOLDS,
    Threshold,
    background_adapted,
    delineated_regions,
    fixed_threshold,
    fraction_of_maximum,
    gaussian_filter_mm,
    voxel_volume,
)

SIDE = 2.0
SIZES = (SIDE, SIDE, SIDE)
SHAPE = (48, 48, 48)


def ball(center: tuple[float, float, float], diameter: float) -> np.ndarray:
    grid = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
    return sum(((g - c) * SIDE) ** 2 for g, c in zip(grid, center, strict=True)) <= (diameter / 2) ** 2


def blurred(background: float, *lesions: tuple[tuple[float, float, float], float, float]) -> np.ndarray:
    suv = np.full(SHAPE, background)
    for center, diameter, value in lesions:
        suv[ball(center, diameter)] = value
    return gaussian_filter_mm(suv, fwhm=6.0, voxel_size=SIZES)


def millilitres(regions, number: int = 1) -> float:
    return np.count_nonzero(regions.labels == number) * voxel_volume(SIZES)


@pytest.mark.parametrize("background", [0.5, 2.0, 3.5])
def test_half_of_the_contrast_is_the_edge_of_a_large_sphere_in_any_background(background):
    """The half height of a blurred edge is the edge; half of SUVmax knows no background and grows with it."""
    suv = blurred(background, ((24, 24, 24), 40.0, 8.0))
    truth = np.count_nonzero(ball((24, 24, 24), 40.0)) * voxel_volume(SIZES)
    adapted, plain = (
        delineated_regions(suv, rule, voxel_size=SIZES) for rule in (background_adapted(0.5), fraction_of_maximum(0.5))
    )
    assert millilitres(adapted) == pytest.approx(truth, rel=0.06)
    assert millilitres(plain) > millilitres(adapted)


def test_a_background_above_the_isocontour_fills_the_neighbourhood_and_no_more():
    suv = blurred(3.5, ((24, 24, 24), 40.0, 8.0))
    found = delineated_regions(suv, fraction_of_maximum(0.41), voxel_size=SIZES).labels > 0
    seed = suv >= 4.0
    distance = np.array(
        [np.min(np.linalg.norm((np.argwhere(seed) - v) * SIDE, axis=1)) for v in np.argwhere(found)[::50]]
    )
    assert distance.max() <= 10.0
    assert np.count_nonzero(found) > np.count_nonzero(seed)


def test_fixed_thresholds_draw_on_the_image_itself():
    suv = np.zeros(SHAPE)
    suv[10, 10, 10:14], suv[30, 30, 30:32], suv[40, 40, 40] = 5.0, 9.0, 3.0
    regions = delineated_regions(suv, THRESHOLDS["suv4"], voxel_size=SIZES)
    assert regions.n_regions == 2
    assert (regions.labels[30, 30, 30], regions.labels[10, 10, 10]) == (1, 2)
    assert regions.method == "fixed SUV >= 4, >= 0 mL, 26-connectivity"
    assert delineated_regions(suv, THRESHOLDS["suv2.5"], voxel_size=SIZES).n_regions == 3


@pytest.mark.parametrize("name", ["suv4", "41%", "50%"])
def test_the_smallest_volume_counts_in(name):
    suv = np.zeros(SHAPE)
    suv[10, 10, 10:14], suv[30, 30, 30:32] = 5.0, 9.0
    for voxels, n_regions in ((2, 2), (3, 1), (4, 1), (5, 0)):
        regions = delineated_regions(suv, THRESHOLDS[name], voxel_size=SIZES, min_volume=voxels * voxel_volume(SIZES))
        assert regions.n_regions == n_regions
        assert set(np.unique(regions.labels)) == set(range(n_regions + 1))


def test_a_fraction_is_that_of_each_region():
    suv = np.zeros(SHAPE)
    suv[10, 10, 10:15] = [2.0, 4.2, 10.0, 5.0, 4.0]
    suv[30, 30, 10:15] = [2.0, 4.2, 5.0, 2.4, 1.0]
    regions = delineated_regions(suv, THRESHOLDS["50%"], voxel_size=SIZES)
    np.testing.assert_array_equal(regions.labels[10, 10, 10:15], [0, 0, 1, 1, 0])
    np.testing.assert_array_equal(regions.labels[30, 30, 10:15], [0, 2, 2, 0, 0])
    assert "50 % of SUVmax around what reaches SUV 4" in regions.method


def test_given_volumes_keep_their_numbers_and_hold_their_regions():
    suv = blurred(0.5, ((14, 24, 24), 24.0, 8.0), ((34, 24, 24), 24.0, 3.0))
    volumes = np.zeros(SHAPE, np.uint8)
    volumes[4:24], volumes[24:], volumes[:2, :2, :2] = 7, 3, 5
    regions = delineated_regions(suv, THRESHOLDS["50%"], voxel_size=SIZES, volumes_of_interest=volumes)
    # Even the volume over nothing but background has a hottest voxel; a fixed threshold leaves it empty.
    fixed = delineated_regions(suv, THRESHOLDS["suv4"], voxel_size=SIZES, volumes_of_interest=volumes)
    assert set(np.unique(regions.labels)) == {0, 3, 5, 7}
    assert set(np.unique(fixed.labels)) == {0, 7}
    assert (regions.n_regions, fixed.n_regions) == (3, 1)
    for number in (3, 7):
        assert (volumes[regions.labels == number] == number).all()
        assert millilitres(regions, number) == pytest.approx(np.pi / 6 * 24.0**3 / 1000, rel=0.15)
    assert "in given volumes" in regions.method


def test_a_given_volume_holds_all_pieces_of_its_region():
    suv = np.zeros(SHAPE)
    suv[10, 10, 10:13], suv[10, 10, 20:22], suv[10, 10, 30] = 8.0, 5.0, 3.0
    volumes = np.ones(SHAPE, np.uint8)
    regions = delineated_regions(suv, THRESHOLDS["50%"], voxel_size=SIZES, volumes_of_interest=volumes)
    np.testing.assert_array_equal(regions.labels, suv >= 4.0)
    assert regions.method == "50 % of SUVmax in given volumes, >= 0 mL"


def test_neighbours_share_the_voxels_between_them_and_a_hotter_one_has_first_choice():
    suv = blurred(0.3, ((18, 24, 24), 16.0, 20.0), ((28, 24, 24), 16.0, 8.0))
    assert delineated_regions(suv, fixed_threshold(4.0), voxel_size=SIZES).n_regions == 2
    regions = delineated_regions(suv, fraction_of_maximum(0.2), voxel_size=SIZES)
    assert regions.n_regions == 2
    assert regions.labels[18, 24, 24] == 1
    assert regions.labels[28, 24, 24] == 2


@pytest.mark.parametrize("name", list(THRESHOLDS))
def test_excluded_voxels_belong_to_no_region(name):
    suv = blurred(0.5, ((12, 24, 24), 20.0, 30.0), ((34, 24, 24), 20.0, 9.0))
    exclude = ball((12, 24, 24), 44.0)
    regions = delineated_regions(suv, THRESHOLDS[name], voxel_size=SIZES, exclude=exclude)
    assert regions.n_regions == 1
    assert regions.labels[34, 24, 24] == 1
    assert not (regions.labels[exclude]).any()
    assert regions.method.endswith("without excluded voxels")


@pytest.mark.parametrize("name", list(THRESHOLDS))
def test_what_is_cold_has_no_region(name):
    regions = delineated_regions(np.zeros(SHAPE), THRESHOLDS[name], voxel_size=SIZES)
    assert regions.n_regions == 0
    assert regions.labels.dtype == np.int32


def test_a_lesion_without_background_is_refused():
    with pytest.raises(UndefinedMeasureError, match="no background"):
        delineated_regions(np.full((5, 5, 5), 6.0), background_adapted(0.5), voxel_size=(1, 1, 1))


def test_a_lesion_within_excluded_uptake_has_that_for_its_background():
    suv = blurred(4.2, ((24, 24, 24), 24.0, 12.0))
    exclude = ~ball((24, 24, 24), 32.0)
    regions = delineated_regions(suv, background_adapted(0.5), voxel_size=SIZES, exclude=exclude)
    threshold = 4.2 + 0.5 * (suv.max() - 4.2)
    np.testing.assert_array_equal(regions.labels > 0, suv >= threshold)


@pytest.mark.parametrize("given", [{}, {"suv": 0.0}, {"fraction": 1.2}, {"suv": 4.0, "fraction": 0.4}])
def test_a_threshold_is_an_suv_or_a_fraction(given):
    with pytest.raises(ValueError, match="an SUV above 0 or a fraction"):
        Threshold("wrong", **given)


def test_another_shape_is_refused():
    with pytest.raises(ValueError, match="exclude"):
        delineated_regions(np.zeros(SHAPE), THRESHOLDS["suv4"], voxel_size=SIZES, exclude=np.zeros((2, 2, 2), bool))
