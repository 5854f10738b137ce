"""One training in several processes: who this process is, its device, and the store that all share.

Rank and number come from torch itself: ignite.distributed remembers a process group, and fails once it was left.
"""

import os
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from pipeline.data import Store, prepared_store
from pipeline.errors import PETError

__all__ = [
    "is_main_process",
    "leave_processes",
    "process_device",
    "process_rank",
    "process_slice",
    "shared_store",
    "world_size",
]


def process_rank() -> int:
    """Return the number of this process, 0 where there is only one."""
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes that train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def is_main_process() -> bool:
    """Return whether this is the process that writes files and logs."""
    return process_rank() == 0


def process_slice(items: list) -> list:
    """Return every n-th item, beginning at this process's own number: its part of what n processes share.

    Raises
    ------
    PETError
        If there are fewer items than processes: one that has nothing to do leaves the others waiting for it.
    """
    if len(items) < world_size():
        raise PETError(f"{len(items)} items for {world_size()} processes, expected at least one for each")
    return items[process_rank() :: world_size()]


def process_device() -> torch.device:
    """Return the device of this process as ``torchrun`` assigned it; joins the process group on the first call.

    LOCAL_RANK, the number of the process on its own machine, decides the GPU, so any number of nodes will do.
    Without ``torchrun`` it is the first GPU, or the CPU where there is none.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    has_gpu = torch.cuda.is_available()
    device = torch.device("cuda", local_rank) if has_gpu else torch.device("cpu")
    if has_gpu:
        torch.cuda.set_device(device)
    if "WORLD_SIZE" in os.environ and not distributed.is_initialized():
        distributed.init_process_group("nccl" if has_gpu else "gloo")
    return device


def leave_processes() -> None:
    """Leave the process group, if there is one."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def shared_store(manifest: str | Path, store: str | Path, **options: Any) -> Store:
    """Let the first process bring a store up to date as :func:`~pipeline.data.prepared_store` does; open it in all.

    Every process must call this. The others wait as long as their process group lets them, so simulate before.

    Raises
    ------
    PETError
        In the first process: if the store cannot be prepared.
    """
    if world_size() == 1:
        return prepared_store(manifest, store, **options)
    subjects: list[Any] = [None]
    if is_main_process():
        prepared = prepared_store(manifest, store, **options)
        subjects = [list(prepared.subjects)]
    distributed.broadcast_object_list(subjects)
    return prepared if is_main_process() else Store(store, subjects=subjects[0])
