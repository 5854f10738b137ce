"""Body of a diffusion: cost, shapes, what the time does, slices that know nothing of each other."""

import pytest
import torch
from torch import nn

from pipeline.networks import BaseDenoisingNetwork, DiffusionBody, DiffusionUNet, multiply_adds_per_voxel


def images(*shape: int, channels: int = 4) -> torch.Tensor:
    return torch.randn(2, channels, *shape, generator=torch.Generator().manual_seed(3))


TIMES = torch.tensor([3.0, 700.0])


@pytest.mark.parametrize(("dims", "n_out"), [(3, 2), (3, 1), (2, 2)])
def test_it_costs_what_the_body_of_the_others_does_within_a_fifth(dims, n_out):
    network = DiffusionBody(4, n_out, spatial_dims=dims)
    x = torch.zeros(1, 4, 16, 16, 16)
    cost = multiply_adds_per_voxel(network, x, timesteps=torch.zeros(1))
    body = multiply_adds_per_voxel(BaseDenoisingNetwork(32, (2,) * 5, resolution_factor=2), size=(16, 16, 16))
    assert 0.8 < cost / body < 1.2


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("shape", [(8, 8, 8), (9, 7, 3), (1, 1, 1)])
def test_any_shape_is_kept(dims, shape, randomise):
    network = randomise(DiffusionBody(4, 2, spatial_dims=dims, channels=4, n_blocks=(1, 1, 1)))
    assert network(images(*shape), TIMES).shape == (2, 2, *shape)


@pytest.mark.parametrize("dims", [2, 3])
def test_an_untrained_network_gives_zero(dims):
    assert not DiffusionBody(4, 2, spatial_dims=dims, channels=4)(images(8, 8, 8), TIMES).any()


@pytest.mark.parametrize("dims", [2, 3])
def test_the_time_changes_the_output_of_its_own_image_alone(dims, randomise):
    network = randomise(DiffusionBody(4, 1, spatial_dims=dims, channels=4, n_blocks=(1, 1, 1)))
    x = images(8, 8, 8)
    y, other = network(x, TIMES), network(x, TIMES + torch.tensor([0.0, 50.0]))
    torch.testing.assert_close(y[0], other[0])
    assert (y[1] - other[1]).abs().max() > 1e-3


def test_slices_know_nothing_of_each_other(randomise):
    network = randomise(DiffusionBody(4, 1, spatial_dims=2, channels=4, n_blocks=(1, 1, 1)))
    x = images(8, 8, 5)
    y = network(x, TIMES)
    for z in range(5):
        torch.testing.assert_close(network(x[..., z : z + 1], TIMES), y[..., z : z + 1])


def test_a_part_is_as_the_whole_far_from_its_rim(randomise):
    network = randomise(DiffusionBody(4, 1, channels=2, n_blocks=(1, 1, 1))).double()
    x = images(96, 8, 8).double()
    part = network(x[:, :, 16:80], TIMES)[:, :, 28:36]
    torch.testing.assert_close(part, network(x, TIMES)[:, :, 44:52], rtol=0, atol=1e-12)


def test_gradients_reach_every_parameter(randomise):
    network = randomise(DiffusionBody(4, 2, channels=4, n_blocks=(1, 1, 1)))
    network(images(8, 8, 8), TIMES).square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in network.parameters())


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="spatial_dims"):
        DiffusionBody(4, spatial_dims=1)
    with pytest.raises(ValueError, match="n_blocks"):
        DiffusionBody(4, n_blocks=(1, 1))


def test_the_published_u_net_keeps_shapes_and_trains():
    network = DiffusionUNet(2, 1, channels=(32, 64), n_blocks=1)
    nn.init.normal_(network.out[2].weight)
    y = network(images(5, 4, 6, channels=2), TIMES)
    assert y.shape == (2, 1, 5, 4, 6)
    y.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
