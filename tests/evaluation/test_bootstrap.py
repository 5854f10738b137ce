"""The bootstrap: known differences, coverage, whole patients at a time; ratios and limits of agreement."""

import numpy as np
import pytest

from pipeline.evaluation import bootstrap_mean, bootstrap_ratio, limits_of_agreement, paired_bootstrap


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
    with pytest.raises(ValueError, match="bootstrap"):
        paired_bootstrap(first, second, **options)


def test_a_mean_is_a_ratio_with_ones_below():
    values = np.random.default_rng(5).normal(size=20)
    assert bootstrap_mean(values) == bootstrap_ratio(values, np.ones(20)) == paired_bootstrap(values, np.zeros(20))


def test_a_ratio_is_of_sums_and_not_the_mean_of_ratios():
    found = bootstrap_ratio([1, 0, 3], [1, 10, 9], groups=["a", "b", "c"])
    assert found.mean == pytest.approx(4 / 20)
    assert (found.low, found.high) == pytest.approx((0, 1))
    with pytest.raises(ValueError, match="add up to 0"):
        bootstrap_ratio([1, 2], [0, 0])


def test_limits_of_agreement_of_a_normal_distribution():
    errors = np.random.default_rng(6).normal(-5, 10, 4000)
    found = limits_of_agreement(errors, groups=list(np.arange(4000) % 400))
    assert found.n == 4000
    assert (found.bias.mean, found.lower.mean, found.upper.mean) == pytest.approx((-5, -24.6, 14.6), abs=0.7)
    assert found.bias.mean == pytest.approx(errors.mean())
    assert found.upper.mean - found.bias.mean == pytest.approx(1.96 * errors.std(ddof=1))
    # Standard errors: of the mean sd / sqrt(n), of a limit sqrt(1 / n + 1.96^2 / 2 n) sd (Bland & Altman 1986).
    assert found.bias.high - found.bias.low == pytest.approx(2 * 1.96 * 10 / np.sqrt(4000), rel=0.1)
    expected = 2 * 1.96 * 10 * np.sqrt(1 / 4000 + 1.96**2 / 8000)
    assert found.lower.high - found.lower.low == pytest.approx(expected, rel=0.1)


def test_limits_of_what_always_agrees():
    found = limits_of_agreement([3.0, 3.0, np.nan, 3.0])
    assert (found.n, found.bias.mean, found.lower.low, found.upper.high) == pytest.approx((3, 3, 3, 3))
