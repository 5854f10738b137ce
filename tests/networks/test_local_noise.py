"""Local noise: expected values for white noise, where it is seen, invariances, and how it reaches the network."""

import math
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.networks import BaseDenoisingNetwork, LocalNoise, UniPET, noise_map
from pipeline.networks.noise import local

MEAN = 1.3  # scaled SUV
AIR = (16, 16, 4)  # voxels around the body: two blocks, so that nothing of the body reaches the border
SKIN = 24  # voxels within which the skin is seen
FLAT = (MEAN + 0.05) ** 0.6  # what noise is relative to in the body


def white(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(seed))


def body(sd: float | Tensor = 0.05, shape: tuple[int, int, int] = (80, 80, 12), air=AIR, seed: int = 0) -> Tensor:
    """Uniform block with white noise, in air without any."""
    return F.pad(MEAN + sd * white(*shape, seed=seed), [n for n in reversed(air) for _ in range(2)])


def inside(x: Tensor, cell: int = 2) -> Tensor:
    """Map of x without the air around the body of `body`, and without what lies near its skin."""
    x_edge, z_edge = (AIR[0] + SKIN) // cell, AIR[2] // cell
    return noise_map(x, cell=cell)[:, :, x_edge:-x_edge, x_edge:-x_edge, z_edge:-z_edge]


@pytest.mark.parametrize("sd", [0.03, 0.1])
def test_white_noise_has_the_expected_level(sd):
    fine, more = noise_map(MEAN + sd * white(96, 96, 12))[0]  # without a skin
    # A mixed difference d has the SD 2 sd, and E sqrt|d| of a normal one is sqrt(SD) 2^(1/4) gamma(3/4) / sqrt(pi).
    root = 2**0.25 * math.gamma(0.75) / math.sqrt(math.pi)
    assert fine.mean() == pytest.approx(math.log(2 * sd * root**2 / FLAT), abs=0.01)
    assert fine.std() < 0.1
    assert more.mean() == pytest.approx(0, abs=0.01)


def test_twice_the_noise_raises_the_level_by_log_2_and_nothing_else():
    once, twice = (noise_map(body(sd))[..., 2:-2] for sd in (0.03, 0.06))
    torch.testing.assert_close(twice[:, 0] - once[:, 0], torch.full_like(once[:, 0], math.log(2)), rtol=0, atol=0.06)
    torch.testing.assert_close(twice[:, 1], once[:, 1], rtol=0, atol=0.06)


def test_noise_that_is_smooth_in_plane_is_coarser():
    x = MEAN + 0.1 * F.avg_pool3d(white(82, 82, 12), (3, 3, 1), stride=1)
    smooth = F.pad(x, [n for n in reversed(AIR) for _ in range(2)])
    # Of means over 3 x 3 voxels, (2 - 2 r)^2 is 4/9 for neighbours and 16/9 at twice the distance.
    assert inside(smooth)[0, 1].mean() == pytest.approx(math.log(2), abs=0.03)


def test_what_is_linear_in_plane_is_no_noise():
    ramp = torch.linspace(0.5, 1.5, 80)
    x = (ramp[:, None, None] + ramp[None, :, None]).expand(80, 80, 6)[None, None].double()
    assert inside(F.pad(x, (4, 4, 16, 16, 16, 16)))[0, 0].max() < math.log(1e-5)


def test_noise_that_rises_in_the_last_slices_is_seen_there_alone():
    shape = (80, 80, 12)
    sd = torch.full(shape, 0.03)
    sd[..., -2:] *= 3
    rise = (inside(body(sd, shape)) - inside(body(0.03, shape)))[0, 0].mean(dim=(0, 1))
    assert rise[-1] == pytest.approx(math.log(3), abs=0.1)
    assert rise[:-1].abs().max() < 0.03


