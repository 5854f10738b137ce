"""Thinning keeps the expectation, nests, and refuses what is not counts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.pet import PETError
from pipeline.simulation import thin


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
