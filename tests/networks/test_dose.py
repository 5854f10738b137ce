"""Networks that must know the dose: stated or read, folded or called, each patch to the network of its dose."""

import math

import pytest
import torch

from pipeline.inference import StreamingInferer
from pipeline.networks import (
    NOISE_STATISTICS,
    DoseConditionedNetwork,
    DoseReader,
    DoseSpecificNetworks,
    KnowsDose,
    multiply_adds_per_voxel,
    read_by,
)

BODY = {"channels": 4, "n_blocks": (1, 1, 1)}


def scan(side: int = 24, seed: int = 0) -> torch.Tensor:
    return 1 + 0.2 * torch.randn(1, 1, side, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=["conditioned", "specific"])
def network(request, randomise):
    if request.param == "conditioned":
        return randomise(DoseConditionedNetwork(**BODY)).eval()
    return randomise(DoseSpecificNetworks([2, 10, 100], **BODY)).eval()


def test_a_dose_that_is_stated_is_taken_and_weights_are_shared(network):
    assert isinstance(network, KnowsDose)
    assert read_by(network) == ("dose_reduction_factor",)
    low, high = network.at_dose(2), network.at_dose(90)
    assert low.dose_of(scan()).item() == 2
    assert network.stated is None
    with torch.no_grad():
        assert (low(scan()) - high(scan())).abs().max() > 1e-4
        next(network.base.parameters()).add_(0.1)
        torch.testing.assert_close(low(scan()), network(scan(), torch.tensor([2.0])), rtol=0, atol=0)
    for wrong in (0.5, math.nan, math.inf):
        with pytest.raises(ValueError, match="at least 1"):
            network.at_dose(wrong)


def test_streaming_folds_the_dose_of_the_whole_scan(network):
    stated = network.at_dose(10)
    with torch.no_grad():
        wanted = stated(scan())
    torch.testing.assert_close(StreamingInferer(slab=4)(scan(), stated), wanted, rtol=1e-5, atol=1e-6)


def test_every_patch_goes_to_the_network_of_the_nearest_dose(randomise):
    network = randomise(DoseSpecificNetworks([2, 10, 100], **BODY)).eval()
    # Nearest in the logarithm: 4 lies between 2 and 10, on the side of 2; 40 on that of 100.
    assert [network.nearest(f) for f in (1, 4, 5, 31, 40, 200)] == [0, 0, 1, 1, 2, 2]
    x = torch.cat([scan(8, seed) for seed in range(3)])
    with torch.no_grad():
        mixed = network(x, torch.tensor([100.0, 2.0, 90.0]))
        parts = [network.networks[i](x[k : k + 1]) for k, i in enumerate([2, 0, 2])]
    torch.testing.assert_close(mixed, torch.cat(parts))
    network.train()(x, torch.tensor([10.0, 10.0, 10.0])).sum().backward()
    trained = {name.split(".")[1] for name, p in network.named_parameters() if p.grad is not None}
    assert trained == {"1"}


def test_the_reader_finds_a_linear_law():
    generator = torch.Generator().manual_seed(0)
    statistics = torch.randn(200, len(NOISE_STATISTICS), generator=generator)
    law = torch.linspace(-0.3, 0.5, len(NOISE_STATISTICS))
    factors = (2.5 + statistics @ law).exp()
    statistics[::20] = math.nan
    reader = DoseReader()
    reader.fit(statistics, factors)
    torch.testing.assert_close(reader.slopes, law, rtol=0, atol=2e-3)
    assert reader.error < 5e-3
    with pytest.raises(ValueError, match=r"\d of 5 scans can be measured, expected that of ten"):
        reader.fit(statistics[:5], factors[:5])


def test_a_scan_that_cannot_be_measured_gets_the_middle_of_the_training():
    reader = DoseReader()
    reader.middle.fill_(math.log(7.0))
    empty = torch.zeros(1, 1, 16, 16, 16)
    assert reader(empty).item() == pytest.approx(7.0)
    assert math.isnan(reader.read(empty).item())
    assert reader.read(scan()).item() == reader(scan()).item()


def test_a_conditioned_network_costs_what_its_body_costs():
    network = DoseConditionedNetwork(32, (2, 2, 2, 2, 2)).at_dose(4)
    alone = multiply_adds_per_voxel(network.base, torch.zeros(1, 1, 32, 32, 32))
    assert multiply_adds_per_voxel(network, torch.zeros(1, 1, 32, 32, 32)) == pytest.approx(alone, rel=1e-3)
    # First and last convolution of 8 channels at half resolution, and the rest by hand.
    level = [8 * 27 * 32**2, 8 * 27 * 64**2 / 8, 4 * 27 * 128**2 / 64]
    between = [2 * 256 * 64 / 8, 2 * 512 * 128 / 64]
    by_hand = (27 * 8 * 32 * 2 + sum(level) + sum(between)) / 8
    assert alone == pytest.approx(by_hand, rel=1e-6)
