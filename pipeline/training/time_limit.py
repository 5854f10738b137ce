"""Training in pieces: an end at a time limit, from which the next run goes on as if there had been none."""

import logging
import time
from typing import cast

import torch
from ignite.engine import Engine, Events
from torch import distributed

from pipeline.errors import PETError
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.distributed import world_size
from pipeline.training.progress import duration

__all__ = ["TimeLimit"]

logger = logging.getLogger(__name__)


class TimeLimit:
    """Handler that saves a training and ends it once a time is over, for machines that are lent by the hour.

    Looks at the clock after each iteration and each epoch, so a validation is never cut short. A stage that begins
    when the time is over ends at once: of stages that run one after the other, with one clock, those after the
    stopped one wait for the next run.

    Put it behind the checkpoint, which goes behind all others.

    Parameters
    ----------
    seconds
        Limit [s], counted from ``started``; None is none.
    checkpoint
        What saves, and resumes, this training.
    started
        Beginning [s] on the clock of ``time.monotonic``; by default that of this object.
    stage
        Name of the training stage in the log.

    Attributes
    ----------
    is_reached
        Whether this stage was ended by the limit.

    Raises
    ------
    PETError
        If the limit is not a number above 0.
    """

    def __init__(
        self, seconds: float | None, checkpoint: Checkpoint, *, started: float | None = None, stage: str = "training"
    ) -> None:
        if seconds is not None and not (isinstance(seconds, int | float) and seconds > 0):
            raise PETError(f"time limit is {seconds!r}, expected more than 0 seconds, or none")
        self.seconds = seconds
        self.checkpoint = checkpoint
        self.started = time.monotonic() if started is None else started
        self.stage = stage
        self.is_reached = False

    def attach(self, engine: Engine) -> None:
        if self.seconds is not None:
            engine.add_event_handler(Events.STARTED, self._before_training)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._after_iteration)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)

    def _before_training(self, engine: Engine) -> None:
        if not _is_finished(engine) and self._is_over():
            self._end(engine)

    def _after_iteration(self, engine: Engine) -> None:
        # At the end of an epoch the rest of its work is still to come: validation, log.
        if engine.state.iteration % cast(int, engine.state.epoch_length) and self._is_over():
            self.checkpoint.save(engine)
            self._end(engine)

    def _after_epoch(self, engine: Engine) -> None:
        if not _is_finished(engine) and self._is_over():
            self.checkpoint.save(engine)
            self._end(engine)

    def _is_over(self) -> bool:
        """Whether the time is over, by the clock of the first process: all must end after the same iteration."""
        is_over = time.monotonic() - self.started >= cast(float, self.seconds)
        if world_size() > 1:
            device = torch.device("cuda") if distributed.get_backend() == "nccl" else torch.device("cpu")
            decision = torch.tensor(is_over, dtype=torch.uint8, device=device)
            distributed.broadcast(decision, 0)
            is_over = bool(decision)
        return is_over

    def _end(self, engine: Engine) -> None:
        self.is_reached = True
        length, last = cast(int, engine.state.epoch_length), cast(int, engine.state.max_epochs)
        epochs, iterations = divmod(engine.state.iteration, length)
        logger.info(
            "time limit of %s: %s stops after epoch %d and %d of %d iterations, %.4g of %d epochs are left",
            *(duration(cast(float, self.seconds)), self.stage, epochs, iterations, length),
            *(last - engine.state.iteration / length, last),
        )
        engine.terminate()


def _is_finished(engine: Engine) -> bool:
    return engine.state.iteration >= cast(int, engine.state.epoch_length) * cast(int, engine.state.max_epochs)
