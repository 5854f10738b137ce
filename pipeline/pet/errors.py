"""The one error type for PET input that cannot be trusted."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["PETError", "naming"]


class PETError(ValueError):
    """A PET input or output is not what it must be.

    The message is one line: the file or folder, what was found, what was expected.
    """


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Put `path` in front of every error raised inside, and turn operating system errors into `PETError`.

    Parameters
    ----------
    path
        The file or folder that the user named.

    Raises
    ------
    PETError
        For any `PETError` or `OSError` raised inside the block.
    """
    try:
        yield
    except PETError as error:
        message = str(error)
        if message.startswith(str(path)):
            raise
        raise PETError(f"{path}: {message}") from error
    except OSError as error:
        where = error.filename if error.filename is not None else path
        raise PETError(f"{where}: {error.strerror or error}") from error
