"""Thinning keeps the expectation, nests, and refuses what is not counts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.pet import PETError
from pipeline.simulation import Acquisition, thin
from pipeline.simulation.low_dose import (
    at_dose,
    check_dose_mode,
    check_dose_reduction_factors,
    dose_entity,
    dose_from_entity,
    thin_to_dose,
)


@settings(max_examples=25, deadline=None)
@given(factor=st.floats(1.5, 200), mean=st.floats(0.05, 50), seed=st.integers(0, 2**32 - 1))
def test_counts_are_conserved_and_nested(factor, mean, seed):
    rng = np.random.default_rng(seed)
    full = rng.poisson(mean, (40, 50)).astype(np.int32)
    low = thin(full, 1 / factor, rng)
    assert low.dtype == full.dtype
    assert (low <= full).all()
    assert (low >= 0).all()
    # Binomial: n p (1 - p). Five standard errors, since hypothesis asks many times.
    n, p = full.sum(), 1 / factor
    assert abs(low.sum() - n * p) <= 5 * np.sqrt(n * p * (1 - p)) + 1


def test_counts_are_conserved_within_three_standard_errors():
    full = np.random.default_rng(0).poisson(3.0, 200_000).astype(np.int32)
    for factor in (4, 10, 20, 50, 100):
        low = thin(full, 1 / factor, np.random.default_rng(factor))
        assert abs(low.sum() * factor - full.sum()) < 3 * np.sqrt(full.sum() * factor)


def test_thinned_poisson_is_poisson_and_shares_its_counts():
    rng = np.random.default_rng(3)
    full = rng.poisson(20.0, 300_000)
    low = thin(full, 0.1, rng)
    assert low.var() / low.mean() == pytest.approx(1.0, abs=0.01)
    assert np.cov(low, full)[0, 1] == pytest.approx(low.var(), rel=0.03)


def test_thinning_in_two_steps_is_thinning_once():
    rng = np.random.default_rng(4)
    full = rng.poisson(40.0, 200_000)
    once, twice = thin(full, 0.1, rng), thin(thin(full, 0.25, rng), 0.4, rng)
    counts = [np.bincount(v, minlength=20)[:12] / v.size for v in (once, twice)]
    np.testing.assert_allclose(counts[0], counts[1], atol=0.004)


def test_keeping_everything_is_the_identity():
    full = np.arange(12, dtype=np.int32).reshape(3, 4)
    np.testing.assert_array_equal(thin(full, 1.0, np.random.default_rng(0)), full)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01])
def test_impossible_fractions_are_refused(fraction):
    with pytest.raises(PETError, match="above 0 and up to 1"):
        thin(np.ones(3, dtype=np.int32), fraction, np.random.default_rng(0))


def test_what_is_not_counts_is_refused():
    with pytest.raises(PETError, match="expected integers"):
        thin(np.ones(3, dtype=np.float32), 0.5, np.random.default_rng(0))


def test_fractions_may_differ_from_element_to_element():
    fraction = np.repeat([0.1, 0.5, 1.0], 50_000)
    full = np.random.default_rng(1).poisson(8.0, fraction.size)
    low = thin(full, fraction, np.random.default_rng(2)).reshape(3, -1)
    n = full.reshape(3, -1).sum(axis=1)
    for kept, p, total in zip(low.sum(axis=1), (0.1, 0.5, 1.0), n, strict=True):
        assert abs(kept - total * p) <= 3 * np.sqrt(total * p * (1 - p))


def test_fractions_of_another_shape_are_refused():
    with pytest.raises(PETError, match=r"shape \(2,\)"):
        thin(np.ones(3, dtype=np.int32), np.array([0.5, 0.5]), np.random.default_rng(0))


SCALE = 3.0


@pytest.fixture(scope="module")
def acquisition():
    """Two subsets with many and few randoms for the trues, and an element where nothing is expected."""
    rng = np.random.default_rng(9)
    trues = [rng.uniform(0, 6, (400, 50)).astype(np.float32) for _ in range(2)]
    scatter = [0.5 * t for t in trues]
    trues[0][0], scatter[0][0] = 0, 0
    randoms = np.linspace(0.0, 4.0, 50, dtype=np.float32)
    return Acquisition(trues, scatter, randoms, factors=[], sensitivity=[])


@pytest.fixture(scope="module")
def less_activity(acquisition):
    """Counts at full dose, and thinned to 4, then to 10."""
    rng = np.random.default_rng(10)
    counts = {1: [rng.poisson(SCALE * acquisition.expected(k)).astype(np.int32) for k in range(2)]}
    for previous, factor in ((1, 4), (4, 10)):
        counts[factor] = thin_to_dose(
            counts[previous], acquisition, previous=previous, factor=factor, mode="less_activity", rng=rng
        )
    return counts


@pytest.mark.parametrize("factor", [4, 10])
def test_less_activity_leaves_what_is_expected_of_it(acquisition, less_activity, factor):
    for k in range(2):
        low = less_activity[factor][k]
        # Trues and scatter fall with the activity, randoms with its square.
        signal = SCALE * (acquisition.trues[k] + acquisition.scatter[k]) / factor
        expected = signal + SCALE * acquisition.randoms / factor**2
        assert abs(low.sum() - expected.sum()) < 3 * np.sqrt(expected.sum())
        # Slice by slice, so that few and many randoms are both right: chi squared of 50 sums.
        chi_squared = ((low - expected).sum(axis=0)[1:] ** 2 / expected.sum(axis=0)[1:]).sum()
        assert chi_squared < 49 + 4 * np.sqrt(2 * 49)
        # Poisson: variance equals mean, element by element.
        present = expected > 0
        assert ((low - expected)[present] ** 2 / expected[present]).mean() == pytest.approx(1, abs=0.06)


def test_less_activity_is_nested_and_thins_below_a_shorter_scan(acquisition, less_activity):
    rng = np.random.default_rng(11)
    shorter = thin_to_dose(less_activity[1], acquisition, previous=1, factor=10, mode="shorter_scan", rng=rng)
    for full, middle, low, short in zip(less_activity[1], less_activity[4], less_activity[10], shorter, strict=True):
        assert (middle <= full).all()
        assert (low <= middle).all()
        assert low.sum() < 0.9 * short.sum()


@pytest.mark.parametrize("mode", ["shorter_scan", "less_activity"])
def test_at_a_factor_of_one_nothing_changes(acquisition, less_activity, mode):
    same = thin_to_dose(less_activity[1], acquisition, previous=1, factor=1, mode=mode, rng=np.random.default_rng(0))
    for mine, theirs in zip(same, less_activity[1], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(at_dose(acquisition, 1, mode=mode).randoms, acquisition.randoms)


def test_the_reconstruction_is_told_of_fewer_randoms(acquisition):
    low = at_dose(acquisition, 8.0, mode="less_activity")
    np.testing.assert_allclose(low.randoms, acquisition.randoms / 8)
    assert at_dose(acquisition, 8.0, mode="shorter_scan") is acquisition


@pytest.mark.parametrize(
    ("factor", "entity"),
    [(4, "drf004"), (7.5, "drf007p5"), (100, "drf100"), (1.05, "drf001p05"), (200.0, "drf200"), (2.125, "drf002p125")],
)
def test_factors_in_names(factor, entity):
    assert dose_entity(factor) == entity
    assert dose_from_entity(entity) == factor


@given(st.floats(1, 200))
def test_every_factor_comes_back_from_its_name(factor):
    entity = dose_entity(factor)
    assert entity.isalnum()
    assert dose_from_entity(entity) == factor


@pytest.mark.parametrize("entity", ["full", "drf", "drf4", "drf004p", "drf004.5", "xdrf004", "drf004p5x"])
def test_other_names_are_no_factor(entity):
    assert dose_from_entity(entity) is None


@pytest.mark.parametrize("factors", [(1,), (4, 4), (0.5, 4), (-2,), (200.5,), (float("nan"),), (float("inf"),)])
def test_impossible_factors_are_refused(factors):
    with pytest.raises(PETError, match="above 1 and up to 200"):
        check_dose_reduction_factors(factors)


def test_factors_are_sorted():
    assert check_dose_reduction_factors((20, 4, 7.5)) == (4.0, 7.5, 20.0)


def test_unknown_modes_are_refused():
    with pytest.raises(PETError, match="shorter_scan, less_activity"):
        check_dose_mode("less")
