"""Lesions of two images: equal images keep all, what is removed is lost, pieces of one lesion are one."""

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation import MATCH_COLUMNS, MatchCounts, match_counts, match_regions, matches_of_images, seen_regions
from pipeline.images import Regions, regions_in_either

SHAPE, SIZE = (40, 40, 40), (4.0, 4.0, 4.0)
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
PLACES = ((8, 8, 8), (8, 30, 8), (30, 8, 30), (30, 30, 20))


def scene(*places: tuple[int, int, int], value: float = 8.0, radius: int = 2) -> np.ndarray:
    """SUV of 1 with cubes of 20 mm."""
    suv = np.ones(SHAPE)
    for place in places:
        suv[tuple(slice(c - radius, c + radius + 1) for c in place)] = value
    return suv


def own(suv: np.ndarray) -> Regions:
    return regions_in_either(suv, suv, voxel_size=SIZE, fwhm=0.0)


def matched(first: np.ndarray, second: np.ndarray):
    return match_regions(own(first), own(second), voxel_size=SIZE)


def table(**images: np.ndarray):
    regions = {name: own(image) for name, image in images.items()}
    return matches_of_images(images, regions, voxel_size=SIZE, affine=AFFINE)


def test_of_equal_images_every_lesion_is_kept_as_it_is():
    image = scene(*PLACES) + np.arange(SHAPE[0])[:, None, None] / 100
    rows = table(before=image, after=image)
    assert list(rows["match"]) == ["kept"] * 4
    assert (rows["dice"] == 1).all()
    assert (rows["distance_mm"] == 0).all()
    assert (rows["suv_peak_against"] == rows["suv_peak_image"]).all()
    assert list(rows["numbers_image"]) == list(rows["numbers_against"]) == ["1", "2", "3", "4"]
    assert list(rows.columns) == list(MATCH_COLUMNS)


def test_a_removed_lesion_is_lost_and_an_added_one_is_new():
    found = matched(scene(*PLACES[:3]), scene(*PLACES[1:]))
    assert found.counts == MatchCounts(n_kept=2, n_lost=1, n_new=1)
    rows = table(before=scene(*PLACES[:3]), after=scene(*PLACES[1:]))
    lost, new = (rows[rows["match"] == status].iloc[0] for status in ("lost", "new"))
    assert lost[["x_mm", "y_mm", "z_mm"]].tolist() == [32, 32, 32]
    assert new[["x_mm", "y_mm", "z_mm"]].tolist() == [120, 120, 80]
    assert lost["volume_against_ml"] == new["volume_image_ml"] == pytest.approx(8.0)
    assert lost["volume_image_ml"] == new["volume_against_ml"] == lost["dice"] == 0
    assert (lost["suv_peak_against"], lost["suv_peak_image"]) == (8, 1)
    assert np.isnan(lost["distance_mm"])
    assert pd.isna(lost["numbers_image"])


def test_exchanged_images_have_the_same_lesions_and_lost_is_new():
    rng = np.random.default_rng(0)
    a, b = (4 * rng.random(SHAPE) ** 8 + scene(*PLACES) / 2 for _ in range(2))
    there, back = matched(a, b), matched(b, a)
    assert there.counts.n_lost == back.counts.n_new
    assert there.counts.n_new == back.counts.n_lost
    assert sorted(there.numbers) == sorted((second, first) for first, second in back.numbers)
    np.testing.assert_array_equal(there.lesions > 0, back.lesions > 0)


def test_one_region_that_becomes_two_is_one_lesion_and_kept():
    """Two hot ends with a bridge, which the second image lacks: split one way, merged the other."""
    whole = scene((10, 20, 20), (20, 20, 20))
    whole[12:19, 20, 20] = 6.0
    split = scene((10, 20, 20), (20, 20, 20))
    found, back = matched(whole, split), matched(split, whole)
    assert found.numbers == [([1], [1, 2])]
    assert back.numbers == [([1, 2], [1])]
    assert found.counts == back.counts == MatchCounts(1, 0, 0)


