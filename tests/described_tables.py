"""What every table of a scan must have: the scan's name first, and a data dictionary that knows each column."""

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

__all__ = ["check_tables"]

_WITH_UNIT = {"_mm": "mm", "_ml": "mL", "_percent": "%"}


def check_tables(tables: Iterable[Path], *, scan: str) -> None:
    """Check tables as they lie on disk."""
    for path in tables:
        table = pd.read_csv(path, sep="\t", na_values="n/a")
        assert table.columns[0] == "scan", path
        assert set(table["scan"]) <= {scan}, path
        described = json.loads(path.with_suffix(".json").read_text())
        assert list(described) == list(table.columns), path
        for column, entry in described.items():
            assert len(entry["Description"]) > 5, (path, column)
            assert "[" not in entry["Description"], (path, column)
            unit = next((unit for ending, unit in _WITH_UNIT.items() if column.endswith(ending)), None)
            assert entry.get("Units") == unit or (unit is None and entry.get("Units") in ("g/mL", "g", None)), column
            # What is numbers of SUV has a unit.
            if column.startswith(("suv_", "tlg_")) and not column.endswith("percent"):
                assert entry["Units"] == ("g" if column.startswith("tlg") else "g/mL"), (path, column)
