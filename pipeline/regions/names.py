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
    """Return the numbers of the regions that are called so or have that number, of all where none is asked for.

    A name that is another region's number is taken as the name.

    Raises
    ------
    PETError
        If no region has one of the names or numbers: the message lists those that there are.
    """
    if wanted is None:
        return list(names)
    asked = {inert(name) for name in wanted}
    numbers = {str(number) for number in names} - set(names.values())
    if missing := sorted(asked - set(names.values()) - numbers):
        named = map(repr, sorted({name for name in names.values() if name}))
        known = ", ".join([*named, *(str(number) for number in names if not names[number])][:_MOST_SHOWN])
        raise PETError(f"holds no region {', '.join(map(repr, missing))}, expected one of: {known or 'none there'}")
    return [number for number, name in names.items() if name in asked or str(number) in asked & numbers]
