"""Tasks run, and their results as they finish."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar, overload

from pipeline.engine.workers import Workers
from pipeline.errors import PETError, line_for_user, reason_of

__all__ = ["Failure", "run_tasks"]

Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """Why a task has no result."""

    reason: str
    """One line in words."""


@overload
def run_tasks(
    tasks: Sequence[Callable[[], Result]], *, where: Workers | int = 1, keep_going: Literal[False] = False
) -> Iterator[tuple[int, Result]]: ...


@overload
def run_tasks(
    tasks: Sequence[Callable[[], Result]], *, where: Workers | int = 1, keep_going: bool
) -> Iterator[tuple[int, Result | Failure]]: ...


def run_tasks(
    tasks: Sequence[Callable[[], Result]], *, where: Workers | int = 1, keep_going: bool = False
) -> Iterator[tuple[int, Result | Failure]]:
    """Run tasks that need nothing of each other, and yield each one's index and result as it finishes.

    A task whose worker is lost runs again on another one. When the caller stops iterating, or an error ends the
    iteration, tasks that wait are dropped, and those that run are ended in a way that lets them remove what they have
    half written.

    Parameters
    ----------
    tasks
        Functions without arguments; unless all runs in this process, they and their results must be picklable.
    where
        Workers, or the number of processes on this machine; with 1, all runs in this one.
    keep_going
        Whether a task that fails gives a `Failure`; otherwise the first error ends the iteration.

    Raises
    ------
    PETError
        If a worker was ended from outside too often, as the system does when memory runs out; not with `keep_going`.
    Exception
        Whatever a task raises; not with `keep_going`.
    """
    workers = Workers.of(where)
    runs: list[Callable[[], Result | Failure]] = [partial(_outcome, task) if keep_going else task for task in tasks]
    alone = workers.jobs == 1 or (len(tasks) < 2 and not keep_going)
    if alone and not workers.fresh and not workers.elsewhere:
        for index, task in enumerate(runs):
            yield index, task()
    else:
        yield from _run_in_processes(runs, jobs=workers.jobs)


def _outcome(task: Callable[[], Result]) -> Result | Failure:
    """Return a task's result, or why there is none."""
    try:
        return task()
    except Exception as error:  # noqa: BLE001 - one that fails must not stop the others, whatever it raises
        return Failure(line_for_user(error) or f"{type(error).__name__}: {reason_of(error)}")


def _run_in_processes(tasks: Sequence[Callable[[], Result]], *, jobs: int) -> Iterator[tuple[int, Result]]:
    others = set(multiprocessing.active_children())
    # Fresh processes: forking one that holds BLAS or GPU threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max(1, min(jobs, len(tasks))), mp_context=context, initializer=_start_worker) as pool:
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
