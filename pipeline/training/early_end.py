"""The end of a training that has stopped getting better."""

import logging
from typing import cast

from ignite.engine import Engine, Events

from pipeline.training.checkpoint import Checkpoint

__all__ = ["EarlyEnd"]

logger = logging.getLogger(__name__)


class EarlyEnd:
    """Handler that ends a training after `patience` epochs without a validation better than the best so far.

    What it goes by is the best iteration of the checkpoint, so a resumed training ends where an uninterrupted one does.
    ignite's EarlyStopping counts validations since the process started. Put it behind the checkpoint, which must be one
    with an evaluator: without a validation nothing ends.

    Raises
    ------
    ValueError
        If the patience is less than one epoch.
    """

    def __init__(self, checkpoint: Checkpoint, *, patience: int) -> None:
        if patience < 1:
            raise ValueError(f"patience {patience}, expected at least 1 epoch, or null for none")
        self.checkpoint = checkpoint
        self.patience = patience

    def attach(self, engine: Engine) -> None:
        """Look when the training starts, for it may have ended in an earlier run, and after every epoch."""
        engine.add_event_handler(Events.STARTED, self._look)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._look)

    def is_reached(self, engine: Engine) -> bool:
        """Return whether the training has ended early, or would at the end of this epoch."""
        best, length = self.checkpoint.best_iteration, cast(int, engine.state.epoch_length)
        return best > 0 and engine.state.iteration - best >= self.patience * length

    def _look(self, engine: Engine) -> None:
        if self.is_reached(engine):
            logger.info("no better validation in %d epochs, the training ends early", self.patience)
            engine.terminate()
