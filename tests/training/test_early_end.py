"""A training ends early when its validation no longer gets better, and a resumed one ends at the same place."""

import pytest
import torch
from ignite.engine import Engine, Events

from pipeline.training import Checkpoint
from pipeline.training.stage import EarlyEnd

SCORES = [1.0, 3.0, 2.0, 2.5, 2.9, 9.0]
"""Of the epochs; the best before a patience of two epochs is over is the second."""


def training(folder, *, patience=2, stop_after=None) -> tuple[Engine, list[int]]:
    done: list[int] = []
    trainer = Engine(lambda engine, batch: done.append(engine.state.iteration))
    evaluator = Engine(lambda engine, batch: None)

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine):
        evaluator.state.epoch = engine.state.epoch
        evaluator.state.metrics = {"score": SCORES[engine.state.epoch - 1]}

    checkpoint = Checkpoint(folder, {"layer": torch.nn.Linear(1, 1)}, evaluator=evaluator, metric="score")
    checkpoint.attach(trainer)
    EarlyEnd(checkpoint, patience=patience).attach(trainer)
    if stop_after is not None:
        trainer.add_event_handler(Events.EPOCH_COMPLETED(once=stop_after), lambda engine: engine.terminate())
    return trainer, done


def test_it_ends_after_the_patience_and_not_before(tmp_path):
    trainer, done = training(tmp_path)
    trainer.run(range(3), max_epochs=6, epoch_length=3)
    assert done == list(range(1, 13))  # two epochs after the second


def test_without_enough_patience_lost_it_runs_to_the_end(tmp_path):
    trainer, done = training(tmp_path, patience=4)
    trainer.run(range(3), max_epochs=6, epoch_length=3)
    assert done[-1] == 18


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_resumed_training_ends_where_the_uninterrupted_one_does(tmp_path, stop_after):
    trainer, first = training(tmp_path, stop_after=stop_after)
    trainer.run(range(3), max_epochs=6, epoch_length=3)
    trainer, second = training(tmp_path)
    trainer.run(range(3), max_epochs=6, epoch_length=3)
    assert first + second == list(range(1, 13))
    trainer, third = training(tmp_path)
    trainer.run(range(3), max_epochs=6, epoch_length=3)
    assert third == []


def test_less_than_an_epoch_of_patience_is_refused(tmp_path):
    with pytest.raises(ValueError, match="patience 0, expected at least 1 epoch"):
        EarlyEnd(Checkpoint(tmp_path, {}), patience=0)
