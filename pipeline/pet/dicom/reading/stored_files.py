"""Where DICOM files lie: below a folder, or in a zip archive, of which nothing is unpacked to the disk."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from stat import S_ISREG
from typing import IO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from pipeline.errors import PETError, reason_of

__all__ = [
    "HARMLESS",
    "HARMLESS_SERIES",
    "MAX_DEFLATION",
    "StoredFile",
    "files_below",
    "is_archive",
    "reopened",
    "walk_folders",
]

HARMLESS = 1 << 24
"""An image of up to this many bytes is read whatever its compression: an empty slice compresses well."""

HARMLESS_SERIES = 1 << 27
"""The same for all files of a folder together."""

MAX_DEFLATION = 100
"""A deflated file that takes this many times its own size is no image: zeros alone take a thousand times."""

_ENCRYPTED = 0x1  # bit of an entry's flags (APPNOTE 4.4.4)
_OUTSIDE = re.compile(r"[/\\]|[A-Za-z]:|(.*[/\\])?\.\.([/\\]|$)", re.DOTALL)


@dataclass(frozen=True)
class StoredFile:
    """A file, or an entry of an archive."""

    path: Path
    """Where it lies. An entry lies below its archive, as if that were a folder; `reopened` finds it there."""

    name: str
    """The path below the folder or archive, for messages."""

    size: int | None
    """Bytes; None of what is no regular file: a link to nothing, or a pipe, which opening would wait for."""

    open: Callable[[], IO[bytes]]
    """Open it for reading."""

    @classmethod
    def at(cls, path: Path, name: str | None = None) -> "StoredFile":
        """Return the file of a path; `name` is its own if None."""
        try:
            found = path.stat()
            size = found.st_size if S_ISREG(found.st_mode) else None
        except FileNotFoundError:
            size = None
        return cls(path, path.name if name is None else name, size, lambda: path.open("rb"))


def walk_folders(
    folder: str | Path, *, enter: Callable[[Path], bool] = lambda place: True
) -> Iterator[tuple[Path, list[str]]]:
    """Yield every folder below a folder with the sorted names of its files.

    Links are followed. A folder that is reached in two ways, as by a link to one above it, is entered once; one that
    `enter` declines is not entered, and neither is what lies below. A folder that cannot be opened is an `OSError`.
    """
    entered: set[str] = set()
    for parent, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        place = os.path.realpath(parent)
        if place in entered or not enter(Path(parent)):
            folders.clear()
            continue
        entered.add(place)
        folders.sort()
        yield Path(parent), sorted(files)


def _raise(error: OSError) -> None:
    raise error


def is_archive(path: Path) -> bool:
    """Return whether a file begins as a zip archive does."""
    with path.open("rb") as file:
        return file.read(4) in {b"PK\3\4", b"PK\5\6"}


def files_below(place: Path) -> Iterator[StoredFile]:
    """Yield every file below a folder, every entry of a zip archive, or a file alone.

    Each can be opened until the next is asked for.

    Raises
    ------
    PETError
        If an archive is damaged, is encrypted, would take far more than its own size, or names a place outside itself.
    OSError
        If a file or folder cannot be opened.
    """
    if place.is_dir():
        for parent, names in walk_folders(place):
            for path in (parent / name for name in names):
                yield StoredFile.at(path, str(path.relative_to(place)))
    elif is_archive(place):
        with _entries(place) as entries:
            yield from entries
    else:
        yield StoredFile.at(place)


def reopened(paths: Iterable[Path]) -> Iterator[StoredFile]:
    """Yield the files of `paths` that `files_below` gave once, each to be opened before the next is asked for.

    Raises
    ------
    PETError
        If an entry is not in its archive any more.
    """
    for archive, members in groupby(paths, key=_archive_of):
        if archive is None:
            yield from map(StoredFile.at, members)
            continue
        with _entries(archive) as entries:
            found = {entry.path: entry for entry in entries}
            for path in members:
                if path not in found:
                    raise PETError(f"{archive.name}: entry {path.name} is gone")
                yield found[path]


def _archive_of(path: Path) -> Path | None:
    """Return the archive that a path lies in, None if it is a file of its own or not there at all."""
    return None if path.exists() else next((parent for parent in path.parents if parent.is_file()), None)


@contextmanager
def _entries(archive: Path) -> Iterator[list[StoredFile]]:
    """Open an archive, check what it says of its entries, and yield the files among them, sorted by name.

    `zipfile` reads no entry beyond the size that is stated for it, so that the stated sizes are a bound.
    """
    try:
        opened = ZipFile(archive)
    except (BadZipFile, NotImplementedError, ValueError) as error:
        raise PETError(f"damaged zip archive ({reason_of(error)}), expected a whole one") from error
    with opened:
        entries = sorted((entry for entry in opened.infolist() if not entry.is_dir()), key=lambda e: e.filename)
        _check_entries(entries, archive.stat().st_size)
        yield [
            StoredFile(archive / entry.filename, entry.filename, entry.file_size, partial(opened.open, entry))
            for entry in entries
        ]


def _check_entries(entries: list[ZipInfo], archive_size: int) -> None:
    names: set[str] = set()
    for entry in entries:
        if _OUTSIDE.match(entry.filename):
            raise PETError(f"the zip archive names {entry.filename[:80]}, expected places inside the archive only")
        if entry.filename in names:
            raise PETError(f"the zip archive has {entry.filename[:80]} twice, expected every name once")
        names.add(entry.filename)
        if entry.flag_bits & _ENCRYPTED:
            raise PETError("the zip archive is encrypted, expected one without a password; unpack it first")
        if entry.compress_type not in {ZIP_STORED, ZIP_DEFLATED}:
            raise PETError(
                f"the zip archive is compressed by method {entry.compress_type}, expected deflate; unpack it first"
            )
        _check_expansion(entry.file_size, entry.compress_size, harmless=HARMLESS)
    _check_expansion(sum(entry.file_size for entry in entries), archive_size, harmless=HARMLESS_SERIES)


def _check_expansion(n_bytes: int, n_stored: int, *, harmless: int) -> None:
    if n_bytes > max(harmless, MAX_DEFLATION * n_stored):
        raise PETError(
            f"the zip archive would take {n_bytes} bytes from {n_stored}, expected at most {MAX_DEFLATION} times more"
        )
