"""What is wrong with a data set: one record per finding."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Kind", "Problem"]

Kind = Literal[
    "licence",
    "leak",
    "duplicate",
    "missing",
    "exclusion",
    "checksum",
    "header",
    "geometry",
    "tracer",
    "noise",
    "values",
]


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it must be."""

    kind: Kind
    """What it is about."""
    subject: str
    """Id of the subject, empty for the data set as a whole."""
    path: str
    """File or folder, relative to the root; empty where it is about more than one."""
    detail: str
    """What was found and what was expected, in one line. Never an identifier from DICOM."""
