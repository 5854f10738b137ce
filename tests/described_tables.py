"""What every table must have: a data dictionary that knows each column; that of a scan the scan's name first."""

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

__all__ = ["check_dictionaries", "check_tables"]

_WITH_UNIT = {"_mm": "mm", "_ml": "mL", "_percent": "%"}
_WITHOUT_UNIT = ("percent", "skewness", "kurtosis", "coefficient_of_variation", "coefficient_of_dispersion")
_SQUARES = ("variance", "energy")


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
        if column.startswith(("suv_", "sul_", "tlg")) and not column.endswith(_WITHOUT_UNIT):
            expected = "g" if column.startswith("tlg") else "g2/mL2" if column.endswith(_SQUARES) else "g/mL"
            assert entry["Units"] == expected, (path, column)
    return table