def test_noise_of_a_place_is_seen_in_that_place_alone():
    shape = (128, 80, 6)
    sd = torch.full(shape, 0.03)
    sd[:64] *= 2
    rise = (inside(body(sd, shape)) - inside(body(0.03, shape)))[0, 0]
    assert rise[:8].mean() == pytest.approx(math.log(2), abs=0.05)
    assert rise[-8:].abs().max() < 0.05
    assert (rise.mean(dim=(1, 2)).diff() < 0.02).all()  # it falls from the one to the other


def test_where_a_slice_holds_no_body_the_scan_decides():
    levels = noise_map(body(0.05, (80, 80, 40)))[0, 0]
    of_air, of_scan = levels[..., 0], levels[28, 28, 2:-2]
    assert of_air.std() < 1e-5
    assert of_air.mean() == pytest.approx(float(of_scan.mean()), abs=0.3)


def test_air_around_the_body_changes_nothing():
    x = body()
    wide = noise_map(F.pad(x, (2, 6, 8, 0, 24, 16)))
    torch.testing.assert_close(wide[:, :, 12:-8, 4:, 1:-3], noise_map(x), rtol=0, atol=1e-5)


def test_a_body_that_the_border_cuts_is_measured_as_far_as_it_goes():
    cut = noise_map(body(0.05, (128, 128, 12))[:, :, 40:-40, 40:-40])
    whole = noise_map(body(0.05, (128, 128, 12)))[:, :, 20:-20, 20:-20]
    # The places at the border hold two thirds of the voxels, and those of the corner less than half.
    torch.testing.assert_close(cut, whole, rtol=0, atol=0.25)
    assert (cut - whole)[:, :, :2].mean(dim=(2, 3, 4)).abs().max() < 0.01


@pytest.mark.parametrize("dims", [(2,), (3,), (4,), (2, 3, 4)])
def test_a_flipped_scan_has_the_flipped_map(dims):
    sd = 0.03 * torch.linspace(1, 2, 80)[:, None, None].expand(80, 80, 12)
    x = body(sd)
    torch.testing.assert_close(noise_map(x.flip(dims)), noise_map(x).flip(dims), rtol=0, atol=0.15)
    assert (noise_map(x) - noise_map(x).flip(2)).abs().max() > 0.3


def test_a_turned_scan_has_the_turned_map():
    sd = 0.03 * torch.linspace(1, 2, 80)[:, None, None].expand(80, 80, 12)
    turned = noise_map(body(sd).rot90(1, (2, 3)))
    torch.testing.assert_close(turned, noise_map(body(sd)).rot90(1, (2, 3)), rtol=0, atol=0.1)


