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

__all__ = ["Deadline", "TimeIsOver", "TimeLimit"]

logger = logging.getLogger(__name__)


class TimeIsOver(SystemExit):
    """The time is over before the training has begun: the program ends, with exit code 0, and the next run goes on."""

    def __init__(self, reason: str) -> None:
        super().__init__(0)
        self.reason = reason


class Deadline:
    """A number of seconds from now, for machines that are lent by the hour; if None, there is no limit.

    `started` is the beginning [s] on the clock of ``time.monotonic``; if None, it is that of this object.

    Raises
    ------
    PETError
        If the limit is not a number above 0.
    """

    def __init__(self, seconds: float | None, *, started: float | None = None) -> None:
        if seconds is not None and not (isinstance(seconds, int | float) and seconds > 0):
            raise PETError(f"time limit is {seconds!r}, expected more than 0 seconds, or none")
        self.seconds = seconds
        self.started = time.monotonic() if started is None else started

    def is_over(self) -> bool:
        """Return whether the time is over."""
        return self.seconds is not None and time.monotonic() - self.started >= self.seconds

    def check(self, doing: str, done: int, total: int) -> None:
        """End the program between two steps of what comes before the training, if there is more to do.

        Of several processes none ends here, since the others would wait for it.

        Raises
        ------
        TimeIsOver
            If the time is over.
        """
        if done < total and world_size() == 1 and self.is_over():
            reason = f"{doing}, {done} of {total} scans or subjects are done"
            logger.info("time limit of %s: %s; run again to go on", duration(cast(float, self.seconds)), reason)
            raise TimeIsOver(reason)


class TimeLimit:
    """Handler that saves a training and ends it once the time is over; then `is_reached` is true.

    It looks at the clock after each iteration and each epoch, so a validation is never cut short. A stage that begins
    when the time is over ends at once: of stages that run one after the other, those after the stopped one wait for the
    next run. ignite's TimeLimit saves nothing, and its processes may stop at different iterations. Put it behind the
    checkpoint, which goes behind all others.
    """

    def __init__(self, deadline: Deadline, checkpoint: Checkpoint, *, stage: str = "training") -> None:
        self.deadline = deadline
        self.checkpoint = checkpoint
        self.stage = stage
        self.is_reached = False

    def attach(self, engine: Engine) -> None:
        """Look at the clock when the training starts, after iterations and after epochs, if there is a limit."""
        if self.deadline.seconds is not None:
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
        """Return whether the time is over, by the clock of the first process: all must end after the same iteration."""
        is_over = self.deadline.is_over()
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
            *(duration(cast(float, self.deadline.seconds)), self.stage, epochs, iterations, length),
            *(last - engine.state.iteration / length, last),
        )
        engine.terminate()


def _is_finished(engine: Engine) -> bool:
    return engine.state.iteration >= cast(int, engine.state.epoch_length) * cast(int, engine.state.max_epochs)
