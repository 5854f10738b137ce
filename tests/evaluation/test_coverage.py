"""Coverage: Gaussian errors of known SD, a known wrong SD, few draws, heavy tails, and means of regions."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import laplace, norm, t

from pipeline.errors import UndefinedMeasureError
from pipeline.evaluation import (
    NOMINAL_LEVELS,
    coverage,
    half_width,
    mean_and_sd,
    miscalibration_area,
    region_means,
    scale_factor,
    standardised_errors,
)

N = 40_000


def within_chance(found, expected, n=N):
    """Whether a fraction of n is the expected one within four standard errors."""
    return abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / n)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def errors(rng):
    """Errors of N voxels, each with an SD of its own that is stated right."""
    truth, sd = rng.uniform(0, 10, N), rng.uniform(0.1, 2, N)
    return standardised_errors(truth + sd * rng.standard_normal(N), sd, truth)


def test_gaussian_errors_of_known_sd_are_covered_as_stated(errors):
    for level, found in coverage(errors).items():
        assert within_chance(found, level)
    # Kolmogorov: the curve is nowhere farther than 1.63 / sqrt(n) from the diagonal in 99 of 100.
    assert miscalibration_area(errors) < 1.63 / np.sqrt(N)
    assert scale_factor(errors) == pytest.approx(1, rel=0.02)


def test_half_widths_are_the_quantiles_that_everybody_knows():
    assert half_width(0.95) == pytest.approx(1.959964, abs=1e-6)
    assert half_width(0.6826895) == pytest.approx(1, abs=1e-6)
    # Student's t with 4 degrees of freedom has 2.776445.
    assert half_width(0.95, n_draws=5) == pytest.approx(2.776445 * np.sqrt(1.2), abs=1e-5)


def test_an_sd_half_as_large_covers_less_and_its_factor_is_two(errors):
    halved = 2 * errors
    for level, found in coverage(halved).items():
        assert within_chance(found, 2 * norm.cdf(norm.ppf((1 + level) / 2) / 2) - 1)
    # The area under that curve: P(|z| < k/2) over levels of |z| < k, by quadrature.
    p = (np.arange(10_000) + 0.5) / 10_000
    area = np.mean(p - (2 * norm.cdf(norm.ppf((1 + p) / 2) / 2) - 1))
    assert miscalibration_area(halved) == pytest.approx(area, abs=0.01)
    factor = scale_factor(halved)
    assert factor == pytest.approx(2, rel=0.02)
    for level, found in coverage(halved, factor=factor).items():
        assert abs(found - level) < 0.01
    assert miscalibration_area(halved, factor=factor) < 0.01


def test_the_worst_area_is_a_half():
    assert miscalibration_area(np.full(1000, np.inf)) == pytest.approx(0.5)
    assert miscalibration_area(np.zeros(1000)) == pytest.approx(0.5)


def test_few_draws_are_covered_as_stated_with_their_own_quantiles_only(rng):
    n_draws = 4
    draws = rng.standard_normal((n_draws, N))
    mean, sd = mean_and_sd(list(draws))
    np.testing.assert_allclose(mean, draws.mean(0), atol=1e-12)
    np.testing.assert_allclose(sd, draws.std(0, ddof=1), atol=1e-12)
    errors = standardised_errors(mean, sd, rng.standard_normal(N))
    for level, found in coverage(errors, n_draws=n_draws).items():
        assert within_chance(found, level)
    assert miscalibration_area(errors, n_draws=n_draws) < 1.63 / np.sqrt(N)
    # As if the SD were known: P(|t_3| sqrt(1.25) < 1.96).
    assert within_chance(coverage(errors)[0.95], 2 * t(3).cdf(1.959964 / np.sqrt(1.25)) - 1)


def test_heavy_tails_need_a_factor_for_each_level(rng):
    fitted, other = (standardised_errors(laplace.rvs(size=N, random_state=rng), np.ones(N), np.zeros(N)) for _ in "ab")
    one = scale_factor(fitted)
    assert coverage(other, factor=one)[0.95] < 0.93
    for level in NOMINAL_LEVELS:
        found = coverage(other, [level], factor=scale_factor(fitted, level=level))[level]
        assert abs(found - level) < 0.015


def test_a_factor_of_few_errors_holds_at_least_as_often_as_stated(rng):
    # Split conformal prediction: the last of n + 1 exchangeable errors is within it with ceil((n + 1) p) / (n + 1).
    held = []
    for _ in range(2000):
        errors = np.abs(rng.standard_normal(20))
        held.append(errors[-1] <= scale_factor(errors[:-1], level=0.9) * half_width(0.9))
    assert within_chance(np.mean(held), 18 / 20, n=2000)
    with pytest.raises(UndefinedMeasureError, match=r"level 0\.95 needs more than 5"):
        scale_factor(np.ones(5), level=0.95)


def test_the_sd_of_a_mean_is_not_the_mean_sd(rng):
    labels = np.zeros((12, 12, 12), dtype=int)
    labels[2:6, 2:6, 2:6], labels[7:11, 7:11, 7:11] = 1, 2
    noise = rng.standard_normal((300, 12, 12, 12))
    noise[:, 6:] = noise[:, 6:].mean(axis=(1, 2, 3), keepdims=True) * np.sqrt(6 * 144)
    mean, sd = mean_and_sd([region_means(draw, labels) for draw in noise])
    # Of 64 independent voxels, and of 64 that are one.
    np.testing.assert_allclose(sd, [1 / 8, 1], rtol=0.15)
    np.testing.assert_allclose(mean, ndimage.mean(noise.mean(axis=0), labels, [1, 2]))
    assert region_means(mean_and_sd(list(noise))[1], labels)[0] == pytest.approx(1, rel=0.02)


def test_where_nothing_is_uncertain_only_the_truth_itself_is_held():
    errors = standardised_errors(np.array([1.0, 2.0]), np.zeros(2), np.array([1.0, 3.0]))
    assert errors.tolist() == [0, np.inf]
    assert set(coverage(errors).values()) == {0.5}
    with pytest.raises(UndefinedMeasureError, match="SD 0"):
        scale_factor(np.array([0.0, np.inf, np.inf]))


def test_what_cannot_be_judged_is_refused():
    ones = np.ones((2, 2, 2))
    with pytest.raises(UndefinedMeasureError, match="a voxel or a region"):
        standardised_errors(ones, ones, ones, mask=np.zeros((2, 2, 2), dtype=bool))
    with pytest.raises(UndefinedMeasureError, match="not negative"):
        standardised_errors(ones, -ones, ones)
    with pytest.raises(UndefinedMeasureError, match="finite"):
        standardised_errors(ones, ones * np.nan, ones)
    with pytest.raises(ValueError, match="must be one"):
        standardised_errors(ones, ones, np.ones(8))
    with pytest.raises(ValueError, match="one has no spread"):
        mean_and_sd([ones])
    with pytest.raises(UndefinedMeasureError, match="no voxel"):
        region_means(ones, 2 * np.ones((2, 2, 2), dtype=int))
