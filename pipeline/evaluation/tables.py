"""Writing tables so that a reader never meets half a file, nor a spreadsheet a formula."""

import os
from pathlib import Path

import pandas as pd

from pipeline.files import write_text

__all__ = ["write_table"]

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def write_table(table: pd.DataFrame, path: str | os.PathLike[str]) -> Path:
    """Write a table as BIDS-style TSV: a header line, n/a for missing values, six significant digits.

    Text that a spreadsheet would run as a formula (first character = + - @, tab or carriage return) is
    preceded by an apostrophe. Numbers are left as they are. The file appears complete or not at all.

    Parameters
    ----------
    table
        Columns in the order to write; its index is not written.
    path
        The TSV file; its folder must exist.

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


def _quote_formula(value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return "'" + value
    return value
