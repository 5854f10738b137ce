"""Learning rate: the curve, and what a changed length does to it."""

from itertools import pairwise

import pytest
import torch
from tiny_training import tiny_parts, tiny_trainer

from pipeline.training import Checkpoint, WarmupCosine
from pipeline.training.stage import warmup_cosine


def test_curve_by_hand():
    def rate(iteration: int) -> float:
        return warmup_cosine(iteration, 110, warmup=10, final=0.1)

    assert [rate(1), rate(5), rate(10)] == [0.1, 0.5, 1.0]
    assert rate(60) == pytest.approx(0.1 + 0.9 / 2)
    assert rate(35) == pytest.approx(0.1 + 0.9 * (1 + 0.5**0.5) / 2)
    assert rate(110) == pytest.approx(0.1)
    assert rate(500) == pytest.approx(0.1)


def test_the_curve_has_no_jump():
    rates = [warmup_cosine(i, 1000, warmup=50, final=0.0) for i in range(1, 1001)]
    assert max(abs(a - b) for a, b in pairwise(rates)) <= 1 / 50 + 1e-12
    assert rates[49:] == sorted(rates[49:], reverse=True)


def test_without_warmup_it_starts_near_the_top():
    assert warmup_cosine(1, 100, warmup=0, final=0.0) == pytest.approx(1, abs=1e-3)


def run(folder, max_epochs: int, *, warmup: int = 3) -> list[float]:
    """Learning rate of every iteration, four an epoch, of a training that begins or continues in a folder."""
    parts = tiny_parts()
    parts["optimizer"].add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 1e-5})
    schedule = WarmupCosine(parts["optimizer"], warmup=warmup)
    rates = []

    class Spy:
        def attach(self, engine):
            engine.add_event_handler("ITERATION_COMPLETED", self.note)

        def note(self, engine):
            first, second = (group["lr"] for group in parts["optimizer"].param_groups)
            assert second == pytest.approx(first / 100)
            rates.append(first / 1e-3)

    handlers = [schedule, Spy(), Checkpoint(folder, {"network": parts["network"]})]
    options = {"style_weight": 0.0, "adversarial_weight": 0.0, "train_handlers": handlers}
    tiny_trainer(parts, max_epochs, **options).run()
    return rates


def test_every_group_keeps_its_own_rate_and_follows_the_curve(tmp_path):
    expected = [warmup_cosine(i, 12, warmup=3, final=0.0) for i in range(1, 13)]
    assert run(tmp_path, 3) == pytest.approx(expected)


def test_a_longer_run_follows_the_curve_of_its_own_length(tmp_path):
    assert run(tmp_path, 3)[-1] == pytest.approx(0)
    expected = [warmup_cosine(i, 32, warmup=3, final=0.0) for i in range(13, 33)]
    assert run(tmp_path, 8) == pytest.approx(expected)
