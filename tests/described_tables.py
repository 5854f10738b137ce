"""What every table must have: a data dictionary that knows each column; that of a scan the scan's name first."""

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

__all__ = ["check_dictionaries", "check_tables"]

_WITH_UNIT = {"_mm": "mm", "_ml": "mL", "_percent": "%"}


def check_tables(tables: Iterable[Path], *, scan: str) -> None:
    """Check tables of a scan as they lie on disk."""
    for path in tables:
        table = _checked(path)
        assert table.columns[0] == "scan", path
        assert set(table["scan"]) <= {scan}, path


def check_dictionaries(folder: Path, *, n_tables: int) -> None:
    """Check all tables below a folder, of which there are so many."""
    tables = sorted(folder.rglob("*.tsv"))
    assert len(tables) == n_tables, tables
    for path in tables:
        _checked(path)


def _checked(path: Path) -> pd.DataFrame:
    """Return a table whose every column is described, with its unit where the name tells that it has one."""
    table = pd.read_csv(path, sep="\t", na_values="n/a")
    described = json.loads(path.with_suffix(".json").read_text())
    # A lookup table shares its file with the sidecar of the labels.
    assert [key for key in described if isinstance(described[key], dict)] == list(table.columns), path
    for column in table.columns:
        entry = described[column]
        assert len(entry["Description"]) > 5, (path, column)
        assert "[" not in entry["Description"], (path, column)
        unit = next((unit for ending, unit in _WITH_UNIT.items() if column.endswith(ending)), None)
        assert unit is None or entry["Units"] == unit, (path, column)
        # What is numbers of SUV has a unit.
        if column.startswith(("suv_", "tlg_")) and not column.endswith("percent"):
            assert entry["Units"] == ("g" if column.startswith("tlg") else "g/mL"), (path, column)
    return table
