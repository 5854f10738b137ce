"""One line per epoch that a person can read, and the same as a table."""

import logging
import time
from pathlib import Path
from typing import Any, cast

from ignite.engine import Engine, Events

__all__ = ["EpochLog"]

logger = logging.getLogger(__name__)


class EpochLog:
    """Handler that logs each epoch's mean losses, the last validation metrics, and the time left.

    Parameters
    ----------
    path
        Table (tab-separated: stage, epoch, seconds, name, value) to which the same values are appended.
    stage
        Name of the training stage in log and table.
    evaluator
        Engine whose metrics are shown beside the losses in the epochs in which it ran.
    """

    def __init__(self, path: str | Path, *, stage: str, evaluator: Engine | None = None) -> None:
        self.path = Path(path)
        self.stage = stage
        self.evaluator = evaluator
        self.sums: dict[str, float] = {}
        self.n_iterations = 0
        self.epoch_started = self.run_started = 0.0
        self.first_epoch = 0

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)

    def _start(self, engine: Engine) -> None:
        self.run_started, self.first_epoch = time.monotonic(), engine.state.epoch

    def _start_epoch(self, engine: Engine) -> None:
        self.epoch_started, self.sums, self.n_iterations = time.monotonic(), {}, 0

    def _collect(self, engine: Engine) -> None:
        output = cast(dict[str, Any], engine.state.output)
        for name, value in {"loss": float(output["loss"]), **output.get("losses", {})}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.n_iterations += 1

    def _report(self, engine: Engine) -> None:
        now = time.monotonic()
        values = {name: total / self.n_iterations for name, total in self.sums.items()}
        # Metrics of an earlier validation must not look like this epoch's.
        if self.evaluator is not None and self.evaluator.state.epoch == engine.state.epoch:
            values |= {name: float(value) for name, value in self.evaluator.state.metrics.items()}
        epoch, last = engine.state.epoch, engine.state.max_epochs or 0
        minutes_left = (now - self.run_started) / (epoch - self.first_epoch) * (last - epoch) / 60
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        logger.info("%s %d/%d  %s  %.0f min left", self.stage, epoch, last, shown, minutes_left)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            for name, value in values.items():
                file.write(f"{self.stage}\t{epoch}\t{now - self.epoch_started:.1f}\t{name}\t{value:.6g}\n")