def test_apart_but_within_10_mm_is_the_same_place():
    for step, status in ((2, ["kept"]), (3, ["lost", "new"])):
        found = matched(scene((10, 10, 10), radius=0, value=90.0), scene((10 + step, 10, 10), radius=0, value=90.0))
        assert found.counts == MatchCounts(0, 0, 0)  # below 1 mL
        small = [
            Regions((image > 4).astype(np.int32), "")
            for image in (scene((10, 10, 10), radius=0), scene((10 + step, 10, 10), radius=0))
        ]
        assert match_regions(*small, voxel_size=SIZE).status == status


def test_of_two_near_ones_the_nearest_is_taken_and_the_other_is_new():
    first, second = np.zeros(SHAPE, np.int32), np.zeros(SHAPE, np.int32)
    first[10, 10, 10] = 7
    second[12, 10, 10], second[9, 10, 10] = 3, 5
    found = match_regions(Regions(first, ""), Regions(second, ""), voxel_size=SIZE)
    assert found.numbers == [([7], [5]), ([], [3])]


def test_a_neighbour_that_overlaps_its_own_partner_is_not_taken():
    """Two regions 8 mm apart in both images stay two lesions."""
    labels = np.zeros(SHAPE, np.int32)
    labels[10, 10, 10], labels[12, 10, 10] = 1, 2
    found = match_regions(Regions(labels, ""), Regions(labels, ""), voxel_size=SIZE)
    assert found.numbers == [([1], [1]), ([2], [2])]


def test_the_third_image_says_which_lost_region_was_there():
    """Of two that denoising loses the reference shows one: the other was noise of the scan."""
    rows = table(before=scene(*PLACES[:3]), after=scene(PLACES[0]), reference=scene(*PLACES[:2]))
    assert [tuple(pair) for pair in rows[["image", "against"]].drop_duplicates().to_numpy()] == [
        ("after", "before"),
        ("after", "reference"),
        ("before", "reference"),
    ]
    lost = rows[(rows["against"] == "before") & (rows["match"] == "lost")]
    assert dict(zip(lost["y_mm"], lost["in_third"], strict=True)) == {120: "yes", 32: "no"}
    against = {(image, measure): match_counts(part) for (image, measure), part in rows.groupby(["image", "against"])}
    assert against["after", "reference"] == MatchCounts(1, 1, 0)
    assert against["before", "reference"] == MatchCounts(2, 0, 1)
    # The comparison with the scan does not depend on the reference.
    alone = table(before=scene(*PLACES[:3]), after=scene(PLACES[0]))
    assert match_counts(alone) == against["after", "before"] == MatchCounts(1, 2, 0)
    assert alone["in_third"].isna().all()


def test_both_denominators_and_the_published_figures():
    counts = MatchCounts(n_kept=836, n_lost=7, n_new=13)
    assert counts.n_either == 856
    assert {key: round(value, 1) for key, value in counts.percent_of_either.items()} == {
        "kept": 97.7,
        "lost": 0.8,
        "new": 1.5,
    }
    assert counts.lost_percent == pytest.approx(100 * 7 / 843)
    assert counts.new_percent == pytest.approx(100 * 13 / 849)
    assert np.isnan(MatchCounts(0, 0, 0).lost_percent)


def test_no_regions_are_no_lesions():
    nothing = np.ones(SHAPE)
    assert table(before=nothing, after=nothing).empty
    assert matched(nothing, scene(*PLACES)).counts == MatchCounts(0, 0, 4)
    assert matched(scene(*PLACES), nothing).counts == MatchCounts(0, 4, 0)


def test_images_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="differ"):
        match_regions(own(scene()), Regions(np.zeros((2, 2, 2), np.int32), ""), voxel_size=SIZE)


def test_given_regions_are_kept_where_the_rule_of_the_reader_sees_them():
    labels = own(scene(*PLACES))
    given = Regions(labels.labels, "by hand", names={1: "node"})
    fainter = scene(*PLACES[:2]) + (scene(*PLACES[2:], value=1.2) - 1)
    seen = seen_regions(fainter, given, voxel_size=SIZE)
    kept = {int(labels.labels[place]) for place in PLACES[:2]}
    assert set(seen.numbers) == kept
    assert seen.method.startswith("by hand; seen is a local maximum above 1.5 x background")
    assert match_regions(given, seen, voxel_size=SIZE).counts == MatchCounts(2, 2, 0)
