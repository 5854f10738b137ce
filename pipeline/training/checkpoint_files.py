"""A folder of checkpoints in which there is always a complete one, and damage is noticed."""

import hashlib
import io
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pipeline.pet import PETError
from pipeline.pet.atomic import replaced_file

__all__ = [
    "CheckpointFile",
    "checkpoint_files",
    "newest_intact",
    "prune",
    "remove_unfinished",
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
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest().startswith(self.digest)


def save_atomically(state: Mapping[str, Any], path: str | Path) -> None:
    """Write a state of tensors and plain values; ``path`` is the old file or the complete new one at any moment."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as temporary:
        torch.save(dict(state), temporary)


def checkpoint_files(folder: Path) -> list[CheckpointFile]:
    """Checkpoints of a folder, the newest first."""
    named = [(_NAME.fullmatch(path.name), path) for path in folder.glob("iteration-*.pt")]
    files = [CheckpointFile(int(match[1]), match[2], path) for match, path in named if match]
    return sorted(files, reverse=True)


def write_checkpoint(state: Mapping[str, Any], folder: Path, *, iteration: int) -> Path:
    """Write a checkpoint of an iteration into a folder and return its path; others are left alone."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"iteration-{iteration:09d}-{digest}.pt"
    with replaced_file(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())
    return path


def newest_intact(folder: Path) -> CheckpointFile | None:
    """Newest checkpoint whose content is whole, None where there is none; damaged newer ones are set aside.

    They are renamed to ``*.damaged``, so that no later run trusts them and somebody can look at them.

    Raises
    ------
    PETError
        If there are checkpoints, and every one is damaged.
    """
    files = checkpoint_files(folder)
    for file in files:
        if file.is_intact():
            return file
        aside = file.path.rename(file.path.with_suffix(".pt.damaged"))
        logger.warning("%s is damaged and was renamed to %s; trying the one before", file.path, aside.name)
    if files:
        raise PETError(f"{folder}: all {len(files)} checkpoints are damaged, expected an intact one; remove to restart")
    return None


def remove_unfinished(folder: Path, name: str = "*.pt") -> None:
    """Delete what killed processes left of files of that name (a pattern) in a folder."""
    for leftover in folder.glob(f".writing-*-{name}"):
        leftover.unlink()


def prune(folder: Path, *, keep: int, also: Iterable[int] = ()) -> None:
    """Delete all checkpoints but the newest ``keep`` and those of the iterations in ``also``."""
    spared = set(also)
    for file in checkpoint_files(folder)[keep:]:
        if file.iteration not in spared:
            file.path.unlink()
