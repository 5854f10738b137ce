"""Memory that this process can still have: of the machine, and of the containers and jobs that it runs in."""

from pathlib import Path

__all__ = ["free_memory"]

_MEMINFO = Path("/proc/meminfo")
_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def free_memory() -> int | None:
    """Return the bytes that can still be had without swapping; None where the system does not say."""
    amounts = [amount for amount in (_of_machine(), *map(_of_group, _group_folders())) if amount is not None]
    return min(amounts, default=None)


def _of_machine() -> int | None:
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return None
    found = [line.split() for line in lines if line.startswith("MemAvailable:")]
    return int(found[0][1]) * 1024 if found else None


def _group_folders() -> list[Path]:
    """Return the control groups around this process, from the inside out: each may have a limit of its own."""
    try:
        lines = _OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return []
    folders = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):  # version 2, version 1
            root = _GROUPS / controllers
            own = root / path.lstrip("/")
            # In a container the path may be that of the host; the root is then the container's own.
            folders += [own, *(folder for folder in own.parents if folder == root or root in folder.parents)]
    return list(dict.fromkeys([*folders, _GROUPS]))


def _of_group(folder: Path) -> int | None:
    """Return what a control group may still take; its cached files do not count, they give way."""
    is_first_version = (folder / "memory.limit_in_bytes").is_file()
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if is_first_version else ("memory.max", "memory.current")
    try:
        limit, used = ((folder / name).read_text(encoding="ascii").strip() for name in names)
        statistics = (folder / "memory.stat").read_text(encoding="ascii").split()
    except OSError:  # no such limit
        return None
    if limit == "max":
        return None
    pairs = dict(zip(statistics[::2], statistics[1::2], strict=False))
    cached = pairs.get("total_inactive_file", pairs.get("inactive_file", 0))
    return max(int(limit) - int(used) + int(cached), 0)
