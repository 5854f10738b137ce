"""What is wrong with a data set: one record per finding, and all of them as a table."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

import pandas as pd

__all__ = ["Kind", "Problem", "problem_table"]

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


def problem_table(problems: Iterable[Problem]) -> pd.DataFrame:
    """Return the problems as a table with columns kind, subject, path and detail."""
    return pd.DataFrame([asdict(problem) for problem in problems], columns=list(Problem.__dataclass_fields__))
