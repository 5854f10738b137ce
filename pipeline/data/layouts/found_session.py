"""Candidate: a scan session as a layout finds it on disk, before any header is read."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.manifest import Exclusion, File, Image, Split

__all__ = ["Candidate", "identifier", "relative"]

_LONGEST = 128


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One session: which files belong together, and what was seen that does not."""

    id: str
    """Unique in the data set, and the same whatever other subjects are there."""
    name: str
    """Name of its folder or case, as the data set calls it."""
    patient: str
    """Who it is."""
    images: tuple[Image, ...] = ()
    """PET images."""
    split: Split | None = None
    """Where the data set publishes one."""
    tracer: str = ""
    """Where the data set states it for all."""
    scanner: str = ""
    """Where the data set states it and the files do not."""
    lesions: File | None = None
    """Labels on the grid of the PET images."""
    organs: File | None = None
    """Labels on the grid of the PET images."""
    attenuation: File | None = None
    """Linear attenuation at 511 keV [1/mm] on the grid of the PET images."""
    ct: File | None = None
    """CT in HU, on any grid."""
    left_out: tuple[Exclusion, ...] = ()
    """What was found and cannot be used, or is missing; one that is whole excludes the session."""


def identifier(*parts: str) -> str:
    """Return an id made of names: only letters, digits, dot, dash and underscore, 128 characters at most."""
    text = re.sub(r"[^A-Za-z0-9._-]+", "-", "_".join(parts)).strip("-._") or "subject"
    if len(text) <= _LONGEST:
        return text
    digest = hashlib.sha256("_".join(parts).encode()).hexdigest()[:16]
    return f"{text[: _LONGEST - 17]}-{digest}"


def relative(path: Path, root: Path) -> str:
    """Return a path as a manifest writes it: below the root, with forward slashes."""
    return path.relative_to(root).as_posix()
