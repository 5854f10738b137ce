"""Write files and folders so that a target is either complete or not there.

The content goes to a temporary name beside the target, reaches the disk, and is renamed last. A folder that
cannot be renamed onto (a mount point, the working directory) gets its entries renamed one by one.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import PETError

__all__ = ["new_folder", "replaced_file"]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _parent(target: Path) -> Path:
    parent = target.absolute().parent
    if not parent.is_dir():
        raise PETError(f"{target}: folder {parent} does not exist")
    return parent


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
        If the parent folder does not exist.
    """
    parent = _parent(target)
    if target.is_dir():
        raise PETError(f"{target}: is a folder, expected the name of a file")
    # The suffix is kept at the end, so that readers recognise the format while the file is being checked.
    descriptor, name = tempfile.mkstemp(prefix=".writing-", suffix="-" + target.name, dir=parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp creates private files; the result gets the permissions any new file would have.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        _sync(temporary)
        temporary.replace(target)
        _sync(parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `target` that becomes `target` if the block succeeds, else disappears.

    Parameters
    ----------
    target
        Folder to create; it must be absent or empty. A symbolic link is followed.

    Raises
    ------
    PETError
        If the target holds something already, or the parent folder does not exist. An error raised inside that
        names the temporary folder is raised anew with the target's name.
    """
    parent = _parent(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise PETError(f"{target}: exists and is not an empty folder, expected a new one")
    # A link is not a folder to rename onto; what it points to is.
    place = target.resolve()
    cannot_move = place.is_dir() and (place.is_mount() or place == Path.cwd())
    parent = place if cannot_move else _parent(place)
    temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=parent))
    try:
        try:
            yield temporary
        except PETError as error:
            # By the time it is read, the temporary name is gone.
            raise PETError(str(error).replace(str(temporary), str(target))) from error
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        for file in temporary.iterdir():
            _sync(file)
        _sync(temporary)
        if cannot_move:
            for entry in sorted(temporary.iterdir()):
                entry.rename(place / entry.name)
        else:
            # Atomic on POSIX, also onto an empty folder.
            temporary.replace(place)
        _sync(parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
