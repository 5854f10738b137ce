"""How far a scan is, and how long it will still take."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

__all__ = ["Progress", "ProgressClock", "TellsProgress"]


@dataclass(frozen=True)
class Progress:
    """State of the scan that is being denoised."""

    scan: int
    """Number of the scan in its batch, from 0."""
    n_scans: int
    """Scans in the batch."""
    done: float
    """Part of the scan's work that is done, 0 to 1."""
    seconds: float
    """Time since the scan was begun [s]."""
    seconds_left: float
    """What remains of this scan at the pace so far [s]."""


@runtime_checkable
class TellsProgress(Protocol):
    """An inferer that tells how far a scan is."""

    on_progress: Callable[[Progress], None] | None
    """Is told the state of the scan; None tells nobody."""


class ProgressClock:
    """Turns pieces of work into :class:`Progress`.

    Parameters
    ----------
    on_progress
        Is told after every piece; None tells nobody.
    scan, n_scans
        Which scan this is.
    """

    def __init__(self, on_progress: Callable[[Progress], None] | None, *, scan: int, n_scans: int) -> None:
        self.on_progress = on_progress
        self.scan = scan
        self.n_scans = n_scans
        self.started = time.perf_counter()
        self.begin(1.0)

    def begin(self, total: float) -> None:
        """Count from zero to a total amount of work; the clock goes on."""
        self.total = total
        self.amount = 0.0
        self.begun = time.perf_counter()

    def advance(self, amount: float) -> None:
        """Count a piece of work and tell."""
        self.amount += amount
        if self.on_progress is None:
            return
        now = time.perf_counter()
        left = (now - self.begun) / self.amount * (self.total - self.amount)
        done = min(self.amount / self.total, 1.0)
        self.on_progress(Progress(self.scan, self.n_scans, done, now - self.started, max(left, 0.0)))
