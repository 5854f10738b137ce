"""UniPET and its base network: size, identities, styles, folding, released weights."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.networks import BaseDenoisingNetwork, PatchCritic, UniPET


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """Same network with every parameter drawn, so that nothing is hidden by a zero."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=g) * (0.3 / parameter[0].numel()) ** 0.5)
    return network.eval()


def small(resolution_factor: int = 1, **kwargs) -> UniPET:
    return UniPET(8, 5, resolution_factor=resolution_factor, style_width=12, latent_size=10, n_stages=3, **kwargs)


def volume(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_published_size():
    assert sum(p.numel() for p in UniPET().parameters()) == 2_748_487


def test_published_size_of_the_body():
    # 27*64+64 + 8*(2*27*64*64 + 64) + 1 + 27*64+1
    assert sum(p.numel() for p in BaseDenoisingNetwork().parameters()) == 1_773_506


@pytest.mark.parametrize("factor", [1, 2])
def test_untrained_network_is_the_identity(factor):
    x = volume(2, 1, 10, 9, 7)
    assert torch.equal(small(factor)(x), x)


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("shape", [(8, 8, 8), (9, 7, 11), (1, 1, 1)])
def test_any_shape_is_kept(factor, shape):
    x = volume(1, 1, *shape)
    network = randomised(small(factor, tissue_threshold=0.1))
    assert network(x).shape == x.shape
    assert not torch.equal(network(x), x)


@pytest.mark.parametrize("factor", [1, 2])
def test_receptive_radius_is_what_an_output_voxel_can_see(factor):
    network = randomised(BaseDenoisingNetwork(4, 1, resolution_factor=factor)).double()
    x = volume(1, 1, 31, 5, 4).double().requires_grad_(True)
    centre = 15
    (gradient,) = torch.autograd.grad(network(x)[0, 0, centre, 2, 2], x)
    seen = gradient[0, 0].abs().amax(dim=(1, 2)).nonzero().flatten() - centre
    assert max(-seen.min(), seen.max()) <= network.receptive_radius
    assert network.receptive_radius - max(-seen.min(), seen.max()) < factor


@pytest.mark.parametrize("factor", [1, 2])
def test_start_from_a_pretrained_body_changes_nothing(factor):
    base = randomised(BaseDenoisingNetwork(8, 5, resolution_factor=factor)).double()
    network = small(factor).double()
    network.load_base(base.state_dict())
    x = volume(1, 1, 8, 9, 10).double()
    torch.testing.assert_close(network(x), base(x), rtol=1e-6, atol=1e-6)


def test_given_styles_reproduce_the_forward_pass():
    network = randomised(small(2))
    x = volume(2, 1, 12, 10, 8)
    assert torch.equal(network.denoise(x, network.encode_style(x)), network(x))


def test_another_style_changes_the_result():
    network = randomised(small(1))
    for stage in network.san.stages:
        stage.to_latent.weight.data *= 100  # random pools barely differ; their difference must reach the output
    x, other = volume(1, 1, 12, 10, 8), 5 * volume(1, 1, 12, 10, 8, seed=4)
    assert (network.denoise(x, network.encode_style(other)) - network(x)).abs().max() > 1e-4


@pytest.mark.parametrize("factor", [1, 2])
def test_fold_equals_the_modulated_network(factor):
    network = randomised(small(factor)).double()
    x = volume(1, 1, 12, 10, 8).double()
    latents = network.encode_style(x)
    torch.testing.assert_close(network.fold(latents)(x), network.denoise(x, latents), rtol=1e-6, atol=1e-6)


def test_fold_refuses_two_styles():
    with pytest.raises(ValueError, match="2 volumes"):
        small().fold(torch.zeros(2, 3, 10))


def test_latents_are_shared_out_in_order():
    network = small()  # 5 blocks, 3 latents: blocks 0-1, 2-3, 4
    for style_map in network.style_maps:
        nn.init.ones_(style_map.weight)
    latents = torch.arange(3.0)[None, :, None].expand(1, 3, 10)
    assert [int(s[0, 0] / 10) for s in network.styles(latents)] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]


