"""Streaming equals the whole volume."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pipeline.inference import StreamingInferer, stream
from pipeline.networks import BaseDenoisingNetwork, UniPET


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=g) * (0.5 / parameter[0].numel()) ** 0.5)
    return network.eval()


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 23), st.integers(1, 9), st.integers(1, 9)),
    slab=st.integers(1, 25),
    n_blocks=st.sampled_from([1, 2, 4, (1, 1, 1), (1, 0, 2, 1, 0)]),
    factor=st.sampled_from([1, 2]),
    dtype=st.sampled_from([torch.float64, torch.float32]),
)
def test_streaming_equals_the_whole_volume(shape, slab, n_blocks, factor, dtype):
    network = randomised(BaseDenoisingNetwork(8, n_blocks, resolution_factor=factor)).to(dtype)
    x = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    with torch.no_grad():
        whole = network(x)
        tolerance = 50 * torch.finfo(dtype).eps * whole.abs().max().item()
        torch.testing.assert_close(stream(network, x, slab=slab), whole, rtol=0, atol=tolerance)
        assert (whole - x).abs().max() > 1e-3


def test_streaming_in_bfloat16_equals_the_whole_volume():
    network = randomised(BaseDenoisingNetwork(16, 3, resolution_factor=2)).bfloat16()
    x = torch.rand(1, 1, 37, 20, 22, generator=torch.Generator().manual_seed(1)).bfloat16()
    with torch.no_grad():
        assert torch.equal(stream(network, x, slab=8), network(x))


def test_unipet_is_streamed_with_one_style_per_scan():
    network = randomised(UniPET(8, 4, resolution_factor=2, style_width=8, latent_size=8, body_threshold=0.05)).double()
    x = torch.rand(2, 1, 10, 9, 21, generator=torch.Generator().manual_seed(2)).double()
    with torch.no_grad():
        torch.testing.assert_close(StreamingInferer(slab=4)(x, network), network(x), rtol=1e-6, atol=1e-8)


def test_low_precision_leaves_the_network_and_the_image_skip_alone():
    network = randomised(BaseDenoisingNetwork(8, 2, resolution_factor=2))
    nn.init.zeros_(network.reconstruct.weight)
    nn.init.zeros_(network.reconstruct.bias)
    x = torch.rand(1, 1, 8, 8, 8)
    assert torch.equal(StreamingInferer(dtype=torch.bfloat16)(x, network), x)
    assert network.conv0.weight.dtype == torch.float32


def test_other_networks_are_refused_by_name():
    with pytest.raises(TypeError, match="cannot stream Conv3d"):
        StreamingInferer()(torch.zeros(1, 1, 3, 3, 3), nn.Conv3d(1, 1, 1))


def test_slab_must_hold_a_plane():
    with pytest.raises(ValueError, match="at least one plane"):
        StreamingInferer(slab=0)
