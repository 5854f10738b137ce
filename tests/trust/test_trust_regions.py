"""Regions measured beside denoised: identities, known fields, and what cannot be stated."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from pipeline.evaluation import suv_peak
from pipeline.images import ball_offsets
from pipeline.trust.calibration import RecommendationRule, read_calibration
from pipeline.trust.noise_model import scan_noise
from pipeline.trust.regions import (
    LARGEST_NOISE_PART,
    RegionParts,
    measured_regions,
    measured_weight,
    recommend,
    region_parts,
    resolution,
)

SIDES = (4.0, 4.0, 4.0)
SHAPE = (32, 32, 28)


def rule(*, measured_to=0.0, denoised_from=1.0, counting=2.0, size_power=0.0, other=0.1):
    """The denoised value of whatever size; with `MEASURED`, the measured one."""
    return RecommendationRule(measured_to, denoised_from, 1.1, 1.5, counting, size_power, other)


MEASURED = {"measured_to": 50.0, "denoised_from": 60.0}


def calibration(a_rule):
    return replace(read_calibration(), noise=(0.0,) * 5, suv_mean=a_rule, suv_peak=a_rule, provenance={})


def patient(*, radius=10.0, sd=0.3, seed=0):
    """A hot sphere in tissue: without noise, with noise, and its labels."""
    truth = np.full(SHAPE, 2.0)
    labels = np.zeros(SHAPE, dtype=np.int32)
    sphere = ball_offsets(radius, voxel_size=SIDES) + np.array([16, 16, 14])
    truth[tuple(sphere.T)] = 8.0
    labels[tuple(sphere.T)] = 1
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 0.7)
    return truth, truth + sd * noise / noise.std(), labels


def measured(noisy, denoised, labels, a_rule, **options):
    noise = scan_noise(noisy, voxel_size=SIDES)
    return measured_regions(noisy, denoised, labels, noise=noise, calibration=calibration(a_rule), **options)


def test_measured_and_denoised_are_the_means_of_the_two_images():
    truth, noisy, labels = patient()
    (region,) = measured(noisy, truth, labels, rule())
    assert region.suv_mean.measured == pytest.approx(noisy[labels == 1].mean())
    assert region.suv_mean.denoised == pytest.approx(8.0)
    assert region.suv_peak.denoised == pytest.approx(suv_peak(truth, labels == 1, voxel_size=SIDES))
    assert region.tlg.measured == pytest.approx(region.suv_mean.measured * region.volume)
    assert region.tlg.measured_sd == pytest.approx(region.suv_mean.measured_sd * region.volume)
    assert region.suv_mean.corrected is None


def test_small_regions_recommend_the_measured_value_and_large_ones_the_denoised():
    truth, noisy, labels = patient()
    (small,), (large,) = (measured(noisy, truth, labels, rule(**ends)) for ends in (MEASURED, {}))
    assert small.suv_mean.recommended == pytest.approx(small.suv_mean.measured)
    assert large.suv_mean.recommended == pytest.approx(large.suv_mean.denoised)
    assert small.suv_peak.recommended == pytest.approx(small.suv_peak.measured)


def test_the_interval_adds_counting_and_the_rest_in_squares():
    truth, noisy, labels = patient()
    (region,) = measured(noisy, truth, labels, rule(counting=3.0, size_power=0.5, other=0.25))
    value = region.suv_mean
    half = np.hypot(3 * value.measured_sd * (20 / region.diameter) ** 0.5, 0.25 * 8.0)
    assert (value.low, value.high) == pytest.approx((8.0 - half, 8.0 + half))


def test_the_measured_value_counts_less_in_larger_regions_and_near_the_threshold():
    a_rule = rule(measured_to=10.0, denoised_from=20.0)
    assert measured_weight([5, 10, 15, 20, 40], np.inf, a_rule) == pytest.approx([1, 1, 0.5, 0, 0])
    assert measured_weight(8, [0.8, 1.1, 1.2, 1.5, 3], a_rule) == pytest.approx([0, 0, 0.25, 1, 1])
    assert measured_weight(15, 1.3, a_rule) == pytest.approx(0.25)


@pytest.mark.parametrize(("threshold", "over"), [(4.0, 2.0), (None, np.inf)])
def test_a_region_is_as_far_above_the_threshold_as_its_denoised_mean(threshold, over):
    truth, noisy, labels = patient()
    noise, box = scan_noise(noisy, voxel_size=SIDES), (slice(8, 24), slice(8, 24), slice(4, 24))
    parts = region_parts(noisy, truth, box, labels[box] == 1, noise=noise, drawn=None, threshold=threshold)
    assert [part.over_threshold for part in parts] == pytest.approx([over, over])


def test_the_peak_is_measured_where_the_denoised_image_peaks():
    truth, noisy, labels = patient(radius=14.0)
    denoised = truth.copy()
    denoised[18, 16, 14] += 5
    noisy[13, 16, 14] += 20  # a peak of noise elsewhere
    (region,) = measured(noisy, denoised, labels, rule())
    sphere = ball_offsets(6.204, voxel_size=SIDES)
    candidates = [noisy[tuple((sphere + c).T)].mean() for c in np.argwhere(labels)]
    assert region.suv_peak.measured < max(candidates) - 0.5


def test_what_only_noise_drew_is_not_taken_from_the_noisy_image():
    truth, noisy, labels = patient(radius=16.0)
    grown = ndimage.binary_dilation(labels == 1)
    only_noise = grown & (labels == 0)
    noisy[only_noise] += 4.0
    (region,) = measured(noisy, truth, grown.astype(np.int32), rule(**MEASURED), threshold=4.0)
    assert 0.2 < region.drawn_by_noise < LARGEST_NOISE_PART
    assert region.suv_mean.measured > truth[grown].mean() + 1.0
    assert region.suv_mean.recommended == pytest.approx(truth[grown].mean(), abs=0.4)


@pytest.mark.parametrize(("drawn", "said"), [(0, "by the noise of the scan alone"), (7, r"to \d\d %")])
def test_what_noise_drew_has_no_recommended_value_but_is_measured(drawn, said):
    _, noisy, labels = patient(radius=12.0)
    noisy[labels == 1] += 4.0
    denoised = np.full(SHAPE, 2.0)
    denoised[labels * (np.arange(SHAPE[0])[:, None, None] < 8 + drawn) == 1] = 12.0
    (region,) = measured(noisy, denoised, labels, rule(), threshold=6.0)
    assert re.search(said, region.statement)
    assert region.suv_mean.recommended is region.suv_peak.low is region.tlg.high is None
    assert region.suv_mean.measured > region.suv_mean.denoised
    assert measured(noisy, denoised, labels, rule())[0].statement == ""


def test_counting_intervals_hold_the_truth_as_often_as_they_say():
    held = []
    for seed in range(24):
        truth, noisy, labels = patient(seed=seed, sd=0.5)
        (region,) = measured(noisy, truth, labels, rule())
        held.append(region.suv_mean.measured_low <= 8.0 <= region.suv_mean.measured_high)
    assert np.mean(held) >= 0.83


def test_the_bias_of_repeats_is_taken_off():
    truth, noisy, labels = patient()
    (region,) = measured(noisy, truth, labels, rule(), bias={1: (-0.5, -0.7)})
    assert region.suv_mean.corrected == pytest.approx(region.suv_mean.denoised + 0.5)
    assert region.suv_peak.corrected == pytest.approx(region.suv_peak.denoised + 0.7)
    assert region.tlg.corrected == pytest.approx(region.suv_mean.corrected * region.volume)


def test_a_region_below_the_resolution_is_not_assessable_but_measured():
    truth, noisy, labels = patient(radius=4.0)
    (region,) = measured(noisy, truth, labels, rule(), post_filter=12.0)
    assert region.diameter < 12
    assert region.statement.startswith("not assessable")
    assert region.suv_mean.recommended is None
    assert region.tlg.high is None
    assert region.suv_mean.measured_sd > 0


def test_resolution_is_the_largest_of_what_is_known():
    noise = scan_noise(patient()[1], voxel_size=SIDES)
    white = replace(noise, correlation=(0.0, 0.0, 0.0))
    assert resolution(white) == pytest.approx(8)
    assert resolution(white, post_filter=9.5) == pytest.approx(9.5)
    assert resolution(replace(noise, correlation=(0.9, 0.9, 0.9))) == pytest.approx(14.51, abs=0.01)


def test_a_scan_of_k_times_the_suv_recommends_k_times_the_value():
    parts = RegionParts(14.0, 6.0, 0.4, 5.0, 0.8, 0.1, 1.3)
    scaled = replace(parts, measured=60.0, measured_sd=4.0, denoised=50.0, difference=8.0)
    a_rule = rule(measured_to=12.0, denoised_from=18.0, size_power=0.5)
    assert recommend(scaled, a_rule) == pytest.approx(np.multiply(10, recommend(parts, a_rule)))


def test_no_region_gives_no_row_and_shapes_must_agree():
    truth, noisy, labels = patient()
    assert measured(noisy, truth, np.zeros_like(labels), rule()) == []
    with pytest.raises(ValueError, match="differ"):
        measured(noisy, truth, labels[:-1], rule())
