"""The support of spots in small phantoms whose noise is known, and the distribution of the largest by noise."""

import numpy as np
import pytest

from pipeline.images import gaussian_filter_mm
from pipeline.trust.evidence import evidence_fields
from pipeline.trust.spots import (
    SIMULATED_NULL,
    SPOT_COLUMNS,
    LargestSpot,
    background_around,
    largest_spot,
    spots_of,
    support_in_words,
)

VOXEL_SIZE = (5.0, 5.0, 5.0)
SHAPE = (36, 36, 36)
BODY = np.zeros(SHAPE, dtype=bool)
BODY[3:-3, 3:-3] = True
CENTER = (18, 18, 18)
AFFINE = np.array([[5.0, 0, 0, -100], [0, 5, 0, 20], [0, 0, 5, -300], [0, 0, 0, 1]])


def scene(*spots: tuple[tuple[int, int, int], float], background: float = 1.0) -> np.ndarray:
    """A block of even uptake in air with blurred points of a given height."""
    points = np.zeros(SHAPE)
    for place, height in spots:
        points[place] = height
    shape_of_one = gaussian_filter_mm(points, fwhm=12.0, voxel_size=VOXEL_SIZE)
    point = np.zeros(SHAPE)
    point[CENTER] = 1
    peak = gaussian_filter_mm(point, fwhm=12.0, voxel_size=VOXEL_SIZE).max()
    return np.where(BODY, background, 0).astype(np.float32) + (shape_of_one / peak).astype(np.float32)


def noisy(image: np.ndarray, *, cov: float, seed: int = 0) -> np.ndarray:
    """An image with log-normal noise of a coefficient of variation, correlated over 7 mm."""
    noise = gaussian_filter_mm(np.random.default_rng(seed).standard_normal(SHAPE), fwhm=7.0, voxel_size=VOXEL_SIZE)
    return (image * np.exp(cov * noise / noise.std() - cov**2 / 2)).astype(np.float32)


def test_a_strong_spot_is_supported_at_its_place():
    image = scene((CENTER, 5.0))
    found = spots_of(noisy(image, cov=0.1), image, voxel_size=VOXEL_SIZE, affine=AFFINE)
    assert len(found.spots) == 1
    spot = found.spots.iloc[0]
    np.testing.assert_allclose(spot[["x_mm", "y_mm", "z_mm"]].to_numpy(float), (AFFINE @ [*CENTER, 1])[:3])
    assert spot["suv_max"] == pytest.approx(6.0, rel=1e-3)
    assert spot["suv_background"] == pytest.approx(1.0, rel=0.02)
    assert spot["support"] == "supported"
    assert spot["probability"] < 0.01
    assert found.statement == "1 of 1 spots are supported by the data"


def test_the_same_spot_in_more_noise_has_less_support():
    image = scene((CENTER, 1.2))
    strengths = [
        spots_of(noisy(image, cov=cov), image, voxel_size=VOXEL_SIZE).spots["strength"].item()
        for cov in (0.05, 0.2, 0.8)
    ]
    assert strengths == sorted(strengths, reverse=True)
    assert strengths[0] > 2 * strengths[2]


def test_a_weak_spot_in_much_noise_is_not_supported():
    image = scene((CENTER, 0.9))
    found = spots_of(noisy(image, cov=0.8), image, voxel_size=VOXEL_SIZE)
    assert found.spots["support"].tolist() == ["not supported by the data"]


def test_air_is_no_background_and_a_plateau_is_one_place():
    image = scene()
    assert spots_of(noisy(image, cov=0.1), image, voxel_size=VOXEL_SIZE).spots.empty
    places = np.array([[3, 3, 18], [18, 18, 18]])
    np.testing.assert_array_equal(background_around(image, places, body=BODY, voxel_size=VOXEL_SIZE), [1, 1])


def test_what_is_no_spot_by_the_rule_of_hot_spots_is_not_listed():
    image = scene((CENTER, 0.7))  # 1.7 is below 1.5 x 1 + 0.3
    assert spots_of(noisy(image, cov=0.05), image, voxel_size=VOXEL_SIZE).spots.empty


def test_a_spot_or_region_at_an_end_is_uncertain_at_best():
    places = [(18, 18, 2), (18, 18, 18), (18, 18, 34)]
    image = scene(*((place, 9.0) for place in places))
    labels = np.zeros(SHAPE, dtype=np.int32)
    for number, (i, j, k) in enumerate(places, start=1):
        labels[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2] = number
    found = spots_of(noisy(image, cov=0.1), image, voxel_size=VOXEL_SIZE, labels=labels)
    for table in (found.spots.sort_values("z_mm"), found.regions):
        assert table["support"].tolist() == ["uncertain", "supported", "uncertain"]
        assert (table["probability"] < 0.01).all()
    assert "uncertain at best in the first and last 3 slices" in found.rule


