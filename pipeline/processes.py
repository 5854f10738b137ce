"""Processes that leave nothing behind: not when a task fails, not when one is ended, not when the parent is killed."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import TypeVar

from pipeline.errors import PETError, line_for_user

__all__ = ["end_by_signals", "end_in_one_line", "run_in_processes"]

Result = TypeVar("Result")


def run_in_processes(
    tasks: Sequence[Callable[[], Result]], *, jobs: int = 1, fresh: bool = False
) -> Iterator[tuple[int, Result]]:
    """Run tasks that need nothing of each other, and yield each one's index and result as it finishes.

    The first error ends the iteration: tasks that wait are dropped, and those that run are ended in a way that lets
    them remove what they have half written. The same happens when the caller stops iterating.

    Parameters
    ----------
    tasks
        Functions without arguments; with more than one job, they and their results must be picklable.
    jobs
        Processes; with 1, or with a single task, all runs in this one.
    fresh
        Whether no task may run in this process, as where memory is measured.

    Raises
    ------
    PETError
        If a process was ended from outside, as the system does when memory runs out.
    Exception
        Whatever a task raises.
    """
    if not fresh and (jobs == 1 or len(tasks) < 2):
        for index, task in enumerate(tasks):
            yield index, task()
        return
    others = set(multiprocessing.active_children())
    # Fresh processes: forking one that holds BLAS or GPU threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=context, initializer=_start_worker) as pool:
        index_of = {pool.submit(task): index for index, task in enumerate(tasks)}
        try:
            for future in as_completed(index_of):
                yield index_of[future], future.result()
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()
            if isinstance(error, BrokenProcessPool):
                reason = "a process was ended from outside, as when memory runs out"
                raise PETError(f"{reason}; expected enough for {jobs} jobs, try fewer") from error
            raise


def end_by_signals() -> None:
    """Leave through the stack, which removes what is half written, when the system or the terminal ends the process."""
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        if number := getattr(signal, name, None):
            signal.signal(number, lambda n, _: sys.exit(128 + n))


def end_in_one_line() -> None:
    """Let this process end in one line where the mistake is the user's, and clean up when it is ended.

    This is for processes whose entry point is not ours, such as `python -m monai.bundle run`, and for its `initialize`.
    """

    def say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        line = "interrupted, nothing half written is left"
        if not isinstance(error, KeyboardInterrupt) and (line := line_for_user(error) or "") == "":
            sys.__excepthook__(kind, error, trace)
        else:
            print(f"unipet: {line}", file=sys.stderr)

    sys.excepthook = say
    end_by_signals()


def _start_worker() -> None:
    """Let the parent alone answer Ctrl-C, clean up when ended, and end with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait for the parent's end: killed, it cannot end its workers, which would go on writing beside a second run."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
