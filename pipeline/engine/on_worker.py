"""What a worker does with a task: run it, and end it in a way that lets it remove what it has half written.

Workers that others start load this module first: ``dask worker --nthreads 1 --preload pipeline.engine.on_worker``.
"""

import asyncio
import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pipeline.errors import naming

__all__ = ["TaskOfRun", "dask_setup", "end_tasks"]

Result = TypeVar("Result")

_GRACE = 10.0  # [s] for a task to clean up in

_lock = threading.Lock()
_threads: dict[int, str] = {}
"""Thread that runs a task -> run that the task belongs to."""


class TaskEndedError(BaseException):
    """The run that a task belongs to has ended; as with SystemExit, nothing must stop it on its way out."""


@dataclass(frozen=True)
class TaskOfRun(Generic[Result]):
    """A task that can be ended from outside while it runs."""

    task: Callable[[], Result]
    run: str
    folder: str
    """That of the client, which paths are relative to; workers see the same files."""

    def __call__(self) -> Result:
        """Run the task.

        Raises
        ------
        PETError
            If this machine does not see the client's folder.
        """
        thread = threading.get_ident()
        with _lock:
            _threads[thread] = self.run
        try:
            with naming("folder of the command, on the worker"):
                os.chdir(self.folder)
            return self.task()
        finally:
            with _lock:
                del _threads[thread]
                _raise_in(thread, None)  # what came too late must not reach the next task


async def end_tasks(run: str | None = None) -> bool:
    """Raise `TaskEndedError` in the tasks of a run, or in all; return whether they have ended within the grace."""
    _end(run)
    deadline = time.monotonic() + _GRACE
    while _any_of(run) and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    return not _any_of(run)


def dask_setup(worker: Any) -> None:
    """Let the client alone answer Ctrl-C; ended by the system, clean up before."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _end_worker)


def _end_worker(number: int, frame: object) -> None:
    _end(None)
    deadline = time.monotonic() + _GRACE
    while _any_of(None) and time.monotonic() < deadline:
        time.sleep(0.01)
    os._exit(128 + number)  # the scheduler takes the worker for lost, and its task runs elsewhere


def _end(run: str | None) -> None:
    with _lock:
        for thread, its_run in _threads.items():
            if run in (None, its_run):
                _raise_in(thread, TaskEndedError)


def _any_of(run: str | None) -> bool:
    with _lock:
        return any(run in (None, its_run) for its_run in _threads.values())


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Raise an error in a thread before its next step in Python; None takes one back that has not been raised yet."""
    raised = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)