def test_weak_spots_at_an_end_stay_unsupported():
    assert support_in_words(0.6, at_end=True) == "not supported by the data"
    assert support_in_words(0.2, at_end=True) == support_in_words(0.001, at_end=True) == "uncertain"


def test_the_fields_of_the_evidence_give_the_same_spots():
    image = scene((CENTER, 5.0))
    images = noisy(image, cov=0.1), image
    fields = list(evidence_fields(*images, voxel_size=VOXEL_SIZE))
    found, again = (spots_of(*images, voxel_size=VOXEL_SIZE, fields=given).spots for given in (fields, ()))
    # Its box has the margin of the widest Gaussian: the spread is pooled over other blocks.
    np.testing.assert_allclose(found["strength"], again["strength"], rtol=0.05)
    np.testing.assert_array_equal(found[["x_mm", "y_mm", "z_mm"]], again[["x_mm", "y_mm", "z_mm"]])


def test_a_large_region_is_judged_over_the_tissue_around_it():
    labels = np.zeros(SHAPE, dtype=np.int32)
    labels[12:24, 12:24, 12:24] = 2
    labels[5:7, 5:7, 5:7] = 5
    image = np.where(labels == 2, 6.0, scene()).astype(np.float32)
    found = spots_of(noisy(image, cov=0.1), image, voxel_size=VOXEL_SIZE, labels=labels)
    assert found.regions["region"].tolist() == [2, 5]
    assert found.regions["suv_background"].tolist() == pytest.approx([1.0, 1.0])
    assert found.regions["support"].tolist() == ["supported", "not supported by the data"]


def test_a_spot_names_its_region():
    labels = np.zeros(SHAPE, dtype=np.int32)
    labels[16:21, 16:21, 16:21] = 3
    image = scene((CENTER, 5.0), ((9, 9, 9), 4.0))
    found = spots_of(noisy(image, cov=0.1), image, voxel_size=VOXEL_SIZE, labels=labels)
    assert found.spots["region"].tolist() == [3, 0]


def test_the_words_follow_the_probability():
    assert [support_in_words(p) for p in (0.001, 0.009, 0.01, 0.49, 0.5, 1.0)] == [
        *("supported", "supported", "uncertain", "uncertain"),
        *("not supported by the data", "not supported by the data"),
    ]


def test_the_null_of_replicates_has_the_parameters_it_was_drawn_with():
    drawn = np.random.default_rng(1).gumbel(4.0, 0.5, size=4000)
    null = LargestSpot.of_replicates(drawn)
    assert null.location == pytest.approx(4.0, abs=0.03)
    assert null.scale == pytest.approx(0.5, abs=0.03)
    for strength in (3.5, 4.5, 6.0):
        assert null.probability(strength) == pytest.approx(np.mean(drawn >= strength), abs=0.02)
    assert "4000 repeats" in null.source


def test_too_few_replicates_are_refused():
    with pytest.raises(ValueError, match="2 replicates, expected at least 3"):
        LargestSpot.of_replicates([4.0, 5.0])


def test_replicates_take_the_place_of_the_simulated_null():
    image = scene((CENTER, 5.0))
    images = noisy(image, cov=0.1), image
    strength = spots_of(*images, voxel_size=VOXEL_SIZE).spots["strength"].item()
    null = LargestSpot.of_replicates([strength, strength + 1, strength + 2])
    found = spots_of(*images, voxel_size=VOXEL_SIZE, null=null)
    assert found.spots["support"].tolist() == ["not supported by the data"]
    assert null.source in found.rule
    assert SIMULATED_NULL.source not in found.rule


def test_the_largest_spot_of_a_replicate_is_the_strongest_of_its_table():
    image = scene((CENTER, 5.0), ((9, 9, 9), 3.0))
    images = noisy(image, cov=0.1), image
    table = spots_of(*images, voxel_size=VOXEL_SIZE).spots
    assert largest_spot(*images, voxel_size=VOXEL_SIZE) == table["strength"].max()
    assert largest_spot(noisy(scene(), cov=0.1), scene(), voxel_size=VOXEL_SIZE) == 0


@pytest.mark.parametrize(
    ("image", "reason"),
    [(np.zeros(SHAPE), "no body"), (np.ones((40, 40, 1)), "1 slice"), (np.ones(SHAPE), "equal")],
)
def test_what_cannot_be_judged_is_said_in_one_line(image, reason):
    found = spots_of(image, image, voxel_size=VOXEL_SIZE)
    assert reason in found.statement
    assert "\n" not in found.statement
    assert list(found.spots.columns) == list(found.regions.columns) == list(SPOT_COLUMNS)
    assert found.spots.empty


def test_two_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        spots_of(np.ones(SHAPE), np.ones((3, 3, 3)), voxel_size=VOXEL_SIZE)
