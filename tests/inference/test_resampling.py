"""Other voxel sizes: uniform stays uniform, nothing is lost where nothing changes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.inferers import SimpleInferer
from torch import nn

from pipeline.inference import ResamplingInferer, StreamingInferer
from pipeline.inference.resampling import resample
from pipeline.networks import BaseDenoisingNetwork
from pipeline.pet import PETError

SIZES = st.tuples(*[st.floats(1.0, 12.0)] * 3)


def scan(x: torch.Tensor, size: tuple[float, float, float]) -> MetaTensor:
    return MetaTensor(x, affine=torch.diag(torch.tensor([*size, 1.0], dtype=torch.float64)))


class Recording(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x):
        self.seen.append(tuple(x.shape[2:]))
        return self.factor * x


@settings(max_examples=30, deadline=None)
@given(size=SIZES, shape=st.tuples(*[st.integers(1, 20)] * 3))
def test_a_network_that_changes_nothing_returns_the_scan_to_the_bit(size, shape):
    x = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0))
    result = ResamplingInferer(SimpleInferer(), (5.0, 5.0, 5.0))(scan(x, size), nn.Identity())
    assert torch.equal(torch.as_tensor(result), x)


@settings(max_examples=30, deadline=None)
@given(size=SIZES, shape=st.tuples(*[st.integers(1, 20)] * 3))
def test_a_network_that_scales_a_uniform_volume_scales_it_everywhere(size, shape):
    x = torch.full((1, 1, *shape), 3.0, dtype=torch.float64)
    inferer = ResamplingInferer(SimpleInferer(), (5.0, 5.0, 5.0), refine=False)
    result = inferer(scan(x, size), Recording(0.5))
    torch.testing.assert_close(torch.as_tensor(result), 0.5 * x, rtol=1e-12, atol=0)


def test_the_network_sees_its_own_voxels_then_those_of_a_finer_scan(volume):
    network, x = Recording(1.0), volume(20, 24, 30)
    ResamplingInferer(SimpleInferer(), (5.0, 5.0, 5.0))(scan(x, (2.5, 2.5, 4.0)), network)
    assert network.seen == [(10, 12, 24), (20, 24, 30)]
    network = Recording(1.0)
    ResamplingInferer(SimpleInferer(), (5.0, 5.0, 5.0))(scan(x, (10.0, 10.0, 10.0)), network)
    assert network.seen == [(40, 48, 60)]


@pytest.mark.parametrize("size", [(5.0, 5.0, 5.0), (4.69, 4.69, 3.27), (8.0, 5.0, 5.0)])
def test_voxels_within_tolerance_are_left_alone(volume, size):
    network, x = Recording(0.5), volume(6, 7, 8)
    result = ResamplingInferer(SimpleInferer(), (5.0, 5.0, 5.0))(scan(x, size), network)
    assert torch.equal(torch.as_tensor(result), 0.5 * x)


def test_scans_of_a_batch_keep_their_own_voxel_sizes(volume):
    network = Recording(1.0)
    x = torch.cat([volume(8, 8, 8), volume(8, 8, 8)])
    affine = torch.stack([torch.diag(torch.tensor([s, s, s, 1.0], dtype=torch.float64)) for s in (5.0, 10.0)])
    ResamplingInferer(SimpleInferer(), (5.0, 5.0, 5.0))(MetaTensor(x, affine=affine), network)
    assert network.seen == [(8, 8, 8), (16, 16, 16)]


def test_resampling_keeps_a_linear_gradient_and_the_mean_of_what_it_shrinks():
    ramp = torch.arange(40, dtype=torch.float64).reshape(1, 1, 40, 1, 1)
    fine = resample(ramp, (80, 1, 1), scale=(0.5, 1, 1))
    expected = (torch.arange(80, dtype=torch.float64) - 39.5) / 2 + 19.5
    torch.testing.assert_close(fine[0, 0, 2:-2, 0, 0], expected[2:-2], rtol=1e-12, atol=1e-12)
    peak = torch.zeros(1, 1, 40, 1, 1, dtype=torch.float64)
    peak[0, 0, 17] = 1
    # Every voxel of the fine grid has the same weight in sum over the coarse one.
    assert resample(peak, (20, 1, 1), scale=(2, 1, 1)).sum() == pytest.approx(0.5)


def test_without_affine_the_scan_is_refused(volume):
    with pytest.raises(PETError, match="scan 1 of 1: no affine"):
        ResamplingInferer(SimpleInferer(), (5.0, 5.0, 5.0))(volume(4, 4, 4), nn.Identity())


@pytest.mark.parametrize(("size", "tolerance"), [((5.0, 5.0), 1.2), ((5.0, 0.0, 5.0), 1.2), ((5.0, 5.0, 5.0), 0.9)])
def test_impossible_options_are_refused(size, tolerance):
    with pytest.raises(ValueError, match="expected three above 0"):
        ResamplingInferer(SimpleInferer(), size, tolerance=tolerance)


def test_voxels_that_are_not_numbers_are_counted_before_they_spread(volume):
    x = volume(10, 11, 12)
    x[0, 0, 5, 5, 5] = float("nan")
    scan = MetaTensor(x, affine=torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0])))
    with pytest.raises(PETError, match="1 of 1320 voxels"):
        ResamplingInferer(StreamingInferer(), (5, 5, 5))(scan, BaseDenoisingNetwork(4, 1))


def test_an_affine_without_a_voxel_size_is_refused(volume):
    with pytest.raises(PETError, match="expected a size above 0"):
        ResamplingInferer(StreamingInferer(), (5, 5, 5))(
            MetaTensor(volume(4, 4, 4), affine=torch.zeros(4, 4)), BaseDenoisingNetwork(4, 1)
        )
