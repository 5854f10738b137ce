"""The width of the Gaussian baseline is chosen where it is right."""

import numpy as np
import pytest

from pipeline.comparison import best_gaussian_fwhm
from pipeline.images import gaussian_filter_mm

VOXEL_SIZE = (2.0, 2.0, 4.0)


def test_the_width_that_made_the_reference_is_chosen():
    rng = np.random.default_rng(1)
    pairs = []
    for _ in range(2):
        sharp = rng.gamma(1.0, 1.0, (24, 24, 12))
        pairs.append((sharp, gaussian_filter_mm(sharp, fwhm=6.0, voxel_size=VOXEL_SIZE) + 1e-3, VOXEL_SIZE))
    chosen = best_gaussian_fwhm((pair for pair in pairs), data_range=20.0, candidates=(8, 0, 4, 6, 10))
    assert chosen == 6.0


def test_more_noise_asks_for_a_wider_filter():
    rng = np.random.default_rng(2)
    truth = gaussian_filter_mm(rng.gamma(0.3, 3.0, (32, 32, 16)), fwhm=12.0, voxel_size=VOXEL_SIZE)
    widths = [
        best_gaussian_fwhm([(truth + rng.normal(0, sd, truth.shape), truth, VOXEL_SIZE)], data_range=20.0)
        for sd in (0.02, 0.2, 2.0)
    ]
    assert widths[0] < widths[1] < widths[2]


def test_nothing_to_choose_from_is_refused():
    with pytest.raises(ValueError, match="no pairs"):
        best_gaussian_fwhm([], data_range=20.0)
