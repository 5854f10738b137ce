"""Doses between those that were reconstructed."""

import numpy as np
import pytest
import torch

from pipeline.data import dose_key, mix_doses


def test_the_full_dose_is_called_so_and_the_others_by_their_factor():
    assert [dose_key(factor) for factor in (1, 4, 20, 100, 7.5)] == ["full", "drf004", "drf020", "drf100", "drf007p5"]


def test_mixing_ends_at_the_two_images():
    low, full = torch.rand(1, 3, 3, 3), torch.rand(1, 3, 3, 3)
    torch.testing.assert_close(mix_doses(low, full, low_factor=20, factor=20), low)
    torch.testing.assert_close(mix_doses(low, full, low_factor=20, factor=1), full)


def test_mixing_gives_the_variance_of_the_dose():
    rng = np.random.default_rng(0)
    counts = rng.poisson(1000, 200_000)
    low = torch.from_numpy(20.0 * rng.binomial(counts, 1 / 20))
    full = torch.from_numpy(counts.astype(float))
    for factor in (2, 5, 15):
        mixed = mix_doses(low, full, low_factor=20, factor=factor)
        assert mixed.var().item() == pytest.approx(factor * 1000, rel=0.02)
