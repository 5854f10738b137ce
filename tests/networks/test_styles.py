"""Where UniPET's style comes from: identity at the start, folding, one style per scan, and that it is alive."""

import pytest
import torch
import torch.nn.functional as F

from pipeline.networks import BaseDenoisingNetwork, StatisticsStyle, UniPET
from pipeline.networks.noise.statistics import NOISE_STATISTICS

BODIES = [{"n_blocks": 3}, {"n_blocks": (1, 1, 1), "resolution_factor": 2}, {"n_blocks": (1, 0, 1, 0, 1)}]
STYLES = [
    {"style": "statistics", "style_width": 6, "latent_size": 10},
    {"style_width": 48, "latent_size": 10, "n_stages": 3, "tissue_threshold": 0.1},
]


def scan(*, sd: float = 0.1, side: int = 20, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return 1 + sd * torch.randn(1, 1, side, side, side, generator=g).double()


@pytest.fixture(params=STYLES, ids=["statistics", "convolutional"])
def style(request) -> dict:
    return request.param


@pytest.fixture(params=BODIES, ids=["flat", "u", "u2"])
def network(request, style, randomise) -> UniPET:
    return randomise(UniPET(4, **request.param, **style))


@pytest.mark.parametrize("body", BODIES, ids=["flat", "u", "u2"])
def test_a_style_that_starts_at_zero_is_the_plain_body(body, style, randomise):
    base = randomise(BaseDenoisingNetwork(4, **body)).double()
    network = UniPET(4, **body, **style).double().eval()
    network.load_base(base.state_dict())
    x = scan()
    assert (base(x) - x).abs().max() > 1e-2
    torch.testing.assert_close(network(x), base(x), rtol=1e-6, atol=1e-7)  # eps of the demodulation


def test_folding_is_exact(network):
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        x = scan().to(dtype)
        converted = network.to(dtype)
        latents = converted.encode_style(x)
        with torch.no_grad():
            wanted = converted.denoise(x, latents)
            assert converted.gain(latents) is None or abs(converted.gain(latents).item() - 1) > 1e-3
            got = converted.fold(latents)(x)
        assert (got - wanted).abs().max() <= tolerance * wanted.abs().max()


def test_gradients_reach_every_parameter(network):
    x = torch.cat([scan(), scan(sd=0.3, seed=1)]).float()
    if network.style == "convolutional":
        for stage in network.san.stages:
            torch.nn.init.ones_(stage.attention.squeeze.bias)  # so few units may all be off by chance
    network(x).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_each_volume_of_a_batch_has_its_own_style(network):
    a, b = scan().float(), scan(sd=0.5, seed=1).float()
    with torch.no_grad():
        torch.testing.assert_close(network(torch.cat([a, b])), torch.cat([network(a), network(b)]))


def test_given_latents_reproduce_the_forward_pass(network):
    x = scan().float()
    with torch.no_grad():
        assert torch.equal(network.denoise(x, network.encode_style(x)), network(x))


@pytest.fixture
def measured(randomise) -> UniPET:
    """Network whose style is from statistics that tell noise of 0.05 from noise of 0.4."""
    network = randomise(UniPET(4, (1, 1, 1), **STYLES[0])).double()
    scans = torch.cat([scan(sd=sd, seed=i) for i, sd in enumerate((0.05, 0.1, 0.2, 0.4))])
    network.statistics_style.fit(network.scan_statistics(scans))
    return network


def test_a_patch_can_carry_the_style_of_its_scan(measured):
    whole = scan(side=28)
    patch = whole[..., 4:12, 8:16, 8:16]
    statistics = measured.scan_statistics(whole)
    with torch.no_grad():
        expected = measured.denoise(patch, measured.encode_style(whole))
        assert torch.equal(measured(patch, statistics), expected)
        assert torch.equal(measured.denoise_with_features(patch, statistics)[0], expected)
        assert not torch.equal(measured(patch), expected)


def test_the_style_of_a_scan_does_not_depend_on_air_or_flips(measured):
    x = F.pad(scan(), (4,) * 6)
    style = measured.encode_style(x)
    assert torch.equal(measured.encode_style(F.pad(x, (9, 0, 3, 5, 0, 17))), style)
    torch.testing.assert_close(measured.encode_style(x.flip((2, 4))), style, rtol=0, atol=1e-6)
    assert (measured.encode_style(scan(sd=0.3)) - style).abs().max() > 1e-3


def test_statistics_are_refused_by_a_convolutional_style():
    with pytest.raises(ValueError, match="convolutional style"):
        UniPET(4, 3, **STYLES[1])(scan().float(), torch.zeros(1, 7))


def test_training_without_statistics_of_the_scans_is_refused():
    network = UniPET(4, 3, **STYLES[0])
    with pytest.raises(ValueError, match="statistics are missing"):
        network.train()(scan().float())
    assert network.eval()(scan().float()).shape == (1, 1, 20, 20, 20)


def test_unknown_style_is_refused():
    with pytest.raises(ValueError, match="'baroque'"):
        UniPET(4, 3, style="baroque")


def test_fit_standardises_and_is_kept_in_the_checkpoint():
    g = torch.Generator().manual_seed(0)
    rows = torch.randn(50, 7, generator=g) * torch.tensor([1.0, 0.1, 0.2, 3.0, 0.5, 1.0, 2.0]) + 7
    layer = StatisticsStyle(width=4, latent_size=3)
    layer.fit(torch.cat([rows, torch.full((2, 7), torch.nan)]))
    standardised = (rows - layer.mean) / layer.std
    torch.testing.assert_close(standardised.mean(dim=0), torch.zeros(7), rtol=0, atol=1e-4)
    torch.testing.assert_close(standardised.std(dim=0), torch.ones(7), rtol=1e-4, atol=0)
    other = StatisticsStyle(width=4, latent_size=3)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(rows), layer(rows))


