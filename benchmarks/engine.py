"""What the engine costs: starting its workers, a task on them, and how the rate of tasks grows with the workers.

python benchmarks/engine.py [--tasks 200] [--seconds 0.25] [--workers 64]

Prints one Markdown table. The task of the growth spins on the processor for a stated time, or sleeps for it; the many
workers are threads of one process under the same scheduler and dispatch, and their tasks sleep.
"""

import argparse
import logging
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from pipeline.engine import Workers, run_tasks, workers_kept


def nothing() -> None:
    """Do nothing: what such a task takes is the engine's."""


def sleep(seconds: float) -> None:
    """Wait, as for a disk or a GPU."""
    time.sleep(seconds)


def compute(seconds: float) -> None:
    """Keep a processor busy for so long of its own time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def seconds_of(tasks: list[Callable[[], None]], where: Workers | int) -> float:
    """Return how long tasks take on workers that have started."""
    started = time.perf_counter()
    for _ in run_tasks(tasks, where=where):
        pass
    return time.perf_counter() - started


def start_of_pool(jobs: int) -> float:
    """Return how long a pool of processes takes to start, to do a task each, and to end: what the engine replaced."""
    started = time.perf_counter()
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(sleep, [0.0] * jobs))
    return time.perf_counter() - started


def rate(task: Callable[[], None], n_tasks: int, n_workers: int, *, processes: bool) -> float:
    """Return tasks per hour of workers that are processes, or threads of this process."""
    from distributed import LocalCluster

    options = {"processes": processes, "protocol": "tcp://", "dashboard_address": "127.0.0.1:0"}
    quiet = {"scheduler_kwargs": {"dashboard": False}, "silence_logs": logging.CRITICAL}
    with LocalCluster(n_workers=n_workers, threads_per_worker=1, **options, **quiet) as cluster, workers_kept():
        where = Workers(scheduler=cluster.scheduler_address)
        seconds_of([partial(sleep, 0.1)] * n_workers, where)
        return 3600 * n_tasks / seconds_of([task] * n_tasks, where)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=200, help="number of tasks of each measurement")
    parser.add_argument("--seconds", type=float, default=0.25, help="time of a task [s]")
    parser.add_argument("--workers", type=int, default=64, help="number of the many workers")
    parser.add_argument("--scan", type=float, default=16.0, help="time of a task of the many workers [s]")
    given = parser.parse_args()

    print("| measured | value |\n|---|---|")
    tell("start and end of 2 processes, a pool", f"{start_of_pool(2):.2f} s")
    started = time.perf_counter()
    with workers_kept():
        seconds_of([nothing] * 2, 2)
        tell("start of 2 workers, Dask imported", f"{time.perf_counter() - started:.2f} s")
        of_processor = time.process_time()
        empty = seconds_of([nothing] * given.tasks, 2)
        of_processor = time.process_time() - of_processor
        each = f"{1000 * empty / given.tasks:.1f} ms, {1000 * of_processor / given.tasks:.1f} ms of processor"
        tell("a task that does nothing, 2 workers", each)
        ending = time.perf_counter()
    tell("end of 2 workers", f"{time.perf_counter() - ending:.2f} s")
    n_many = 4 * given.workers
    found = rate(partial(sleep, given.scan), n_many, given.workers, processes=False)
    ideal = 3600 * given.workers / given.scan
    told = f"{found:.0f} per hour, {found / ideal:.1%} of {ideal:.0f}"
    tell(f"a task that sleeps {given.scan:g} s, {given.workers} workers, {n_many} tasks", told)
    for name, kind in (("sleeps", sleep), ("computes", compute)):
        task = partial(kind, given.seconds)
        one, two = (rate(task, given.tasks, n_workers, processes=True) for n_workers in (1, 2))
        told = f"{one:.0f} and {two:.0f} per hour, ratio {two / one:.2f}"
        tell(f"a task that {name} {given.seconds:g} s, 1 and 2 workers", told)


def tell(name: str, value: str) -> None:
    """Print a row of the table at once."""
    print(f"| {name} | {value} |", flush=True)


if __name__ == "__main__":
    main()
