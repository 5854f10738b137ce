"""An adaptation that kills its own process at a chosen point, as SIGKILL from outside would."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from pipeline.adaptation import AdaptationSettings, adapt

_WATCHED = ("adapt.py", "pairs.py", "judging.py", "record.py", "prepare.py", "checkpoint.py", "checkpoint_files.py")


class Points:
    """Counts the lines of the code that makes, saves and resumes, and kills the process at one of them."""

    def __init__(self, kill_at: int | None) -> None:
        self.kill_at = kill_at
        self.n = 0

    def trace(self, frame: FrameType, event: str, argument: Any) -> Callable | None:
        if Path(frame.f_code.co_filename).name not in _WATCHED:
            return None
        if event == "line":
            if self.n == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            self.n += 1
        return self.trace


def run(site: Path, output: Path, settings: AdaptationSettings, kill_at: int | None, queue: Any = None) -> None:
    """Adapt to the end and report how many points were passed, or until point `kill_at`, counted from 0."""
    torch.set_num_threads(1)
    points = Points(kill_at)
    sys.settrace(points.trace)
    try:
        adapt([site], output, settings)
    finally:
        sys.settrace(None)
    if queue is not None:
        queue.put(points.n)
