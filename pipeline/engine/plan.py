"""How many tasks may run at once in the memory and on the disk that there is: fewer wait for each other, none swaps."""

from dataclasses import dataclass

from pipeline.errors import PETError

__all__ = ["Plan", "plan"]

_GIB = 2**30


@dataclass(frozen=True)
class Plan:
    """How many tasks run at once."""

    jobs: int
    """Tasks at once, at least 1."""
    memory: int | None
    """Bytes that each of them may take; None where the system does not say what there is."""
    reason: str = ""
    """One line on why there are fewer than wanted; empty where there are as many."""


def plan(
    n_tasks: int,
    *,
    jobs: int,
    memory_per_task: int,
    disk_per_task: int,
    free_memory: int | None,
    free_disk: int | None,
) -> Plan:
    """Return how many of the wanted jobs fit into memory, after seeing that all tasks' results fit on the disk.

    Parameters
    ----------
    n_tasks
        Tasks that are to be done in all.
    jobs
        Tasks wanted at once.
    memory_per_task, disk_per_task
        Bytes that the largest task needs while it runs, and that a task leaves.
    free_memory, free_disk
        Bytes that there are, as `pipeline.memory.free_memory` and `shutil.disk_usage` say; None is unknown.

    Raises
    ------
    PETError
        If memory does not suffice for one task, or the disk not for all results.
    """
    if n_tasks < 0 or jobs < 1 or memory_per_task < 0 or disk_per_task < 0:
        raise ValueError(
            f"{n_tasks} tasks, {jobs} jobs, {memory_per_task} and {disk_per_task} bytes: expected none below 0"
        )
    written = n_tasks * disk_per_task
    if free_disk is not None and written > free_disk:
        raise PETError(
            f"{n_tasks} results need about {_gib(written)} of disk, {_gib(free_disk)} are free: "
            f"enough for {free_disk // disk_per_task}"
        )
    wanted = max(1, min(jobs, n_tasks))
    if free_memory is None:
        return Plan(wanted, None)
    fitting = wanted if memory_per_task == 0 else free_memory // memory_per_task
    if n_tasks and not fitting:
        raise PETError(f"one scan needs about {_gib(memory_per_task)} of memory, {_gib(free_memory)} are free")
    at_once = max(1, min(wanted, fitting))
    reason = ""
    if at_once < wanted:
        each = f"each needs about {_gib(memory_per_task)} of memory, {_gib(free_memory)} are free"
        reason = f"{at_once} at once instead of {wanted}: {each}"
    return Plan(at_once, free_memory // at_once, reason)


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / _GIB:.3g} GiB"
