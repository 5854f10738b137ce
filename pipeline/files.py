"""Write, lock and read files: a target is either complete or not there.

The content goes to a temporary name beside the target, reaches the disk, and is renamed last. A folder that
cannot be renamed onto (a mount point, the working directory) gets its entries renamed one by one.
"""

import gzip
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from io import BufferedIOBase
from pathlib import Path
from secrets import token_hex
from typing import Any

from pipeline.errors import BusyError, PETError

__all__ = [
    "UNFINISHED",
    "added_files",
    "image_stream",
    "locked_folder",
    "new_folder",
    "read_yaml",
    "remove",
    "remove_unfinished",
    "replaced_file",
    "sha256_of",
    "write_json",
    "write_text",
]

logger = logging.getLogger(__name__)

UNFINISHED = ".writing-"
"""Begins the name of every file and folder that is not complete yet; a killed process leaves some behind."""


FOLDERS_CAN_BE_SYNCED = os.name != "nt"
"""Windows opens no folder, and its file systems write the entries of a folder themselves."""

_DEEPEST = 100  # levels of YAML; libyaml ends the process when its stack overflows
_BLOCK = 1 << 20  # bytes read at once


@contextmanager
def replaced_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target` that becomes `target` if the block succeeds, else disappears.

    Parameters
    ----------
    target
        File to write; an existing one is replaced.

    Raises
    ------
    PETError
        If the parent folder does not exist or the file cannot be written. The message names the target.
    """
    parent = _parent(target)
    if target.is_dir():
        raise PETError(f"{target}: is a folder, expected the name of a file")
    # The suffix stays at the end, so that readers recognise the format while the file is being checked.
    temporary = parent / f"{UNFINISHED}{token_hex(4)}-{target.name}"
    try:
        with _naming(target, temporary):
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            yield temporary
            is_part = any(name.startswith(UNFINISHED) for name in parent.parts)  # and reaches the disk with the whole
            if not is_part:
                _sync(temporary)
            temporary.replace(target)
            if not is_part:
                _sync(parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(target: Path, *, within: Path | None = None, replaces: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `target` that becomes `target` if the block succeeds, else disappears.

    Parameters
    ----------
    target
        Folder to create; it must be absent or empty. A symbolic link is followed.
    within
        Where the temporary folder is made, on the same file system as the target; by default beside it.
    replaces
        Whether the target may hold something, which disappears when the new folder is complete, and not before. A
        process that is killed between the two leaves one of them, or neither, and never a half.

    Raises
    ------
    PETError
        If the target holds something already, the parent folder does not exist, or something cannot be written. The
        message names the target.
    """
    parent = _parent(target)
    with _naming(target, None):
        if not replaces and target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise PETError(f"{target}: exists and is not an empty folder, expected a new one")
    # A link is not a folder to rename onto; what it points to is. Windows renames onto no folder at all.
    place = target.resolve()
    cannot_move = not replaces and place.is_dir() and (os.name == "nt" or place.is_mount() or place == Path.cwd())
    parent = place if cannot_move else _parent(place) if within is None else within
    temporary, old = parent / f"{UNFINISHED}{token_hex(4)}", parent / f"{UNFINISHED}{token_hex(4)}"
    try:
        with _naming(target, temporary):
            temporary.mkdir()
            yield temporary
            _sync_all(temporary)
            if cannot_move:
                for entry in sorted(temporary.iterdir()):
                    entry.rename(place / entry.name)
            else:
                if replaces and place.exists():
                    place.rename(old)
                # Atomic on POSIX, also onto an empty folder.
                temporary.replace(place)
            _sync(place if cannot_move else place.parent)
    finally:
        if old.exists() and not place.exists():
            old.rename(place)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def added_files(target: Path, *, within: Path, first: str, replacing: Iterable[str] = ()) -> Iterator[Path]:
    """Yield a temporary folder whose entries are all moved into `target` if the block succeeds, or none is.

    Parameters
    ----------
    target
        Folder that may hold other files; made if need be.
    within
        Existing folder of the same file system, where the temporary one is made.
    first
        Name of the entry that is moved first, and removed last: it is there while any of the others is, and can say
        which they are. So nothing is left without a name by a process that is killed meanwhile.
    replacing
        Names of entries of the target that disappear before the new ones are moved.

    Raises
    ------
    PETError
        If another entry is in the target already, or something cannot be written. The message names the target.
    """
    temporary = within / f"{UNFINISHED}{token_hex(4)}"
    moved: list[Path] = []
    try:
        with _naming(target, temporary):
            temporary.mkdir()
            yield temporary
            _sync_all(temporary)
            entries = sorted(temporary.iterdir(), key=lambda path: (path.name != first, path.name))
            there = {name for name in replacing if (target / name).exists()}
            for place in (target / entry.name for entry in entries if entry.name not in there):
                if place.exists() or place.is_symlink():
                    raise PETError(f"{place}: exists already, expected a new name")
            for name in sorted(there, key=lambda name: (name == first, name)):
                remove(target / name)
            target.mkdir(parents=True, exist_ok=True)
            for entry in entries:
                moved.append(entry.rename(target / entry.name))
            moved.clear()
            _sync(target)
    finally:
        for path in reversed(moved):
            remove(path)
        shutil.rmtree(temporary, ignore_errors=True)


def remove(path: Path) -> None:
    """Delete a file, or a folder with all in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_unfinished(folder: Path, name: str = "*") -> None:
    """Delete what killed processes left in a folder of files with that name (a pattern), and of folders."""
    for leftover in folder.glob(f"{UNFINISHED}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        elif leftover.match(f"*-{name}"):
            leftover.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Write a text as UTF-8 with the line ends that it has, complete or not at all.

    Raises
    ------
    PETError
        If the file cannot be written, or UTF-8 cannot hold the text. The message names the target.
    """
    try:
        content = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PETError(f"{target}: holds text that UTF-8 cannot hold ({error.reason})") from error
    with replaced_file(target) as temporary:
        temporary.write_bytes(content)


def write_json(target: Path, content: Mapping[str, Any] | list[Any]) -> None:
    """Write JSON (no NaN, no infinity) complete or not at all; raises what `write_text` raises."""
    write_text(target, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def image_stream(path: Path) -> Iterator[BufferedIOBase]:
    """Open a file for writing; one whose name ends in .gz is compressed.

    The gzip header holds no name and no time: a name can identify a patient, a time makes equal images differ.
    """
    with path.open("wb") as file:
        if path.name.lower().endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0) as stream:
                yield stream
        else:
            yield file


def locked_folder(
    folder: Path, doing: str, *, reentrant: bool = False, wait: bool = False
) -> AbstractContextManager[object]:
    """Lock a folder against other runs.

    The lock ends with its `with` block, when nothing refers to it, or with this process, however that ends. The
    processes that this one forks do not inherit it: those that read ahead may outlive a killed parent.

    Parameters
    ----------
    folder
        Where the file ``.lock`` is made; the folder itself is made if need be.
    doing
        What the message says of the other run: "another run is ..., expected one at a time".
    reentrant
        Whether this process itself may lock the folder again.
    wait
        Whether to wait for the other run, and say so once, instead of failing.

    Raises
    ------
    BusyError
        If another run has the lock.
    PETError
        If the folder cannot be written.
    """
    # Imported here, for it takes 0.1 s and few commands lock.
    from filelock import FileLock, Timeout

    with _naming(folder, None):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.resolve() / ".lock", is_singleton=reentrant, thread_local=False)
        try:
            return lock.acquire(blocking=False)
        except Timeout:
            if not wait:
                raise BusyError(f"{folder}: another run is {doing}, expected one at a time") from None
        logger.warning("%s: another run is %s, waiting for it", folder, doing)
        return lock.acquire()


def sha256_of(path: str | Path, *, progress: Callable[[int], object] | None = None) -> str:
    """Return the SHA-256 of a file, in hexadecimal; `progress` is called with the bytes of each block that was read."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            if progress is not None:
                progress(len(block))
    return digest.hexdigest()


def read_yaml(path: Path) -> Any:
    """Read a YAML file, or a JSON file, which is YAML too.

    Raises
    ------
    PETError
        If the file is missing, not YAML, nested deeper than 100 levels, or holds a key twice in one record.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        depth = 0
        for event in yaml.parse(text, Loader=_yaml_loader()):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise yaml.YAMLError(f"line {event.start_mark.line + 1} is nested deeper than {_DEEPEST} levels")
        return yaml.load(text, Loader=_yaml_loader())
    except OSError as error:
        raise PETError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, ValueError) as error:  # a date that does not exist is a ValueError of its own
        raise PETError(f"{path}: not YAML ({' '.join(str(error).split())})") from error


@cache
def _yaml_loader() -> Any:
    import yaml

    class OneOfEachKey(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """Loader that refuses a key that stands twice, of which YAML would silently take the last."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            twice = next((key for key in keys if keys.count(key) > 1), None)
            if twice is not None:
                raise yaml.YAMLError(f"line {node.start_mark.line + 1}: key {twice!r} stands twice in one record")
            return super().construct_mapping(node, deep)

    return OneOfEachKey


def _parent(target: Path) -> Path:
    parent = target.absolute().parent
    if not parent.is_dir():
        raise PETError(f"{target}: folder {parent} does not exist")
    return parent


def _sync_all(folder: Path) -> None:
    """Have everything in a folder, and the folder, on the disk."""
    for path in (*folder.rglob("*"), folder):
        _sync(path)


def _sync(path: Path) -> None:
    if path.is_dir() and not FOLDERS_CAN_BE_SYNCED:
        return
    # Windows syncs only what is open for writing.
    descriptor = os.open(path, os.O_RDONLY if FOLDERS_CAN_BE_SYNCED else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _naming(target: Path, temporary: Path | None) -> Iterator[None]:
    """Turn errors of the system into a PETError that names the target, and never the temporary name.

    By the time that somebody reads the message, the temporary name is gone.
    """

    def named(text: str) -> str:
        return text if temporary is None else text.replace(str(temporary), str(target))

    try:
        yield
    except PETError as error:
        if named(str(error)) == str(error):
            raise
        raise PETError(named(str(error))) from error
    except OSError as error:
        where = target if error.filename is None else named(os.fspath(error.filename))
        raise PETError(f"{where}: {error.strerror or str(error).partition(chr(10))[0]}") from error
