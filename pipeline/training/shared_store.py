"""One store for several processes: prepared by the first, opened by all."""

from pathlib import Path
from typing import Any

from torch import distributed

from pipeline.data import Store, prepared_store
from pipeline.training.distributed import is_main_process, world_size

__all__ = ["shared_store"]


def shared_store(manifest: str | Path, store: str | Path, *, root: str | Path, jobs: int = 1) -> Store:
    """Let the first process bring a store up to date as :func:`~pipeline.data.prepared_store` does; open it in all.

    Every process must call this. The others wait as long as their process group lets them, so simulate before.

    Raises
    ------
    PETError
        In the first process: if the store cannot be prepared.
    """
    if world_size() == 1:
        return prepared_store(manifest, store, root=root, jobs=jobs)
    subjects: list[Any] = [None]
    if is_main_process():
        prepared = prepared_store(manifest, store, root=root, jobs=jobs)
        subjects = [list(prepared.subjects)]
    distributed.broadcast_object_list(subjects)
    return prepared if is_main_process() else Store(store, subjects=subjects[0])
