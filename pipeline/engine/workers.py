"""Where tasks run: how many at once, on which machines, and what each may take."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import PETError

__all__ = ["Workers"]


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Where tasks run.

    Raises
    ------
    PETError
        If there is not at least one job, or both a scheduler and SLURM are named.
    """

    jobs: int = 1
    """Tasks at once on this machine, or jobs of SLURM; 1 is this process itself. A scheduler's workers are its own."""
    memory: int | None = None
    """Bytes that a worker on this machine may take; one that takes more is ended and its task tried again."""
    scheduler: str | None = None
    """Address of a Dask scheduler that runs already, such as ``tcp://node1:8786``."""
    slurm: Path | None = None
    """File of the arguments of ``dask_jobqueue.SLURMCluster``, as YAML or INI: its workers are SLURM's jobs."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """What each task takes of what a worker has, such as ``{"GPU": 1}``."""
    fresh: bool = False
    """Whether no task runs in this process even with one job, as where memory is measured."""

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise PETError(f"jobs {self.jobs}, expected at least 1")
        if self.scheduler is not None and self.slurm is not None:
            raise PETError(f"scheduler {self.scheduler} and slurm {self.slurm}: expected one of them")

    @classmethod
    def of(cls, where: "Workers | int") -> "Workers":
        """Return workers, of which a mere number is that of processes on this machine."""
        return where if isinstance(where, Workers) else cls(jobs=where)

    @property
    def elsewhere(self) -> bool:
        """Whether the workers may be other machines."""
        return self.scheduler is not None or self.slurm is not None

    def what_is_at_once(self) -> str:
        """Return in words what memory must suffice for."""
        if self.elsewhere:
            return "each worker"
        each = "" if self.memory is None else f" of {self.memory / 2**30:.3g} GiB"
        return f"{self.jobs} jobs{each}, try fewer"
