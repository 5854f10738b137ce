"""U-shaped bodies: size, what an output voxel can see, parts against the whole, unit norms."""

import pytest
import torch

from pipeline.networks import BaseDenoisingNetwork, Downsample, ResidualBlock, Upsample, is_streamable

SHAPES = [(2,), (1, 1, 1), (1, 0, 1, 0, 1)]


def volume(*shape: int) -> torch.Tensor:
    return torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(3)).double()


def test_one_level_is_the_published_body():
    assert BaseDenoisingNetwork(8, (3,)).state_dict().keys() == BaseDenoisingNetwork(8, 3).state_dict().keys()


def test_size_of_a_u_shaped_body():
    network = BaseDenoisingNetwork(32, (2, 3, 2), resolution_factor=2)
    ends = (27 * 8 * 32 + 32) + (27 * 32 * 8 + 8)
    blocks = 4 * (2 * 27 * 32**2 + 32) + 3 * (2 * 27 * 64**2 + 64)
    between = (8 * 32 * 64 + 64) + (64 * 8 * 32 + 8 * 32)
    assert sum(p.numel() for p in network.parameters()) == ends + blocks + between + 1


def test_steps_go_down_and_up_again():
    kinds = [type(step) for step in BaseDenoisingNetwork(4, (1, 0, 2, 1, 0)).steps]
    block, down, up = ResidualBlock, Downsample, Upsample
    assert kinds == [block, down, down, block, block, up, block, up]


@pytest.mark.parametrize("n_blocks", SHAPES)
@pytest.mark.parametrize("factor", [1, 2])
def test_untrained_body_is_the_identity(n_blocks, factor):
    x = volume(9, 7, 6).float()
    assert torch.equal(BaseDenoisingNetwork(4, n_blocks, resolution_factor=factor)(x), x)


@pytest.mark.parametrize("n_blocks", SHAPES)
@pytest.mark.parametrize("shape", [(16, 8, 8), (9, 7, 11), (1, 1, 1)])
def test_any_shape_is_kept(n_blocks, shape, randomise):
    network = randomise(BaseDenoisingNetwork(4, n_blocks, resolution_factor=2)).double()
    x = volume(*shape)
    assert network(x).shape == x.shape
    assert (network(x) - x).abs().max() > 1e-3


@pytest.mark.parametrize("n_blocks", SHAPES)
@pytest.mark.parametrize("factor", [1, 2])
def test_receptive_radius_is_how_far_one_voxel_reaches(n_blocks, factor, randomise):
    network = randomise(BaseDenoisingNetwork(2, n_blocks, resolution_factor=factor)).double()
    radius, period = network.receptive_radius, network.alignment
    before = -(-radius // period) * period
    x = volume(2 * before + period, 1, 1)
    furthest = 0
    with torch.no_grad():
        y = network(x)
        for phase in range(period):
            perturbed = x.clone()
            perturbed[0, 0, before + phase] += 1e3
            changed = (network(perturbed) != y).flatten().nonzero().flatten() - before - phase
            furthest = max(furthest, int(changed.abs().max()))
    assert furthest == radius


def test_receptive_radius_of_a_row_of_convolutions():
    assert BaseDenoisingNetwork().receptive_radius == 18


@pytest.mark.parametrize("n_blocks", SHAPES)
def test_an_aligned_part_with_its_halo_is_as_the_whole(n_blocks, randomise):
    network = randomise(BaseDenoisingNetwork(2, n_blocks, resolution_factor=2)).double()
    period = network.alignment
    halo = -(-network.receptive_radius // period) * period
    x = volume(4 * halo, 8, 8)
    start = halo + period
    part = x[:, :, start - halo : start + period + halo]
    with torch.no_grad():
        inner = network(part)[:, :, halo : halo + period]
        torch.testing.assert_close(inner, network(x)[:, :, start : start + period], rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_blocks", SHAPES)
def test_unit_norms_leave_the_plain_pass_alone(n_blocks, randomise):
    network = randomise(BaseDenoisingNetwork(4, n_blocks, resolution_factor=2)).double()
    x = volume(8, 8, 16)
    before = network(x)
    network.normalise_kernels()
    torch.testing.assert_close(network(x), before, rtol=1e-10, atol=1e-10)
    for conv in network.modulated_convs:
        norms = conv.weight.flatten(1).norm(dim=1)
        torch.testing.assert_close(norms, torch.ones_like(norms), rtol=1e-10, atol=0)


@pytest.mark.parametrize("n_blocks", SHAPES)
def test_gradients_reach_every_parameter(n_blocks, randomise):
    network = randomise(BaseDenoisingNetwork(4, n_blocks, resolution_factor=2)).double()
    network(volume(16, 16, 16)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("n_blocks", [(2, 3), (1, -1, 1), ()])
def test_lopsided_bodies_are_refused(n_blocks):
    with pytest.raises(ValueError, match="n_blocks must be"):
        BaseDenoisingNetwork(4, n_blocks)


def test_a_body_can_be_streamed_and_one_without_its_first_convolution_cannot():
    network = BaseDenoisingNetwork(4, (1, 1, 1), resolution_factor=2)
    assert is_streamable(network)
    del network.conv0
    assert not is_streamable(network)
