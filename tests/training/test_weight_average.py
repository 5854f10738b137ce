"""Moving average of weights."""

import copy

import pytest
import torch
from ignite.engine import Engine, Events

from pipeline.training import WeightAverage


class Counter(torch.nn.Module):
    """One weight, which is the number of the iteration, and one buffer, ten times that."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.register_buffer("tenfold", torch.zeros(1))


def run(network: Counter, average: WeightAverage, n: int) -> None:
    def step(engine: Engine, _: int) -> None:
        network.weight.data.fill_(float(engine.state.iteration))
        network.tenfold.fill_(10.0 * engine.state.iteration)

    engine = Engine(step)
    average.attach(engine)
    engine.run(range(n))


def test_average_by_hand():
    network = Counter()
    average = WeightAverage(network, 0.25)
    run(network, average, 3)
    # Decays: min(1/4, 2/11), min(1/4, 3/12), min(1/4, 4/13).
    value = 9 / 11 * 1
    value = 0.25 * value + 0.75 * 2
    value = 0.25 * value + 0.75 * 3
    assert average.network.weight.item() == pytest.approx(value)
    assert average.network.tenfold.item() == 30


def test_average_of_a_long_run_lags_by_the_length_of_its_memory():
    network = Counter()
    average = WeightAverage(network, 0.9)
    run(network, average, 300)
    # Of a ramp, an exponential average with decay d lags by d / (1 - d).
    assert average.network.weight.item() == pytest.approx(300 - 9, abs=1e-3)


def test_average_begins_with_the_weights_that_the_run_begins_with():
    network = Counter()
    average = WeightAverage(network, 0.9)
    with torch.no_grad():
        network.weight.fill_(7.0)
    engine = Engine(lambda engine, batch: None)
    average.attach(engine)
    seen = []
    engine.add_event_handler(Events.STARTED, lambda: seen.append(average.network.weight.item()))
    engine.run([0])
    assert seen == [7.0]


def test_state_is_that_of_the_network():
    network = Counter()
    average = WeightAverage(network, 0.5)
    run(network, average, 2)
    plain = Counter()
    plain.load_state_dict(average.state_dict())
    assert plain.weight.item() == average.network.weight.item() != network.weight.item()
    other = WeightAverage(Counter())
    other.load_state_dict(copy.deepcopy(average.state_dict()))
    assert other.network.weight.item() == plain.weight.item()


def test_a_decay_of_one_is_refused():
    with pytest.raises(ValueError, match="below 1"):
        WeightAverage(Counter(), 1.0)
