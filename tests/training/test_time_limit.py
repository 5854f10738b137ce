"""Training in pieces is training in one."""

import logging
import math
from types import SimpleNamespace

import pytest
import torch
from tiny_training import tiny_training

from pipeline.pet import PETError
from pipeline.training import Checkpoint, Deadline, TimeLimit
from pipeline.training.checkpoint_files import checkpoint_files


class Clock:
    """A clock that a test sets: every look at it takes a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("pipeline.training.time_limit.time", SimpleNamespace(monotonic=clock))
    return clock


def limited_training(folder, seconds, *, started=0.0, max_epochs=3):
    """Trainer of `tiny_training`, ended by the limit; the limit sees the clock once per iteration and per epoch."""
    trainer = tiny_training(folder, max_epochs)
    checkpoint = next(
        handler.__self__
        for handlers in trainer._event_handlers.values()
        for handler, *_ in handlers
        if isinstance(getattr(handler, "__self__", None), Checkpoint)
    )
    limit = TimeLimit(Deadline(seconds, started=started), checkpoint, stage="tiny")
    limit.attach(trainer)
    return trainer, limit


@pytest.mark.parametrize("seconds", [2, 5])
def test_a_training_in_pieces_ends_with_the_weights_of_one_in_one_go(tmp_path, clock, seconds):
    whole, _ = limited_training(tmp_path / "whole", None)
    whole.run()
    n_pieces = 0
    while True:
        n_pieces += 1
        trainer, limit = limited_training(tmp_path / "pieces", seconds, started=clock.now)
        trainer.run()
        if not limit.is_reached:
            break
        newest = checkpoint_files(tmp_path / "pieces" / "checkpoints")[0]
        assert newest.iteration == trainer.state.iteration
        assert n_pieces < 20
    assert n_pieces > 1
    assert trainer.state.iteration == whole.state.iteration == 12
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, trainer.network.state_dict()[name]), name
    models = [torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("whole", "pieces")]
    assert all(torch.equal(models[0][key], models[1][key]) for key in models[0])


def test_it_says_what_is_left(tmp_path, clock, caplog):
    trainer, limit = limited_training(tmp_path, 7)
    with caplog.at_level(logging.INFO, logger="pipeline"):
        trainer.run()
    assert limit.is_reached
    # Looks: at the start, after iterations 1, 2, 3, after epoch 1, after iterations 5 and 6.
    assert trainer.state.iteration == 6
    assert "tiny stops after epoch 1 and 2 of 4 iterations, 1.5 of 3 epochs are left" in caplog.text


def test_the_stage_after_the_stopped_one_does_not_begin(tmp_path, clock):
    clock.now = 100
    trainer, limit = limited_training(tmp_path, 50, started=0)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.run()
    assert limit.is_reached
    assert trainer.state.iteration == 0
    assert not checkpoint_files(tmp_path / "checkpoints")
    assert all(torch.equal(before[name], value) for name, value in trainer.network.state_dict().items())


def test_a_finished_training_is_not_called_stopped(tmp_path, clock):
    limited_training(tmp_path, None)[0].run()
    trainer, limit = limited_training(tmp_path, 1, started=-100)
    trainer.run()
    assert not limit.is_reached


def test_without_a_limit_nothing_is_attached(tmp_path, clock):
    trainer, limit = limited_training(tmp_path, None, started=-math.inf)
    trainer.run()
    assert not limit.is_reached
    assert clock.now == 0


@pytest.mark.parametrize("seconds", [0, -1, math.nan])
def test_a_limit_is_positive(seconds):
    with pytest.raises(PETError, match="expected more than 0 seconds"):
        Deadline(seconds)


def test_what_comes_before_training_ends_between_two_steps_with_exit_code_0(clock, caplog):
    deadline = Deadline(3, started=clock.now)
    deadline.check("preparing", 1, 9)
    clock.now += 5
    deadline.check("preparing", 9, 9)  # nothing is left to wait for
    with caplog.at_level(logging.INFO, logger="pipeline"), pytest.raises(SystemExit) as ended:
        deadline.check("preparing", 2, 9)
    assert ended.value.code == 0
    assert "preparing, 2 of 9 scans or subjects are done; run again to go on" in caplog.text
