"""Write tables as BIDS does: values separated by tabs, and a data dictionary beside a table of one scan."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.files import write_json, write_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["write_scan_table", "write_table"]

_SCAN = {"scan": "name of the scan, the same in all of its tables"}
_UNIT = re.compile(r" ?\[([^\]]+)\]")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def write_table(table: "pd.DataFrame", path: str | os.PathLike[str]) -> Path:
    """Write a table as BIDS-style TSV: a header line, n/a for missing values, six significant digits; no index.

    Text that a spreadsheet would run as a formula (first character = + - @, tab or carriage return) is preceded by an
    apostrophe. Numbers are left as they are. The file appears complete or not at all.

    Raises
    ------
    PETError
        The folder does not exist, or the file cannot be written; nothing is left behind.
    """
    quoted = table.apply(lambda column: column.map(_quote_formula))
    text = quoted.rename(columns=_quote_formula).to_csv(
        sep="\t", index=False, na_rep="n/a", float_format="%.6g", lineterminator="\n"
    )
    target = Path(path)
    write_text(target, text)
    return target


def write_scan_table(
    table: "pd.DataFrame", path: str | os.PathLike[str], *, scan: str, columns: Mapping[str, str]
) -> Path:
    """Write a table of one scan as `write_table` does, its name in the first column, and its data dictionary beside it.

    So tables of many scans can be put together. The dictionary is the JSON file of the same stem that BIDS asks for:
    ``Description`` of each column, and ``Units`` where it has one.

    Parameters
    ----------
    table
        Rows without the column ``scan``.
    path
        File ending in ``.tsv``.
    scan
        Name of the scan.
    columns
        Meaning of each column; its unit, if it has one, stands last in brackets: ``"mean of the region [g/mL]"``.

    Raises
    ------
    ValueError
        A column has no meaning.
    PETError
        A file cannot be written.
    """
    target = Path(path)
    if unknown := [str(name) for name in table.columns if name not in columns]:
        raise ValueError(f"{target.name}: columns {', '.join(unknown)} have no meaning, expected one of each")
    named = table.copy()
    named.insert(0, "scan", scan)
    meanings = _SCAN | {str(name): columns[name] for name in table.columns}
    write_json(target.with_suffix(".json"), {name: _described(meaning) for name, meaning in meanings.items()})
    return write_table(named, target)


def _described(meaning: str) -> dict[str, str]:
    """Return the entry of a data dictionary; of several units in a meaning the last is that of the column."""
    units = _UNIT.findall(meaning)
    return {"Description": _UNIT.sub("", meaning)} | ({"Units": units[-1]} if units else {})


def _quote_formula(value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return "'" + value
    return value
