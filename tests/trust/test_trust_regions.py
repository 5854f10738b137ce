"""Regions measured beside denoised: identities, known fields, and what cannot be stated."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from pipeline.evaluation import suv_peak
from pipeline.images import ball_offsets
from pipeline.trust.calibration import RecommendationRule, TrustCalibration
from pipeline.trust.noise_model import scan_noise
from pipeline.trust.regions import RegionParts, measured_regions, recommend, resolution

SIDES = (4.0, 4.0, 4.0)
SHAPE = (32, 32, 28)


def rule(*, weight=-50.0, half=0.1, shift=0.0):
    return RecommendationRule((weight, 0, 0, 0), (shift, 0, 0, 0), (np.log(half), 0, 0, 0))


def calibration(a_rule):
    return TrustCalibration(noise=(0.0,) * 5, suv_mean=a_rule, suv_peak=a_rule, provenance={})


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


def test_weight_one_recommends_the_measured_value_and_weight_zero_the_denoised():
    truth, noisy, labels = patient()
    (with_one,), (with_zero,) = (measured(noisy, truth, labels, rule(weight=w)) for w in (50.0, -50.0))
    assert with_one.suv_mean.recommended == pytest.approx(with_one.suv_mean.measured)
    assert with_zero.suv_mean.recommended == pytest.approx(with_zero.suv_mean.denoised)
    assert with_one.suv_peak.recommended == pytest.approx(with_one.suv_peak.measured)


def test_the_interval_is_as_wide_as_the_rule_says():
    truth, noisy, labels = patient()
    (region,) = measured(noisy, truth, labels, rule(half=0.25, shift=2.0))
    value = region.suv_mean
    assert value.recommended == pytest.approx(8.0 * np.exp(2 * value.measured_sd / 8.0))
    assert (value.low, value.high) == pytest.approx((0.75 * value.recommended, 1.25 * value.recommended))


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
    truth, noisy, labels = patient(radius=8.0)
    grown = ndimage.binary_dilation(labels == 1, iterations=2)
    only_noise = grown & (labels == 0)
    noisy[only_noise] += 4.0
    (region,) = measured(noisy, truth, grown.astype(np.int32), rule(weight=50.0), threshold=4.0)
    assert 0.2 < region.drawn_by_noise < 1
    assert region.suv_mean.measured > truth[grown].mean() + 1.0
    assert region.suv_mean.recommended == pytest.approx(truth[grown].mean(), abs=0.4)


def test_counting_intervals_hold_the_truth_as_often_as_they_say():
    held = []
    for seed in range(24):
        truth, noisy, labels = patient(seed=seed, sd=0.5)
        (region,) = measured(noisy, truth, labels, rule())
        held.append(region.suv_mean.measured_low <= 8.0 <= region.suv_mean.measured_high)
    assert np.mean(held) >= 0.83


def test_the_bias_of_repeats_is_taken_off():
    truth, noisy, labels = patient()
    (region,) = measured(noisy, truth, labels, rule(), bias=[(-0.5, -0.7)])
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
    parts = RegionParts(14.0, 6.0, 0.4, 5.0, 0.8, 0.1)
    scaled = RegionParts(14.0, 60.0, 4.0, 50.0, 8.0, 0.1)
    a_rule = RecommendationRule((0.3, 0.2, -0.4, 1.0), (0.02, 0.01, 0.03, -0.2), (-2.5, -0.5, 0.4, 1.0))
    assert recommend(scaled, a_rule) == pytest.approx(np.multiply(10, recommend(parts, a_rule)))


def test_no_region_gives_no_row_and_shapes_must_agree():
    truth, noisy, labels = patient()
    assert measured(noisy, truth, np.zeros_like(labels), rule()) == []
    with pytest.raises(ValueError, match="differ"):
        measured(noisy, truth, labels[:-1], rule())
