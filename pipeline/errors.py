"""The one error type for PET input that cannot be trusted, and the one line in which it reaches the user.

What depends on a user's files and voxels is a `PETError`, also where a measure is not defined for them; it ends in one
line. A wrong call of a function is a `ValueError` or `TypeError`: the programmer's mistake, which keeps its traceback.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "BusyError",
    "NoSuchSeriesError",
    "PETError",
    "UndefinedMeasureError",
    "causes_of",
    "line_for_user",
    "naming",
    "one_line",
    "reason_of",
]


class PETError(ValueError):
    """A PET input or output is not what it must be.

    The message is one line: the file or folder, what was found, what was expected.
    """


class BusyError(PETError):
    """Another run works there."""


class NoSuchSeriesError(PETError):
    """A study has PET, but not the series that was asked for. Another study may have it."""


class UndefinedMeasureError(PETError):
    """A measure is not defined for this image: too few planes, no activity, no body. Others of it may be."""


def reason_of(error: Exception) -> str:
    """Return what a library says in an error, in one line, without the bytes that it quotes from the file.

    Those may be any element's, and hold the patient's name.
    """
    return re.sub(r"""\bb(["']).*\1""", "some bytes", " ".join(str(error).split())) or type(error).__name__


def causes_of(error: BaseException) -> list[BaseException]:
    """Return an error and what it was raised from, the first cause last: libraries wrap what goes wrong inside them."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    return causes


def line_for_user(error: BaseException) -> str | None:
    """Return the line that a user is told instead of a traceback; None for a programmer's mistake.

    An error that a library wrapped counts as what it was raised from.
    """
    for cause in causes_of(error):
        if isinstance(cause, PETError):
            return one_line(str(cause))
        if isinstance(cause, MemoryError):
            return one_line(f"memory does not suffice ({reason_of(cause)})")
        if isinstance(cause, OSError):
            reason = (cause.strerror or str(cause) or "failed").partition("\n")[0].lower()
            return one_line(f"{cause.filename}: {reason}" if cause.filename is not None else reason)
    return None


def one_line(text: str) -> str:
    """Return a text with its control characters escaped: files may hold line ends, and commands to a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


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
        if message.startswith(f"{path}:") or message.startswith(f"{path}{os.sep}"):
            raise
        raise type(error)(f"{path}: {message}") from error
    except OSError as error:
        where = error.filename if error.filename is not None else path
        # pydicom puts a whole traceback into the message of an error met while writing an element.
        reason = error.strerror or str(error).partition("\n")[0]
        raise PETError(f"{where}: {reason}") from error
