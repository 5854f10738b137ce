"""Differences of methods and means, with intervals over subjects, and verdicts."""

import numpy as np
import pytest

from pipeline.comparison import compare_methods, mean_interval, paired_difference
from pipeline.comparison.baselines import COMPETITORS


def test_a_difference_over_doses_and_a_mean_have_intervals_over_subjects(made):
    measured = made(gain=1.5, small=-10.0, large=-2.0)
    for factors in (None, (4.0,)):
        found = paired_difference(measured, "psnr_full", "net", "input", factors=factors)
        assert (found.mean, found.low, found.high) == pytest.approx((4.5, 4.5, 4.5))
    of_lesions = paired_difference(measured, "suv_mean_error_percent", "net", "input")
    assert of_lesions.mean == pytest.approx(-24)
    assert paired_difference(measured, "absent", "net", "input") is None
    found = mean_interval([1.0, 2.0, np.nan, 6.0], groups=["a", "b", "b", "c"])
    assert (found.mean, found.low, found.high) == pytest.approx((3, 1, 6))
    assert mean_interval([1.0, 2.0], groups=["a", "a"]) is None


def test_the_difference_is_to_the_best_competitor(made):
    found = {(d.measure, d.dose_reduction_factor): d for d in compare_methods(made(gain=1.5), "net", COMPETITORS)}
    gain = found["psnr_full", 4.0]
    assert gain.other == "nonlocal_means"
    # The subjects differ by decibels and their differences by nothing: paired, the interval has no width.
    interval = gain.interval
    assert (interval.mean, interval.low, interval.high) == pytest.approx((1.5, 1.5, 1.5))
    assert gain.verdict == "better"


def test_less_error_is_better_whatever_its_sign(made):
    for small in (-10.0, 10.0):
        (lesions,) = (
            d
            for d in compare_methods(made(small=small, large=2.0), "net", ["input"])
            if (d.measure, d.dose_reduction_factor) == ("suv_mean_error_percent", 20.0)
        )
        assert lesions.interval.mean == pytest.approx((10 + 2) / 2 - 30)
        assert lesions.verdict == "better"


def test_worse_and_tie(made):
    def verdicts(gain):
        return {d.verdict for d in compare_methods(made(gain=gain), "net", COMPETITORS) if d.measure == "psnr_full"}

    assert verdicts(-0.5) == {"worse"}
    assert verdicts(0.0) == {"tie"}


def test_one_subject_says_nothing_about_others(made):
    one = made()
    alone = type(one)(*(table[table["subject"] == "sub-0"] for table in (one.scans, one.lesions)), one.truth)
    assert compare_methods(alone, "net", COMPETITORS) == []
