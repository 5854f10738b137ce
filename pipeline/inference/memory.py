"""How much memory there is, and whether an error says that there was too little."""

from pathlib import Path

import torch

__all__ = ["available_memory", "is_out_of_memory", "release_memory"]

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")


def available_memory(device: torch.device | str) -> int | None:
    """Bytes that can still be had on a device; None where the system does not say."""
    device = torch.device(device)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    amounts = [amount for amount in (_of_machine(), _of_group()) if amount is not None]
    return min(amounts, default=None)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had; torch has three ways to say so."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def release_memory(device: torch.device | str) -> None:
    """Give cached memory of a GPU back; what is no longer referred to on a CPU is free already."""
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()


def _of_machine() -> int | None:
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return None
    found = [line.split() for line in lines if line.startswith("MemAvailable:")]
    return int(found[0][1]) * 1024 if found else None


def _of_group() -> int | None:
    """What the container may still take; its cached files do not count, they give way."""
    try:
        limit = (_GROUP / "memory.max").read_text(encoding="ascii").strip()
        used = int((_GROUP / "memory.current").read_text(encoding="ascii"))
        statistics = (_GROUP / "memory.stat").read_text(encoding="ascii").split()
    except (OSError, ValueError):  # no such limit
        return None
    if limit == "max":
        return None
    pairs = dict(zip(statistics[::2], statistics[1::2], strict=False))
    return max(int(limit) - used + int(pairs.get("inactive_file", 0)), 0)
