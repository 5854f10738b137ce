"""One line per epoch that a person can read, and the same as a table."""

import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import pandas as pd
from ignite.engine import Engine, Events
from torch import Tensor

from pipeline.tables import write_table
from pipeline.training.distributed import is_main_process

__all__ = ["EpochLog", "ProgressRow", "duration", "progress_rows"]

PROGRESS_COLUMNS = {
    "stage": "stage of the training",
    "epoch": "number of the epoch in its stage, from 1",
    "seconds": "duration of the epoch [s]",
    "name": "what the value is: a loss, mean of the epoch, or a metric of the validation after it",
    "value": "the value, PSNR in dB",
}
"""Meaning and unit of the columns of the table that an `EpochLog` writes."""

logger = logging.getLogger(__name__)


class ProgressRow(NamedTuple):
    """A value of an epoch."""

    stage: str
    epoch: int
    seconds: float
    """Duration of the epoch [s]."""
    name: str
    value: float


def progress_rows(path: Path) -> Iterator[ProgressRow]:
    """Rows of a table that an :class:`EpochLog` wrote; a last row that a killed process did not finish is left out.

    Tables of version 0.3.0 have no header line.
    """
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else ():
        cells = line.split("\t")
        is_whole = line.endswith("\n") and len(cells) == len(ProgressRow._fields)
        if is_whole and cells[1].isdigit():
            yield ProgressRow(cells[0], int(cells[1]), float(cells[2]), cells[3], float(cells[4]))


def duration(seconds: float) -> str:
    """Seconds for a person: 40 s, 12 min, 3 h 05 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


class EpochLog:
    """Handler that logs each epoch's mean losses, the last validation metrics, and the time left.

    The same values are appended to the tab-separated table `path`, see `PROGRESS_COLUMNS`. The metrics of
    `evaluator` are shown beside the losses in the epochs in which it ran. With its state in a checkpoint the means of
    an interrupted epoch are those of the whole epoch. Rows of epochs that are run again, because they came after the
    checkpoint, are dropped from the table.
    """

    def __init__(self, path: str | Path, *, stage: str, evaluator: Engine | None = None) -> None:
        self.path = Path(path)
        self.stage = stage
        self.evaluator = evaluator
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.epoch_started = 0.0
        self.seconds = 0.0
        self.n_iterations = 0

    def attach(self, engine: Engine) -> None:
        """Follow the epochs and iterations of an engine."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what a checkpoint kept."""
        self.sums, self.counts = dict(state["sums"]), dict(state["counts"])

    def _start_epoch(self, engine: Engine) -> None:
        if engine.state.iteration % cast(int, engine.state.epoch_length) == 0:
            self.sums, self.counts = {}, {}
        if self.n_iterations == 0 and is_main_process():
            self._drop_rows_from(engine.state.epoch)
        self.epoch_started = time.monotonic()

    def _collect(self, engine: Engine) -> None:
        for name, value in _losses(engine.state.output).items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1
        self.n_iterations += 1

    def _report(self, engine: Engine) -> None:
        if not is_main_process():
            return
        state = engine.state
        seconds = time.monotonic() - self.epoch_started
        self.seconds += seconds
        values = {name: total / self.counts[name] for name, total in self.sums.items()}
        # Metrics of an earlier validation must not look like this epoch's.
        if self.evaluator is not None and self.evaluator.state.epoch == state.epoch:
            values |= {name: float(value) for name, value in self.evaluator.state.metrics.items()}
        last = state.max_epochs or 0
        left = self.seconds / self.n_iterations * (last * cast(int, state.epoch_length) - state.iteration)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        logger.info("%s %d/%d  %s  %s left", self.stage, state.epoch, last, shown, duration(left))
        if not self.path.is_file():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._write([])
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(
                f"{self.stage}\t{state.epoch}\t{seconds:.1f}\t{name}\t{value:.6g}\n" for name, value in values.items()
            )

    def _drop_rows_from(self, epoch: int) -> None:
        if not self.path.is_file():
            return
        kept = [row for row in progress_rows(self.path) if row.stage != self.stage or row.epoch < epoch]
        self._write(kept)

    def _write(self, rows: list[ProgressRow]) -> None:
        write_table(pd.DataFrame(rows, columns=list(PROGRESS_COLUMNS)), self.path, columns=PROGRESS_COLUMNS)


def _losses(output: Any) -> dict[str, float]:
    """Return the numbers of a trainer's output: ``loss`` and ``losses``, or what a trainer of one's own has instead."""
    if isinstance(output, list):  # decollated: every item holds the numbers of the batch
        output = output[0]
    items = {**output, **output.get("losses", {})}
    return {str(name): float(value) for name, value in items.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, Tensor) and value.numel() == 1 and value.ndim < 2)
