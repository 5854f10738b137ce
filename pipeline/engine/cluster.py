"""The Dask cluster that tasks run on: started in this process, one that exists, or jobs of SLURM."""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.engine.workers import Workers
from pipeline.errors import PETError, reason_of
from pipeline.files import read_yaml

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["connected", "slurm_arguments", "workers_kept"]

_PRELOAD = "pipeline.engine.on_worker"
_CONNECTING = 30.0  # [s]
_SETTINGS = {
    # How often a task may lose its worker is counted here, for all kinds of scheduler alike.
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.worker.profile.enabled": False,
    "distributed.worker.multiprocessing-method": "spawn",
    "distributed.worker.daemon": False,  # a task may start processes
    # Results are small: a worker that has too much memory is ended, and none stops or swaps.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.deploy.lost-worker-timeout": "365 days",  # else one that is lost again while it restarts is given up
    "distributed.admin.large-graph-warning-threshold": "1 GiB",
}

_Started = tuple["Client", Any]
"""A client, and its cluster if it was started here."""
_kept: tuple[ExitStack, dict[str, _Started]] | None = None
"""Workers of `workers_kept`, by where they are."""


@contextmanager
def workers_kept() -> Iterator[None]:
    """Let workers that tasks inside the block have started serve the next tasks too; they end with the block."""
    global _kept
    if _kept is not None:
        yield
        return
    with ExitStack() as stack:
        _kept = stack, {}
        try:
            yield
        finally:
            _kept = None


@contextmanager
def connected(workers: Workers, n_tasks: int) -> Iterator["Client"]:
    """Yield a client of workers, of which so many are wanted.

    Raises
    ------
    PETError
        If a scheduler does not answer, or SLURM's file is not what it must be.
    """
    if _kept is None or workers.fresh:
        with ExitStack() as stack:
            yield _started(workers, n_tasks, stack)[0]
        return
    stack, known = _kept
    client, cluster = known.get(repr(workers), (None, None))
    if client is None:
        client, cluster = known[repr(workers)] = _started(workers, n_tasks, stack)
    elif cluster is not None and workers.slurm is None:
        cluster.scale(max(len(cluster.workers), min(workers.jobs, n_tasks)))
    yield client


def _started(workers: Workers, n_tasks: int, stack: ExitStack) -> _Started:
    """Start or find workers, which end with the stack if they were started."""
    from distributed import Client

    if workers.scheduler is not None:
        try:
            client = Client(workers.scheduler, timeout=_CONNECTING, set_as_default=False)
        except (OSError, ValueError) as error:
            raise PETError(f"{workers.scheduler}: no scheduler answers there ({reason_of(error)})") from error
        return stack.enter_context(client), None
    with _quietly_starting(workers, stack):
        cluster = stack.enter_context(_slurm(workers) if workers.slurm else _local(workers, n_tasks))
        return stack.enter_context(Client(cluster, set_as_default=False)), cluster


@contextmanager
def _quietly_starting(workers: Workers, stack: ExitStack) -> Iterator[None]:
    """Start what begins inside the block with our settings, deaf to Ctrl-C, and without a trace in this process."""
    import dask

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    threads = max(1, _n_processors() // workers.jobs)
    numbers = {f"{name}_NUM_THREADS": threads for name in ("OMP", "MKL", "OPENBLAS")}
    environment = {"distributed.nanny.pre-spawn-environ": numbers}
    stack.enter_context(dask.config.set(_SETTINGS | environment))
    before = dict(os.environ)  # Dask sets its workers' variables here
    mask = getattr(signal, "pthread_sigmask", None)  # threads and processes started meanwhile inherit it
    blocked = mask(signal.SIG_BLOCK, {signal.SIGINT}) if mask else None
    try:
        yield
    finally:
        if mask:
            mask(signal.SIG_SETMASK, blocked)
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _local(workers: Workers, n_tasks: int) -> Any:
    """Start workers of one thread on this machine; no other machine and no other user can reach them."""
    from distributed import LocalCluster
    from distributed.security import Security

    return LocalCluster(
        n_workers=min(workers.jobs, n_tasks),
        threads_per_worker=1,
        memory_limit=workers.memory or 0,
        resources=dict(workers.resources) or None,
        host="tls://127.0.0.1",
        security=Security.temporary(),
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        silence_logs=logging.CRITICAL,
        preload=[_PRELOAD],
    )


def _slurm(workers: Workers) -> Any:
    """Submit jobs to SLURM, each of which is a worker."""
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise PETError("--slurm needs dask-jobqueue: pip install 'unipet_3d[cluster]'") from error
    arguments = slurm_arguments(workers)
    try:
        cluster = SLURMCluster(**arguments)
    except (TypeError, ValueError) as error:
        raise PETError(f"{workers.slurm}: {reason_of(error)}, expected arguments of SLURMCluster") from error
    cluster.scale(jobs=workers.jobs)
    return cluster


def slurm_arguments(workers: Workers) -> dict[str, Any]:
    """Return the arguments of ``dask_jobqueue.SLURMCluster``: the file's, with one scan at a time in each job.

    The file is YAML, either of the arguments themselves or as dask-jobqueue's own, ``jobqueue: {slurm: ...}``. Its
    `cores` are the processors of one scan.

    Raises
    ------
    PETError
        If the file cannot be read, or says nothing of cores and memory.
    """
    path = Path(workers.slurm or "")
    content = read_yaml(path)
    if isinstance(content, dict) and "jobqueue" in content:
        content = (content["jobqueue"] or {}).get("slurm")
    if not isinstance(content, dict) or not {"cores", "memory"} <= content.keys():
        raise PETError(f"{path}: expected the arguments of SLURMCluster, among them cores and memory")
    arguments = {str(key).replace("-", "_"): value for key, value in content.items()}
    if arguments.pop("processes", 1) != 1:
        raise PETError(f"{path}: processes is not 1, expected jobs of one worker each")
    cores = arguments.pop("cores")
    if not isinstance(cores, int) or cores < 1:
        raise PETError(f"{path}: cores is {cores!r}, expected a number of processors")
    options = ["--preload", _PRELOAD]
    if workers.resources:
        options += ["--resources", ",".join(f"{name}={amount:g}" for name, amount in workers.resources.items())]
    return {
        "security": True,  # the scheduler can be reached from the network
        "shared_temp_directory": str(path.resolve().parent),  # keys that the nodes read
        "scheduler_options": {"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        "job_cpu": cores,
        **arguments,
        "cores": 1,
        "processes": 1,
        "job_script_prologue": [f"export OMP_NUM_THREADS={cores}", *(arguments.get("job_script_prologue") or [])],
        "worker_extra_args": [*(arguments.get("worker_extra_args") or []), *options],
    }


def _n_processors() -> int:
    from dask.system import CPU_COUNT

    return int(CPU_COUNT)
