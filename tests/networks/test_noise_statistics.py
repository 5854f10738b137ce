"""Noise statistics: expected values for white noise, invariances, and doses of simulated scans."""

import math
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.networks import NOISE_STATISTICS, noise_statistics, tissue_mask

QUIET, MEDIAN, UNEVEN, COARSE, COARSER, AXIAL, AXIAL_COARSE = range(len(NOISE_STATISTICS))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(seed))


def body(mean: float = 1.0, sd: float = 0.1, side: int = 28, margin: int = 8) -> torch.Tensor:
    """Uniform cube with white noise in air without any."""
    return F.pad(mean + sd * noise(side, side, side), (margin,) * 6)


def test_white_noise_has_the_expected_level():
    mean, sd = 1.3, 0.07
    found = noise_statistics(body(mean, sd, side=40))[0]
    # E|d| of the difference of two pairs is sqrt(2 / pi) times its SD, 2 sd.
    expected = math.log(2 * sd * math.sqrt(2 / math.pi) / (mean + 0.05) ** 0.6)
    assert found[QUIET] + found[MEDIAN] == pytest.approx(expected, abs=0.02)
    assert found[[COARSE, AXIAL, AXIAL_COARSE]].abs().max() < 0.02
    # Few voxels of a window have one at four times the distance, so the mean over the window varies more.
    assert found[COARSER] == pytest.approx(-0.05, abs=0.05)
    assert 0 < found[MEDIAN] < found[UNEVEN]


def test_twice_the_noise_raises_only_its_level():
    once, twice = noise_statistics(body(sd=0.05))[0], noise_statistics(body(sd=0.1))[0]
    assert twice[QUIET] - once[QUIET] == pytest.approx(math.log(2), abs=0.01)
    torch.testing.assert_close(twice[1:], once[1:], rtol=0, atol=0.01)


def test_noise_that_is_smooth_in_plane_is_coarse_and_axial():
    x = body()
    smooth = F.pad(F.avg_pool3d(x, (3, 3, 1), stride=1), (0, 0, 1, 1, 1, 1))
    found = noise_statistics(smooth)[0]
    assert found[COARSE] > 0.3
    assert found[COARSER] > found[COARSE] + 0.1  # between voxels that share nothing
    assert found[AXIAL] > 0.3


def test_what_is_linear_in_the_plane_is_no_noise():
    ramp = torch.linspace(0.5, 1.5, 30)
    x = (ramp[:, None, None] + ramp[None, :, None]).expand(30, 30, 30)[None, None].double()
    assert noise_statistics(x)[0, QUIET] < math.log(1e-5)


def test_air_around_the_body_changes_nothing():
    x = body()
    wide = F.pad(x, (3, 20, 0, 7, 11, 5))
    assert torch.equal(noise_statistics(wide), noise_statistics(x))


@pytest.mark.parametrize("dims", [(2,), (3,), (4,), (2, 3, 4)])
def test_flips_change_nothing(dims):
    x = body() + 0.1 * F.pad(torch.linspace(0, 1, 28).expand(1, 1, 28, 28, 28), (8,) * 6)
    torch.testing.assert_close(noise_statistics(x.flip(dims)), noise_statistics(x), rtol=0, atol=1e-6)


def test_quarter_turns_change_nothing():
    x = body()
    torch.testing.assert_close(noise_statistics(x.rot90(1, (2, 3))), noise_statistics(x), rtol=0, atol=1e-6)


def test_a_batch_is_measured_scan_by_scan():
    a, b = body(sd=0.05), body(mean=2.0, sd=0.3)
    together = noise_statistics(torch.cat([a, b]))
    assert torch.equal(together, torch.cat([noise_statistics(a), noise_statistics(b)]))


@pytest.mark.parametrize("n_planes", [1, 5, 1000])
def test_slabs_of_planes_change_nothing(n_planes, monkeypatch):
    x = body()
    expected = noise_statistics(x)
    # The package exports the function under the module's name.
    monkeypatch.setattr(sys.modules[noise_statistics.__module__], "_PLANES", n_planes)
    assert torch.equal(noise_statistics(x), expected)


def test_autocast_changes_nothing():
    x = body()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = noise_statistics(x)
    assert found.dtype == torch.float32
    assert torch.equal(found, noise_statistics(x))


@pytest.mark.parametrize("shape", [(4, 30, 30), (30, 30, 30)])
def test_without_body_nothing_is_measured(shape):
    assert noise_statistics(torch.zeros(1, 1, *shape)).isnan().all()


def test_a_small_body_is_not_measured():
    # 9 voxels to a side hold 27 windows of 7, 12 hold 216
    assert noise_statistics(body(side=9)).isnan().all()
    assert noise_statistics(body(side=12)).isfinite().all()


def test_a_body_without_noise_is_measured_finite():
    assert noise_statistics(body(sd=0.0)).isfinite().all()


def test_statistics_follow_the_dose_on_simulated_scans(tiny_cohort):
    for subject in tiny_cohort:
        level = []
        for kind in ("full", "drf004", "drf020"):
            path = subject / "pet" / f"{subject.name}_rec-{kind}_pet.nii.gz"
            suv = torch.from_numpy(np.asarray(nib.load(path).dataobj, dtype=np.float32))
            level.append(noise_statistics(suv[None, None] / 2)[0, QUIET].item())
        # The noise goes with the root of the dose reduction factor.
        assert level[1] - level[0] == pytest.approx(0.5 * math.log(4), rel=0.3)
        assert level[2] - level[1] == pytest.approx(0.5 * math.log(5), rel=0.3)


@pytest.mark.parametrize("shape", [(9, 8, 7), (1, 1, 1), (2, 12, 3)])
def test_tissue_mask_is_the_threshold_of_the_mean_of_five(shape):
    x = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean = F.avg_pool3d(F.pad(x, (2,) * 6), 5, stride=1)
    threshold = float(mean.median()) + 1e-9
    assert torch.equal(tissue_mask(x, threshold), mean > threshold)
