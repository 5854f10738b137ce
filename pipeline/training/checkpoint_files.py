"""A folder of checkpoints in which there is always a complete one, and damage is noticed."""

import hashlib
import io
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pipeline.errors import PETError, naming
from pipeline.files import replaced_file, sha256_of

__all__ = [
    "CheckpointFile",
    "checkpoint_files",
    "newest_intact",
    "prune",
    "save_atomically",
    "write_checkpoint",
]

logger = logging.getLogger(__name__)

# The name carries the digest of the content: both appear in the one rename that makes the file exist.
_NAME = re.compile(r"iteration-(\d{9})-([0-9a-f]{16})\.pt")


class CheckpointFile(NamedTuple):
    """A file of the folder, as its name describes it."""

    iteration: int
    digest: str
    path: Path

    def is_intact(self) -> bool:
        """Whether the content is what was written."""
        return sha256_of(self.path).startswith(self.digest)


def save_atomically(state: Mapping[str, Any], path: str | Path) -> None:
    """Write a state of tensors and plain values; ``path`` is the old file or the complete new one at any moment."""
    _write(_serialised(state), Path(path))


def checkpoint_files(folder: Path) -> list[CheckpointFile]:
    """Checkpoints of a folder, the newest first."""
    named = [(_NAME.fullmatch(path.name), path) for path in folder.glob("iteration-*.pt")]
    files = [CheckpointFile(int(match[1]), match[2], path) for match, path in named if match]
    return sorted(files, reverse=True)


def write_checkpoint(state: Mapping[str, Any], folder: Path, *, iteration: int) -> Path:
    """Write a checkpoint of an iteration into a folder and return its path; others are left alone."""
    content = _serialised(state)
    digest = hashlib.sha256(content).hexdigest()[:16]
    path = folder / f"iteration-{iteration:09d}-{digest}.pt"
    _write(content, path)
    return path


def newest_intact(folder: Path) -> CheckpointFile | None:
    """Newest checkpoint whose content is whole, None where there is none; damaged newer ones are set aside.

    They are renamed to ``*.damaged``, so that no later run trusts them and somebody can look at them.

    Raises
    ------
    PETError
        If there are checkpoints, and every one is damaged, whichever run found that.
    """
    for file in checkpoint_files(folder):
        if file.is_intact():
            return file
        aside = file.path.rename(file.path.with_suffix(".pt.damaged"))
        logger.warning("%s is damaged and was renamed to %s; trying the one before", file.path, aside.name)
    if n_damaged := len(list(folder.glob("iteration-*.pt.damaged"))):
        raise PETError(f"{folder}: all {n_damaged} checkpoints are damaged, expected an intact one; remove to restart")
    return None


def prune(newest: Path, *, keep: int, also: Iterable[int] = ()) -> None:
    """Delete all checkpoints beside the newest but the ``keep - 1`` before it and those of the iterations in ``also``.

    One that does not come before the newest was counted in longer epochs, and is superseded.
    """
    files = checkpoint_files(newest.parent)
    current = next(file for file in files if file.path == newest)
    before = [file for file in files if file.iteration < current.iteration]
    iterations = set(also)
    spared = {current, *before[: keep - 1], *(file for file in before if file.iteration in iterations)}
    for file in files:
        if file not in spared:
            file.path.unlink()


def _serialised(state: Mapping[str, Any]) -> memoryview:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getbuffer()


def _write(content: memoryview, path: Path) -> None:
    # Not by torch, which would raise a RuntimeError on a full disk.
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(path) as temporary:
            temporary.write_bytes(content)
