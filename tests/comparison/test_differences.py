"""The paired bootstrap: known differences, coverage, whole patients at a time; and verdicts on methods."""

import numpy as np
import pytest

from pipeline.comparison import compare_methods, paired_bootstrap
from pipeline.comparison.baselines import COMPETITORS


def test_a_constant_difference_is_certain():
    second = np.random.default_rng(0).normal(40, 5, 12)
    interval = paired_bootstrap(second + 1.5, second)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((1.5, 1.5, 1.5))
    assert interval.excludes_zero


def test_equal_methods_differ_by_nothing():
    values = np.arange(5.0)
    interval = paired_bootstrap(values, values)
    assert (interval.low, interval.high, interval.excludes_zero) == (0, 0, False)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    inside = 0
    for trial in range(300):
        interval = paired_bootstrap(rng.normal(0.7, 1, 40), np.zeros(40), n_resamples=1000, seed=trial)
        inside += interval.low <= 0.7 <= interval.high
    assert 0.91 <= inside / 300 <= 0.98


def test_the_width_is_that_of_the_standard_error():
    difference = np.random.default_rng(2).normal(0, 1, 400)
    interval = paired_bootstrap(difference, np.zeros(400))
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * difference.std() / 20, rel=0.05)


def test_lesions_of_one_patient_are_drawn_together():
    difference = np.repeat([0.0, 1.0, 2.0, 3.0], 25)
    patients = list(np.repeat(["a", "b", "c", "d"], 25))
    apart = paired_bootstrap(difference, np.zeros(100))
    together = paired_bootstrap(difference, np.zeros(100), groups=patients)
    assert together.mean == apart.mean == 1.5
    # A hundred alike in four patients say as much as four: 5 times the standard error.
    assert (together.high - together.low) / (apart.high - apart.low) == pytest.approx(5, rel=0.15)


def test_the_mean_is_over_lesions_and_not_over_patients():
    assert paired_bootstrap([1, 1, 1, 5], np.zeros(4), groups=["a", "a", "a", "b"]).mean == 2


def test_pairs_that_are_not_finite_are_left_out():
    assert paired_bootstrap([1.0, np.nan, np.inf, 2.0], np.zeros(4), groups=["a", "b", "c", "d"]).mean == 1.5


def test_the_seed_decides():
    values = np.random.default_rng(3).normal(size=9)
    one, same, other = (paired_bootstrap(values, np.zeros(9), seed=seed) for seed in (4, 4, 5))
    assert one == same
    assert one != other


@pytest.mark.parametrize(
    ("first", "second", "options"),
    [
        ([1, 2], [1], {}),
        ([1], [1], {"groups": ["a", "b"]}),
        ([np.nan, 1], [1, 1], {}),
        ([1, 2], [1, 3], {"groups": ["a", "a"]}),
        ([1, 2], [1, 2], {"level": 1.0}),
    ],
)
def test_refuses_what_is_no_pair(first, second, options):
    with pytest.raises(ValueError, match="paired_bootstrap"):
        paired_bootstrap(first, second, **options)


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
