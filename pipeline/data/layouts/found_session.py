"""A scan session as a layout finds it on disk, before its headers are read and after."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.data.manifest import Exclusion, File, Image, Split, other_files
from pipeline.pet.dicom.reading.stored_files import walk_folders

if TYPE_CHECKING:
    from pipeline.data.building.headers import ImageHeader

__all__ = ["FoundSession", "file_at", "files_below", "folders_below", "identifier", "relative"]

_LONGEST = 128


@dataclass(frozen=True, kw_only=True)
class FoundSession:
    """One session: which files belong together, what was seen that does not, and what the headers say."""

    id: str
    """Unique in the data set, and the same whatever other subjects are there."""
    name: str
    """Name of its folder or case, as the data set calls it."""
    patient: str
    """Name that all sessions of the patient share."""
    images: tuple[Image, ...] = ()
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
    header: ImageHeader | None = None
    """Of the full-dose image, once it was read; None as well if the session is excluded."""
    identities: frozenset[str] = frozenset()
    """Digests of the identifiers of the patient in DICOM."""

    def files(self) -> Iterator[File]:
        """Every file of the session."""
        yield from self.images
        yield from other_files(self).values()

    def without(self, paths: Collection[str]) -> FoundSession:
        """Return the session without some of its files."""
        gone: dict[str, Any] = {name: None for name, file in other_files(self).items() if file.path in paths}
        return replace(self, images=tuple(image for image in self.images if image.path not in paths), **gone)

    def leaving_out(self, *exclusions: Exclusion) -> FoundSession:
        """Return the session with further exclusions."""
        return replace(self, left_out=(*self.left_out, *exclusions))


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


def files_below(folder: Path, pattern: str) -> list[Path]:
    """Return the files below a folder whose names match, sorted; links are followed."""
    return sorted(place / n for place, names in walk_folders(folder) for n in names if fnmatchcase(n, pattern))


def folders_below(folder: Path, name: str) -> list[Path]:
    """Return the folders of a name below a folder, sorted; links are followed."""
    return sorted(place for place, _ in walk_folders(folder) if place.name == name and place != folder)


def file_at(path: Path, root: Path) -> File | None:
    """Return a file as a manifest writes it, or None if it is not there."""
    return File(path=relative(path, root)) if path.is_file() else None
