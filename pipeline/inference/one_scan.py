"""What inferers share about a scan: its name in messages, the checks before it starts, and how far it is."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from monai.data import MetaTensor
from torch import Tensor

from pipeline.errors import PETError

__all__ = [
    "Progress",
    "ProgressClock",
    "TellsProgress",
    "check_body_threshold",
    "check_finite",
    "check_shape",
    "name_of_scan",
]


def name_of_scan(inputs: Tensor, index: int) -> str:
    """Return what to call a scan of a batch (B, 1, X, Y, Z): its file where the metadata know it, else its number."""
    files = inputs.meta.get("filename_or_obj") if isinstance(inputs, MetaTensor) else None
    if isinstance(files, list | tuple):
        files = files[index] if index < len(files) else None
    return str(files) if files else f"scan {index + 1} of {len(inputs)}"


def check_shape(x: Tensor) -> None:
    """Refuse what is no batch of volumes.

    Raises
    ------
    ValueError
        If x is not (B, 1, X, Y, Z) with at least one voxel.
    """
    shape = tuple(getattr(x, "shape", ()))
    if not isinstance(x, Tensor) or len(shape) != 5 or shape[1] != 1 or min(shape) < 1:
        raise ValueError(
            f"got {type(x).__name__} of shape {shape}, expected a tensor (B, 1, X, Y, Z) that is not empty"
        )


def check_body_threshold(threshold: float | None) -> None:
    """Refuse a threshold that no comparison can be made with.

    Raises
    ------
    ValueError
        If it is neither None nor a finite number.
    """
    if threshold is not None and not math.isfinite(threshold):
        raise ValueError(f"body_threshold is {threshold}, expected a finite number or None")


def check_finite(x: Tensor, name: str) -> None:
    """Refuse a volume (1, 1, X, Y, Z) with NaN or infinite voxels: convolutions would spread them.

    Raises
    ------
    PETError
        Says how many there are.
    """
    n_bad = sum(int((~torch.isfinite(plane)).sum()) for plane in x[0, 0])
    if n_bad:
        raise PETError(f"{name}: {n_bad} of {x.numel()} voxels are NaN or infinite, expected finite SUV")


@dataclass(frozen=True)
class Progress:
    """State of the scan that is being denoised."""

    done: float
    """Part of the scan's work that is done, 0 to 1."""
    seconds_left: float
    """What remains of this scan at the pace so far [s]."""


@runtime_checkable
class TellsProgress(Protocol):
    """An inferer that tells how far a scan is."""

    on_progress: Callable[[Progress], None] | None
    """Is told the state of the scan; None tells nobody."""


class ProgressClock:
    """Turn pieces of work into :class:`Progress`, and tell it after every piece; None tells nobody."""

    def __init__(self, on_progress: Callable[[Progress], None] | None) -> None:
        self.on_progress = on_progress
        self.begin(1.0)

    def begin(self, total: float) -> None:
        """Count from zero to a total amount of work."""
        self.total = total
        self.amount = 0.0
        self.begun = time.perf_counter()

    def advance(self, amount: float) -> None:
        """Count a piece of work and tell."""
        self.amount += amount
        if self.on_progress is not None:
            left = (time.perf_counter() - self.begun) / self.amount * (self.total - self.amount)
            self.on_progress(Progress(min(self.amount / self.total, 1.0), max(left, 0.0)))
