"""One rule for both images: the union of outlines, one threshold, and what is excluded."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.images import Delineation, delineated_regions, named_threshold, regions_in_either

SIZE = (4.0, 4.0, 4.0)
SHAPE = (24, 24, 24)


def with_cubes(*cubes: tuple[tuple[int, int, int], float]) -> np.ndarray:
    """Return an image of SUV 1 with cubes of 4 voxels a side."""
    suv = np.ones(SHAPE)
    for (x, y, z), value in cubes:
        suv[x : x + 4, y : y + 4, z : z + 4] = value
    return suv


KEPT, ERASED, INVENTED = (2, 2, 2), (12, 2, 2), (2, 14, 14)
BEFORE = with_cubes((KEPT, 9.0), (ERASED, 6.0))
AFTER = with_cubes((KEPT, 7.0), (INVENTED, 5.0))


@pytest.mark.parametrize("name", ["suv2.5", "suv4", "41%", "50%", "adaptive"])
def test_every_rule_sees_what_was_erased_and_what_was_invented(name):
    rule = Delineation(threshold=named_threshold(name), voxel_size=SIZE)
    found = rule.of_either(BEFORE, AFTER)
    assert found.found_in == ("both", "before only", "after only")
    np.testing.assert_array_equal(np.bincount(found.labels.ravel())[1:], [64, 64, 64])


def test_an_image_that_draws_too_little_alone_has_not_found_the_region():
    """Two halves of a cube, one in each image: both together are 1.7 mL, each is 0.85 mL."""
    halves = [np.ones(SHAPE), np.ones(SHAPE)]
    halves[0][2:4, 2:5, 2:5], halves[1][4:6, 2:5, 2:5] = 9.0, 9.0
    side = (0.85e3 / 18) ** (1 / 3)
    for smallest, expected in ((1.0, "neither"), (0.8, "both")):
        rule = Delineation(threshold=named_threshold("suv4"), voxel_size=(side,) * 3, min_volume=smallest)
        assert rule.of_either(*halves).found_in == (expected,)
        assert all(bool(rule.of(half).n_regions) == (expected == "both") for half in halves)


def test_a_fixed_suv_draws_the_union_of_both_images():
    rng = np.random.default_rng(0)
    first, second = (ndimage.gaussian_filter(rng.normal(3, 9, SHAPE), 1.5) for _ in range(2))
    found = Delineation(threshold=named_threshold("suv4"), voxel_size=SIZE, min_volume=0).of_either(first, second)
    np.testing.assert_array_equal(found.labels > 0, (first >= 4) | (second >= 4))
    np.testing.assert_array_equal(
        found.labels, regions_in_either(first, second, voxel_size=SIZE, min_volume=0, fwhm=0).labels
    )


def test_a_part_of_suvmax_is_one_threshold_a_region_from_the_higher_suvmax():
    cooler = with_cubes((KEPT, 5.0))
    hot = with_cubes((KEPT, 9.0))
    hot[6, 3, 3] = cooler[6, 3, 3] = 4.4  # beside the cube: 49 % of 9, 88 % of 5
    rule = Delineation(threshold=named_threshold("50%"), voxel_size=SIZE)
    for pair in ((hot, cooler), (cooler, hot)):
        assert np.count_nonzero(rule.of_either(*pair).labels) == 64
    assert np.count_nonzero(rule.of(cooler).labels) == 65
    assert np.count_nonzero(rule.of(hot).labels) == 64


@pytest.mark.parametrize("fwhm", [0.0, 8.0])
def test_two_equal_images_are_drawn_as_one(fwhm):
    rule = Delineation(threshold=named_threshold("suv3"), voxel_size=SIZE, fwhm=fwhm)
    both, one = rule.of_either(BEFORE, BEFORE), rule.of(BEFORE)
    np.testing.assert_array_equal(both.labels, one.labels)
    assert set(both.found_in) == {"both"}
    assert one.found_in is None


@pytest.mark.parametrize("name", ["suv2.5", "41%"])
def test_exclusion_removes_exactly_its_voxels(name):
    exclude = np.zeros(SHAPE, bool)
    exclude[10:20, :4] = True
    rule = {"threshold": named_threshold(name), "voxel_size": SIZE, "min_volume": 0.0}
    without = Delineation(**rule, exclude=exclude).of_either(BEFORE, AFTER)
    everything = Delineation(**rule).of_either(BEFORE, AFTER)
    np.testing.assert_array_equal(without.labels > 0, (everything.labels > 0) & ~exclude)
    assert without.method.endswith(", without excluded voxels")


def test_in_volumes_of_interest_numbers_stay_and_no_image_is_named():
    volumes = np.zeros(SHAPE, np.int32)
    volumes[1:8, 1:8, 1:8], volumes[1:8, 13:20, 13:20] = 7, 3
    found = Delineation(threshold=named_threshold("suv6"), voxel_size=SIZE, volumes_of_interest=volumes)
    drawn = found.of_either(BEFORE, AFTER)
    assert drawn.numbers == [7]  # the other reaches 5
    assert drawn.found_in is None


@pytest.mark.parametrize(("name", "suv", "fraction"), [("suv3.5", 3.5, None), ("45%", None, 0.45), ("suv4", 4.0, None)])
def test_names_with_numbers(name, suv, fraction):
    threshold = named_threshold(name)
    assert (threshold.suv, threshold.fraction) == (suv, fraction)
    assert delineated_regions(BEFORE, threshold, voxel_size=SIZE).n_regions == 2


@pytest.mark.parametrize("name", ["", "suv", "suv0", "0%", "100%", "41 %", "suv-2", "nan%", "suvinf", "percist"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="is not known, expected suv4, 41%, other numbers of these, or adaptive"):
        named_threshold(name)
