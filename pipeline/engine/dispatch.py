"""Which task runs on which worker: one at a time, so that the loss of a worker tells which task lost it."""

import logging
import queue
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pipeline.engine.on_worker import TaskOfRun, end_tasks
from pipeline.engine.workers import Workers
from pipeline.errors import PETError

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Dispatch", "LostError"]

Result = TypeVar("Result")

logger = logging.getLogger(__name__)

_MOST_LOSSES = 3
_POLL = 0.5  # [s] between looks for workers that have come
_STARTING = 300.0  # [s] for a worker on this machine to start or to start again
_ENDING = 20.0  # [s] for workers to say that their tasks have ended


class LostError(PETError):
    """A task lost its worker so often that it is taken for the cause."""


class Dispatch(Generic[Result]):
    """Tasks on the workers of a client.

    A worker is given its next task when it has finished one. A task that loses its worker is given to another one, and
    after three losses to none. Dask alone would blame all tasks that wait on a worker for its end.
    """

    def __init__(self, client: "Client", tasks: Sequence[Callable[[], Result]], workers: Workers) -> None:
        self._client = client
        self._tasks = tasks
        self._workers = workers
        self._run = uuid.uuid4().hex
        self._waiting = deque(range(len(tasks)))
        self._running: dict[Future, tuple[int, str]] = {}
        """What is running -> index of the task, and address of its worker."""
        self._losses: Counter[int] = Counter()
        self._finished: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self._alone_since: float | None = None

    def results(self) -> Iterator[tuple[int, Result | Exception]]:
        """Yield the index of each task as it finishes, and its result or the error that it raised."""
        try:
            while self._waiting or self._running:
                if self._waiting:
                    self._fill()
                yield from self._finished_tasks()
        finally:
            if self._running:
                self._end_running()

    def _finished_tasks(self) -> list[tuple[int, Result | Exception]]:
        """Wait a little; return the next result, and nothing kept of it on its worker, with which it would be lost."""
        try:
            future = self._finished.get(timeout=_POLL)
        except queue.Empty:
            return []
        index, _ = self._running.pop(future)
        if future.status == "cancelled":
            raise self._no_scheduler()
        try:
            return [(index, future.result())]
        except Exception as error:  # noqa: BLE001 - tasks raise anything
            return self._failed(index, error)

    def _failed(self, index: int, error: Exception) -> list[tuple[int, Result | Exception]]:
        """Return the error of a task, or nothing if it is to run again since its worker was lost."""
        from distributed import KilledWorker

        if not isinstance(error, KilledWorker):
            return [(index, error)]
        self._losses[index] += error.allowed_failures + 1  # a scheduler that is not ours has tried that often
        if self._losses[index] < _MOST_LOSSES:
            self._waiting.appendleft(index)
            return []
        lost = LostError(
            f"its worker was ended or lost {self._losses[index]} times, as when memory runs out; "
            f"expected enough for {self._workers.what_is_at_once()}"
        )
        return [(index, lost)]

    def _fill(self) -> None:
        """Give each worker that has nothing to do a task."""
        free = self._free_workers()
        if free or self._running:
            self._alone_since = None
        else:
            self._wait_for_workers()
        for address in free:
            if not self._waiting:
                return
            index = self._waiting.popleft()
            future = self._client.submit(
                TaskOfRun(self._tasks[index], self._run, str(Path.cwd())),
                key=f"unipet-{self._run}-{index}-{self._losses[index]}",
                workers=[address],
                allow_other_workers=True,
                resources=dict(self._workers.resources) or None,
                pure=False,
            )
            self._running[future] = index, address
            future.add_done_callback(self._finished.put)

    def _wait_for_workers(self) -> None:
        """Say once that there are none; those of this machine must start in bounded time."""
        if self._alone_since is None:
            self._alone_since = time.monotonic()
            if self._workers.elsewhere:
                logger.warning("there is no worker yet, waiting for the first")
        if not self._workers.elsewhere and time.monotonic() - self._alone_since > _STARTING:
            raise PETError(f"no worker has started within {_STARTING:.0f} s, try fewer than {self._workers.jobs} jobs")

    def _free_workers(self) -> list[str]:
        """Return the addresses of workers without a task of ours that have what a task needs."""
        found = self._ask(self._client.scheduler.identity, n_workers=-1)["workers"]
        busy = {address for _, address in self._running.values()}
        needed = self._workers.resources
        able = {
            address: worker
            for address, worker in found.items()
            if all(worker["resources"].get(name, 0) >= amount for name, amount in needed.items())
        }
        if found and not able:
            asked = ", ".join(f"{name} {amount:g}" for name, amount in needed.items())
            raise PETError(f"none of {len(found)} workers has {asked}, expected workers started with --resources")
        for address, worker in able.items():
            if worker["nthreads"] != 1:
                raise PETError(f"{address}: the worker has {worker['nthreads']} threads, expected --nthreads 1")
        return [address for address, worker in able.items() if address not in busy and worker["status"] == "running"]

    def _ask(self, question: Callable[..., Any], **arguments: Any) -> Any:
        try:
            return self._client.sync(question, **arguments)
        except (OSError, TimeoutError) as error:
            raise self._no_scheduler() from error

    def _no_scheduler(self) -> PETError:
        return PETError(f"{self._workers.scheduler or 'the scheduler'}: the connection was lost, expected a scheduler")

    def _end_running(self) -> None:
        """End the tasks that run, and the workers whose tasks do not end."""
        addresses = {address for _, address in self._running.values()}
        try:
            self._client.cancel(list(self._running), force=True)
            ended = self._client.sync(
                self._client._run, end_tasks, self._run, on_error="ignore", callback_timeout=_ENDING
            )
            if stubborn := [address for address, done in ended.items() if address in addresses and not done]:
                self._client.restart_workers(stubborn, timeout=_ENDING, raise_for_error=False)
        except (OSError, TimeoutError, ValueError):
            logger.warning("tasks may still be running on workers that do not answer: %s", ", ".join(sorted(addresses)))
