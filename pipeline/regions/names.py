"""Names of regions: free text of others, which nothing may interpret, and the choice of regions by them."""

import unicodedata
from collections.abc import Mapping, Sequence

from pipeline.errors import PETError

__all__ = ["LONGEST_NAME", "chosen", "inert", "name_of"]

LONGEST_NAME = 64
"""Characters of a name, as of a long string of DICOM (PS3.5 6.2)."""

_MOST_SHOWN = 20


def inert(text: object) -> str:
    """Return a text without control and format characters, in one line, cut at 64 characters."""
    kept = (" " if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} else c for c in str(text))
    return " ".join("".join(kept).split())[:LONGEST_NAME].rstrip()


def name_of(number: int, names: Mapping[int, str]) -> str:
    """Return what a region is called, "Region 3" where it has no name."""
    return inert(names.get(number, "")) or f"Region {number}"


def chosen(names: Mapping[int, str], wanted: Sequence[str] | None) -> list[int]:
    """Return the numbers of the regions that are called so, of all where none is asked for.

    Raises
    ------
    PETError
        If no region has one of the names: the message lists those that there are.
    """
    if wanted is None:
        return list(names)
    missing = sorted({inert(name) for name in wanted} - set(names.values()))
    if missing:
        known = ", ".join(map(repr, sorted(set(names.values()))[:_MOST_SHOWN])) or "none with a name"
        raise PETError(f"holds no region {', '.join(map(repr, missing))}, expected one of: {known}")
    return [number for number, name in names.items() if name in {inert(one) for one in wanted}]