def test_maps_of_both_cells_are_the_same_at_their_places():
    x = body(0.05 * torch.linspace(1, 2, 12).expand(80, 80, 12))
    pooled = F.avg_pool3d(noise_map(x, cell=1), 2)
    two = noise_map(x, cell=2)
    # Linear between the centres of blocks, which are two voxels apart along Z.
    around = F.pad(two, (1, 1, 0, 0, 0, 0), mode="replicate")
    expected = around[..., :-2] / 8 + 3 * two / 4 + around[..., 2:] / 8
    torch.testing.assert_close(pooled, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_precision_of_the_image(dtype):
    x = body().bfloat16()
    found = noise_map(x.to(dtype))
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(found.float(), noise_map(x.float()), rtol=0, atol=1e-4)


def test_autocast_and_gradients_change_nothing():
    x = body()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = noise_map(x.requires_grad_())
    assert not found.requires_grad
    assert torch.equal(found, noise_map(x))


@pytest.mark.parametrize("n_planes", [8, 24, 1000])
def test_pieces_change_nothing(n_planes, monkeypatch):
    x = body()
    expected = noise_map(x)
    monkeypatch.setattr(local, "_PLANES", n_planes)
    torch.testing.assert_close(noise_map(x), expected, rtol=0, atol=1e-6)


def test_a_batch_is_measured_scan_by_scan():
    a, b = body(0.05), body(0.2, seed=1)
    assert torch.equal(noise_map(torch.cat([a, b])), torch.cat([noise_map(a), noise_map(b)]))


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 40, 40), (40, 40, 1), (41, 37, 9), (5, 5, 5)])
@pytest.mark.parametrize("cell", [1, 2])
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_any_shape_and_air_alone_have_a_finite_map(shape, cell, level):
    found = noise_map(level + 0.1 * level * white(*shape), cell=cell)
    assert found.shape == (1, 2, *(-(-n // cell) for n in shape))
    assert found.isfinite().all()


def test_negative_voxels_have_a_finite_map():
    assert noise_map(body(0.5) - 1.0).isfinite().all()


def test_channels_are_standardised_and_kept_within_three():
    layer = LocalNoise()
    means, variances = torch.tensor([[1.0, 5.0], [3.0, 5.0]]), torch.tensor([[3.0, 4.0], [3.0, 4.0]])
    layer.fit(means, variances)  # the variance of all is that within scans and that between them
    measured = torch.tensor([[4.0, 5.0], [100.0, -100.0]])[:, :, None, None, None]
    torch.testing.assert_close(layer(measured).flatten(1), torch.tensor([[1.0, 0.0], [3.0, -3.0]]))
    with pytest.raises(ValueError, match="the same everywhere"):
        layer.fit(means, 0 * variances)


def fitted(module: torch.nn.Module) -> torch.nn.Module:
    layer = next(m for m in module.modules() if isinstance(m, LocalNoise))
    layer.fit(torch.tensor([[-3.0, 0.1], [-2.6, 0.3]]), torch.tensor([[0.1, 0.05], [0.1, 0.05]]))
    return module


@pytest.fixture
def network(randomise) -> UniPET:
    body = {"n_blocks": (1, 1, 1), "resolution_factor": 2, "local_noise": True}
    return fitted(randomise(UniPET(4, style="statistics", style_width=6, latent_size=6, **body)))


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("n_blocks", [2, (1, 1, 1)])
def test_guide_of_a_part_is_part_of_the_guide(randomise, factor, n_blocks):
    network = fitted(randomise(BaseDenoisingNetwork(4, n_blocks, resolution_factor=factor, local_noise=LocalNoise())))
    x = body(shape=(41, 43, 9))
    whole, measured = network.guide(x), network.measure_noise(x)
    assert whole.shape[2:] == tuple(-(-n // network.alignment) * network.alignment // factor for n in x.shape[2:])
    assert whole.std() > 0.1
    part = (slice(8, 24), slice(16, 32), slice(0, 8))
    cells = tuple(slice(s.start // factor, s.stop // factor) for s in part)
    assert torch.equal(network.guide(x[(..., *part)], measured[(..., *cells)]), whole[(..., *cells)])


def test_local_noise_reaches_the_result(network):
    x = body()
    measured = network.base.measure_noise(x)
    with torch.no_grad():
        statistics = network.scan_statistics(x)
        torch.testing.assert_close(network(x, statistics, measured), network(x), rtol=0, atol=0)
        assert (network(x, statistics, measured + 0.3) - network(x)).abs().max() > 1e-3


def test_folding_keeps_the_local_noise(network):
    x = body(0.1).double()
    network = network.double()
    with torch.no_grad():
        latents = network.encode_style(x)
        torch.testing.assert_close(network.fold(latents)(x), network.denoise(x, latents), rtol=1e-8, atol=1e-10)


def test_a_checkpoint_keeps_what_noise_is_standardised_by(network):
    other = UniPET(
        4, (1, 1, 1), resolution_factor=2, style="statistics", style_width=6, latent_size=6, local_noise=True
    )
    other.eval().load_state_dict(deepcopy(network.state_dict()))
    assert other.base.local_noise.std[0] != 1
    with torch.no_grad():
        assert torch.equal(other(body()), network(body()))
    plain = UniPET(4, (1, 1, 1), resolution_factor=2, style="statistics", style_width=6, latent_size=6)
    with pytest.raises(RuntimeError, match="local_noise"):
        plain.load_state_dict(network.state_dict())


def test_a_network_without_local_noise_has_no_guide():
    network = BaseDenoisingNetwork(4, 1)
    assert network.guide(body()) is None
    assert network.measure_noise(body()) is None
