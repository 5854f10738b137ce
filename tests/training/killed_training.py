"""A training that kills its own process at a chosen point, as SIGKILL from outside would."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from ignite.engine import Engine, Events
from tiny_training import tiny_training

SAVING = ("checkpoint.py", "checkpoint_files.py", "files.py")


class Points:
    """Counts the points at which a training can be killed: every iteration, and every line of the code that saves."""

    def __init__(self, kill_at: int | None) -> None:
        self.kill_at = kill_at
        self.n = 0
        self.n_saving: list[int] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_STARTED, self.pass_by)

    def pass_by(self) -> None:
        if self.n == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.n += 1

    def trace(self, frame: FrameType, event: str, argument: Any) -> Callable | None:
        if Path(frame.f_code.co_filename).name not in SAVING:
            return None
        if event == "line":
            self.n_saving.append(self.n)
            self.pass_by()
        return self.trace


def train(folder: Path, kill_at: int | None, seed: int = 0) -> Points:
    """Train to the end, or until point ``kill_at``, counted from 0."""
    torch.set_num_threads(1)
    points = Points(kill_at)
    trainer = tiny_training(folder, seed=seed, extra_handlers=(points,))
    sys.settrace(points.trace)
    try:
        trainer.run()
    finally:
        sys.settrace(None)
    return points


def count_points(folder: Path, queue: Any) -> None:
    """Train to the end and report how many points were passed, and which of them lay in the code that saves."""
    points = train(folder, None)
    queue.put((points.n, points.n_saving))