def test_body_pools_do_not_depend_on_the_field_of_view():
    network = randomised(small(1, tissue_threshold=0.1)).double()
    body = torch.zeros(1, 1, 24, 24, 24, dtype=torch.double)
    body[..., 8:16, 8:16, 8:16] = 1 + volume(1, 1, 8, 8, 8).double()
    wide = F.pad(body, (8, 8, 8, 8, 8, 8))
    everywhere = randomised(small(1)).double()
    change = (network.encode_style(wide) - network.encode_style(body)).norm()
    change_unmasked = (everywhere.encode_style(wide) - everywhere.encode_style(body)).norm()
    assert change < 0.05 * change_unmasked


def test_more_latents_than_blocks_are_refused():
    with pytest.raises(ValueError, match="at least n_stages"):
        UniPET(8, 2, n_stages=3)


def test_unknown_resolution_is_refused():
    with pytest.raises(ValueError, match="resolution_factor"):
        BaseDenoisingNetwork(resolution_factor=3)


class ReleasedUniPET:
    """The released architecture, written once more from its description as a function of its state dict."""

    def __init__(self, channels=64, n_blocks=8, latent=256, n_stages=4, seed=0):
        g = torch.Generator().manual_seed(seed)
        self.n_blocks, self.n_stages, self.sd = n_blocks, n_stages, {}

        def put(name, *shape):
            fan_in = max(1, torch.Size(shape[1:]).numel())
            self.sd[name] = torch.randn(*shape, generator=g) / fan_in**0.5

        put("conv0.weight", channels, 1, 3, 3, 3)
        put("conv0.bias", channels)
        slope, san_slope = torch.tensor([0.2]), torch.tensor([0.3])
        for i in range(n_stages):
            n_in, inner = (channels if i == 0 else latent), (channels if i == 0 else latent) // 4
            p = f"san.body.{i}"
            put(f"{p}.conv1.0.weight", inner, n_in, 1, 1, 1)
            put(f"{p}.att.se.0.weight", inner // 4, inner, 1, 1, 1)
            put(f"{p}.att.se.0.bias", inner // 4)
            put(f"{p}.att.se.2.weight", inner, inner // 4, 1, 1, 1)
            put(f"{p}.att.se.2.bias", inner)
            put(f"{p}.conv2.0.weight", inner, inner, 3, 3, 3)
            put(f"{p}.conv2.2.weight", latent, inner, 1, 1, 1)
            put(f"{p}.fc.1.weight", latent, latent, 1, 1, 1)
            put(f"{p}.fc.1.bias", latent)
            for name in ("conv1.1", "conv2.1", "conv2.3", "fc.2"):
                self.sd[f"{p}.{name}.weight"] = san_slope
        for i in range(n_blocks):
            p = f"blocks.{i}"
            for k in (1, 2):
                put(f"{p}.convmod{k}.weight", channels, channels, 3, 3, 3)
                put(f"{p}.sw{k}.weight", channels, latent, 1, 1, 1)
                put(f"{p}.sw{k}.bias", channels)
            self.sd[f"{p}.res_scale"] = torch.rand(1, channels, 1, 1, 1, generator=g)
            self.sd[f"{p}.act.weight"] = slope
        put("reconstruct.weight", 1, channels, 3, 3, 3)
        put("reconstruct.bias", 1)

    def __call__(self, image):
        sd = self.sd
        x = F.conv3d(image, sd["conv0.weight"], sd["conv0.bias"], padding=1)
        features, latents = x, []
        for i in range(self.n_stages):
            p = f"san.body.{i}"
            act = sd[f"{p}.conv1.1.weight"]
            h = F.prelu(F.conv3d(features, sd[f"{p}.conv1.0.weight"]), act)
            gate = F.adaptive_avg_pool3d(h, 1)
            gate = F.relu(F.conv3d(gate, sd[f"{p}.att.se.0.weight"], sd[f"{p}.att.se.0.bias"]))
            h = h * torch.sigmoid(F.conv3d(gate, sd[f"{p}.att.se.2.weight"], sd[f"{p}.att.se.2.bias"]))
            h = F.prelu(F.conv3d(h, sd[f"{p}.conv2.0.weight"], stride=2, padding=1), act)
            features = F.prelu(F.conv3d(h, sd[f"{p}.conv2.2.weight"]), act)
            pooled = F.adaptive_avg_pool3d(features, 1)
            latents.append(F.prelu(F.conv3d(pooled, sd[f"{p}.fc.1.weight"], sd[f"{p}.fc.1.bias"]), act))
        repeat = self.n_blocks // self.n_stages
        for i in range(self.n_blocks):
            p, latent = f"blocks.{i}", latents[i // repeat]
            y = x
            for k in (1, 2):
                s = F.conv3d(latent, sd[f"{p}.sw{k}.weight"], sd[f"{p}.sw{k}.bias"]).flatten(1)
                w = sd[f"{p}.convmod{k}.weight"][None] * (1 + s)[:, None, :, None, None, None]
                w = w * torch.rsqrt(w.square().sum(dim=(2, 3, 4, 5), keepdim=True) + 1e-8)
                y = torch.cat([F.conv3d(y[b : b + 1], w[b], padding=1) for b in range(len(y))])
                y = F.prelu(y, sd[f"{p}.act.weight"]) if k == 1 else y
            x = x + y * sd[f"{p}.res_scale"]
        return F.conv3d(x, sd["reconstruct.weight"], sd["reconstruct.bias"], padding=1) + image


def test_released_state_dict_gives_the_released_output():
    released = ReleasedUniPET()
    network = UniPET.from_released_state_dict(released.sd).eval()
    x = volume(2, 1, 16, 17, 18)
    wanted = released(x)
    with torch.no_grad():
        torch.testing.assert_close(network(x), wanted, rtol=1e-5, atol=1e-5 * wanted.abs().max().item())


def test_released_state_dict_of_other_widths():
    released = ReleasedUniPET(channels=16, n_blocks=6, latent=32, n_stages=3)
    network = UniPET.from_released_state_dict(released.sd).eval()
    x = volume(1, 1, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(network(x), released(x), rtol=1e-5, atol=1e-4)


def test_incomplete_released_state_dict_is_refused_by_name():
    sd = ReleasedUniPET(16, 4, 32, 2).sd
    del sd["blocks.2.sw1.bias"]
    with pytest.raises(ValueError, match=r"blocks\.2\.sw1\.bias"):
        UniPET.from_released_state_dict(sd)


def test_foreign_state_dict_is_refused():
    with pytest.raises(ValueError, match="not a state dict"):
        UniPET.from_released_state_dict({"weight": torch.zeros(1)})


def test_unknown_entry_is_refused_by_name():
    sd = {**ReleasedUniPET(16, 4, 32, 2).sd, "extra.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"extra\.weight"):
        UniPET.from_released_state_dict(sd)


def test_critic_scores_each_patch_by_itself():
    critic = randomised(PatchCritic((4, 8, 8)))
    a, b = volume(1, 1, 16, 16, 16), volume(1, 1, 16, 16, 16, seed=9)
    together = critic(torch.cat([a, b]))
    assert together.shape == (2,)
    torch.testing.assert_close(together, torch.cat([critic(a), critic(b)]))
    assert together[0] != together[1]


def test_critic_refuses_small_patches():
    with pytest.raises(ValueError, match="at least 16"):
        PatchCritic((4, 8, 8))(torch.zeros(1, 1, 8, 16, 16))
