"""Tasks run, and their results as they finish."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar, overload

from pipeline.engine.cluster import connected
from pipeline.engine.dispatch import Dispatch
from pipeline.engine.workers import Workers
from pipeline.errors import line_for_user, reason_of

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

    A task whose worker is lost runs again on another one, three times in all. When the caller stops iterating, or an
    error ends the iteration, tasks that wait are dropped, and those that run are ended in a way that lets them remove
    what they have half written.

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
        If the scheduler is lost; and, without `keep_going`, if a task has lost its worker three times, as when the
        system ends it because memory runs out.
    Exception
        Whatever a task raises, without `keep_going`.
    """
    workers = Workers.of(where)
    if not tasks:
        return
    runs: list[Callable[[], Result | Failure]] = [partial(_outcome, task) if keep_going else task for task in tasks]
    alone = workers.jobs == 1 or (len(tasks) == 1 and not keep_going)
    if alone and not workers.fresh and not workers.elsewhere:
        for index, task in enumerate(runs):
            yield index, task()
        return
    with connected(workers, len(tasks)) as client:
        for index, outcome in Dispatch(client, runs, workers).results():
            if not isinstance(outcome, Exception):
                yield index, outcome
            elif keep_going:
                yield index, _failure(outcome)
            else:
                raise outcome


def _outcome(task: Callable[[], Result]) -> Result | Failure:
    """Return a task's result, or why there is none."""
    try:
        return task()
    except Exception as error:  # noqa: BLE001 - one that fails must not stop the others, whatever it raises
        return _failure(error)


def _failure(error: Exception) -> Failure:
    return Failure(line_for_user(error) or f"{type(error).__name__}: {reason_of(error)}")