def test_scans_that_say_nothing_are_refused_by_fit():
    with pytest.raises(ValueError, match="1 of 2 scans could be measured"):
        StatisticsStyle().fit(torch.tensor([[1.0] * 7, [torch.nan] * 7]))
    with pytest.raises(ValueError, match="2 of 2 scans"):
        StatisticsStyle().fit(torch.ones(2, 7))


def test_a_scan_that_cannot_be_measured_gets_the_average_style():
    layer = StatisticsStyle()
    layer.fit(torch.randn(9, 7, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(layer(torch.full((1, 7), torch.nan)), layer(layer.mean[None]))


def test_beyond_three_standard_deviations_the_style_stays():
    layer = StatisticsStyle()
    far, further = torch.full((1, 7), 3.0), torch.full((1, 7), 30.0)
    assert torch.equal(layer(far), layer(further))
    assert not torch.equal(layer(far), layer(far - 1))


def test_exchanged_styles_make_a_trained_network_worse():
    """Two doses of flat tissue: much noise is to be taken away, little noise is to be left."""
    torch.manual_seed(0)
    network = UniPET(4, 1, resolution_factor=2, **STYLES[0])
    quiet, noisy = (torch.cat([scan(sd=sd, side=16, seed=i) for i in range(3)]).float() for sd in (0.05, 0.5))
    images, targets = torch.cat([quiet, noisy]), torch.cat([quiet, torch.ones_like(noisy)])
    statistics = network.scan_statistics(images)
    network.statistics_style.fit(statistics)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        (network(images, statistics) - targets).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        own = (network(images, statistics) - targets).square().mean(dim=(1, 2, 3, 4))
        other = (network(images, statistics.roll(3, dims=0)) - targets).square().mean(dim=(1, 2, 3, 4))
    # 0.3 dB in either direction
    assert (other[:3].mean() / own[:3].mean()).log10() > 0.03
    assert (other[3:].mean() / own[3:].mean()).log10() > 0.03


def test_a_trace_holds_for_other_scans(measured):
    network = measured.float()
    with torch.no_grad():
        traced = torch.jit.trace(network, scan().float(), check_trace=False)
        other = F.pad(scan(sd=0.3, side=14, seed=2), (3,) * 6).float()
        torch.testing.assert_close(traced(other), network(other))


def test_how_far_a_scan_lies_from_those_of_the_training_is_told_in_their_standard_deviations():
    network = UniPET(4, 3, **STYLES[0]).double()
    scans = [scan(sd=sd, seed=seed) for seed, sd in enumerate((0.08, 0.1, 0.12))]
    measured = torch.cat([network.scan_statistics(x) for x in scans])
    network.statistics_style.fit(measured)
    found = [network.style_deviation(x) for x in scans]
    assert list(found[0]) == list(NOISE_STATISTICS)
    # Standardised they are of mean 0 and standard deviation 1, whatever they are.
    values = torch.tensor([list(deviations.values()) for deviations in found])
    torch.testing.assert_close(values.mean(dim=0), torch.zeros(len(NOISE_STATISTICS)), atol=1e-4, rtol=0)
    torch.testing.assert_close(values.std(dim=0), torch.ones(len(NOISE_STATISTICS)), atol=1e-4, rtol=0)
    # Ten times the noise is not clamped.
    assert network.style_deviation(scan(sd=1.0))["quiet"] > 5
    assert network.style_deviation(torch.zeros(1, 1, 20, 20, 20).double()) == {}
    assert UniPET(4, 3, **STYLES[1]).style_deviation(scan().float()) == {}
