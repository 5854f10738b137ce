"""Lesions seen, lost and invented: images in which it is known what the rule must see."""

import numpy as np
import pytest

from pipeline.evaluation import concordance, reader_of
from pipeline.images import gaussian_filter_mm

SHAPE, VOXEL_SIZE = (48, 48, 48), (4.0, 4.0, 4.0)
LESIONS = ((12, 12, 12), (12, 34, 12), (34, 12, 34))
ELSEWHERE = ((34, 34, 12), (34, 34, 36), (12, 34, 36))


def scene(*spots: tuple[tuple[int, int, int], float]) -> np.ndarray:
    """Background of SUV 1 with blurred spots of a given height above it."""
    suv = np.ones(SHAPE)
    for where, height in spots:
        point = np.zeros(SHAPE)
        point[where] = 1.0
        blurred = gaussian_filter_mm(point, fwhm=12.0, voxel_size=VOXEL_SIZE)
        suv += height * blurred / blurred.max()
    return suv


@pytest.fixture(scope="module")
def truth():
    return scene(*((place, 5.0) for place in LESIONS))


@pytest.fixture(scope="module")
def reader(truth):
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for number, (x, y, z) in enumerate(LESIONS, start=1):
        labels[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2] = number
    return reader_of(truth, labels, mask=np.ones(SHAPE, dtype=bool), voxel_size=VOXEL_SIZE)


def agreement(reader, full, denoised):
    return concordance(reader.read(full), reader.read(denoised), voxel_size=VOXEL_SIZE)


def test_the_truth_shows_every_lesion_and_nothing_else(reader, truth):
    reading = reader.read(truth)
    assert reading.lesions.tolist() == [True, True, True]
    assert len(reading.spots) == 0
    np.testing.assert_allclose(reader.backgrounds, 1.0, atol=0.1)


def test_one_lesion_lost_and_one_spot_invented(reader, truth):
    denoised = scene((LESIONS[0], 5.0), (LESIONS[1], 0.3), (LESIONS[2], 4.0), (ELSEWHERE[0], 5.0))
    found = agreement(reader, truth, denoised)
    assert (found.n_lesions, found.n_lesions_full, found.n_lesions_seen, found.n_lesions_both) == (3, 3, 2, 2)
    assert (found.n_spots_full, found.n_spots_seen, found.n_spots_both) == (0, 1, 0)
    np.testing.assert_array_equal(reader.read(denoised).spots, [ELSEWHERE[0]])


def test_noise_of_the_full_dose_that_is_still_there_is_not_invented(reader):
    lesions = [(place, 5.0) for place in LESIONS]
    full = scene(*lesions, (ELSEWHERE[0], 5.0), (ELSEWHERE[1], 5.0))
    x, y, z = ELSEWHERE[0]
    denoised = scene(*lesions, ((x + 2, y, z), 5.0), (ELSEWHERE[2], 5.0))  # 8 mm away is the same place
    found = agreement(reader, full, denoised)
    assert (found.n_spots_full, found.n_spots_seen, found.n_spots_both) == (2, 2, 1)


def test_a_lesion_that_only_denoising_shows_is_seen_after_and_no_spot(reader, truth):
    found = agreement(reader, scene((LESIONS[0], 5.0)), truth)
    assert (found.n_lesions_full, found.n_lesions_seen, found.n_lesions_both) == (1, 3, 1)
    assert found.n_spots_seen == 0


def test_the_rule_is_one_and_a_half_backgrounds_plus_0_3_after_smoothing(reader):
    for height, seen in ((0.9, False), (1.25, True)):
        image = scene((LESIONS[0], height))
        highest = gaussian_filter_mm(image, fwhm=6.0, voxel_size=VOXEL_SIZE).max()
        assert (highest > 1.5 * reader.backgrounds[0] + 0.3) == seen
        assert bool(reader.read(image).lesions[0]) == seen


def test_a_slope_through_a_lesion_is_no_lesion(reader):
    ramp = np.broadcast_to(np.linspace(0, 12, SHAPE[0])[:, None, None], SHAPE)
    assert not reader.read(ramp).lesions.any()


def test_numbers_may_have_gaps(truth):
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[LESIONS[0]], labels[LESIONS[2]] = 2, 5
    reader = reader_of(truth, labels, mask=np.ones(SHAPE, dtype=bool), voxel_size=VOXEL_SIZE)
    assert reader.read(truth).lesions.tolist() == [True, True]
    with pytest.raises(ValueError, match="differ"):
        reader_of(truth, labels[1:], mask=np.ones(SHAPE, dtype=bool), voxel_size=VOXEL_SIZE)
