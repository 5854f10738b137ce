"""Write tables as BIDS does: values separated by tabs, and beside each a dictionary of what its columns mean."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.files import write_json, write_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SUBJECT_COLUMN", "write_scan_table", "write_table"]

SUBJECT_COLUMN = {"subject": "name of the subject, the same in all of its tables"}

_SCAN = {"scan": "name of the scan, the same in all of its tables"}
_UNIT = re.compile(r" ?\[([^\]]+)\]")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def write_table(
    table: "pd.DataFrame",
    path: str | os.PathLike[str],
    *,
    columns: Mapping[str, str],
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Write a table as BIDS-style TSV, and its data dictionary beside it; the only road by which tables are written.

    The table has a header line, n/a for missing values, six significant digits, and no index. Text that a spreadsheet
    would run as a formula (first character = + - @, tab or carriage return) is preceded by an apostrophe. Numbers are
    left as they are. The dictionary is the JSON file of the same stem that BIDS asks for: ``Description`` of each
    column, and ``Units`` where it has one. Each file appears complete or not at all, the dictionary first.

    Parameters
    ----------
    table
        Any rows, also none.
    path
        File ending in ``.tsv``.
    columns
        Meaning of each column, perhaps of others, too. Its unit, if it has one, stands last in brackets: ``"mean of the
        region [g/mL]"``. A name that ends in ``*`` is that of all columns that begin so; in its meaning ``*`` is the
        rest of their names.
    about
        Other keys of the dictionary, of a file that has more to say.

    Raises
    ------
    ValueError
        A column has no meaning.
    PETError
        The folder does not exist, or a file cannot be written; nothing is left half written.
    """
    target = Path(path)
    meanings = {str(name): _meaning_of(str(name), columns) for name in table.columns}
    if unknown := [name for name, meaning in meanings.items() if meaning is None]:
        raise ValueError(f"{target.name}: columns {', '.join(unknown)} have no meaning, expected one of each")
    described = {name: _described(meaning) for name, meaning in meanings.items() if meaning is not None}
    quoted = table.apply(lambda column: column.map(_quote_formula))
    text = quoted.rename(columns=_quote_formula).to_csv(
        sep="\t", index=False, na_rep="n/a", float_format="%.6g", lineterminator="\n"
    )
    write_json(target.with_suffix(".json"), {**(about or {}), **described})
    write_text(target, text)
    return target


def write_scan_table(
    table: "pd.DataFrame", path: str | os.PathLike[str], *, scan: str, columns: Mapping[str, str]
) -> Path:
    """Write a table of one scan as `write_table` does, the name of the scan in the first column, ``scan``.

    So tables of many scans can be put together.
    """
    named = table.copy()
    named.insert(0, "scan", scan)
    return write_table(named, path, columns=_SCAN | dict(columns))


def _meaning_of(name: str, columns: Mapping[str, str]) -> str | None:
    """Return the meaning of a column, or of the longest beginning of its name that has one."""
    if name in columns:
        return columns[name]
    beginnings = [key[:-1] for key in columns if key.endswith("*") and name.startswith(key[:-1])]
    if not beginnings:
        return None
    beginning = max(beginnings, key=len)
    return columns[f"{beginning}*"].replace("*", name.removeprefix(beginning))


def _described(meaning: str) -> dict[str, str]:
    """Return the entry of a data dictionary; of several units in a meaning the last is that of the column."""
    units = _UNIT.findall(meaning)
    return {"Description": _UNIT.sub("", meaning)} | ({"Units": units[-1]} if units else {})


def _quote_formula(value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return "'" + value
    return value
