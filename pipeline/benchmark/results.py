"""Results as files: one of JSON per part and row of the benchmark, complete or not there."""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.benchmark.work import Tables
from pipeline.errors import PETError
from pipeline.files import write_text

__all__ = ["Stored", "read_results", "table_of", "write_result"]

_DIGITS = 7  # significant, more than any measure has


@dataclass(frozen=True)
class Stored:
    """What one part found of one row of the benchmark."""

    part: str
    row: Mapping[str, Any]
    """What is known of the row: name, entry, label, kind, seed, dose, facts."""
    run: Mapping[str, Any]
    """When, where and with which version it was measured."""
    tables: Tables

    @property
    def name(self) -> str:
        """Name of the row."""
        return str(self.row["name"])


def write_result(folder: Path, stored: Stored) -> Path:
    """Write a result to ``results/PART/NAME.json`` below a folder, which is made if need be, and replace an earlier.

    An earlier one of the same figures stays, with when and where it was measured. Numbers that are not finite become
    null. A line of the file is a row of a table.

    Raises
    ------
    PETError
        If the folder cannot be written.
    """
    path = folder / "results" / stored.part / f"{stored.name}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        earlier = path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, ValueError) as error:
        raise PETError(f"{path}: cannot be written ({error}), expected a folder for results") from error
    with suppress(PETError):
        if earlier and _text(replace(stored, run=_read(path).run)) == earlier:
            return path
    write_text(path, _text(stored))
    return path


def _text(stored: Stored) -> str:
    head = {"part": stored.part, "row": stored.row, "run": stored.run}
    lines = [f"{_json(name)}: {_json(_plain(value))}" for name, value in head.items()]
    tables = []
    for name, rows in stored.tables.items():
        columns = list(dict.fromkeys(column for row in rows for column in row))
        values = [_json(_plain([row.get(column) for column in columns])) for row in rows]
        body = ",\n   ".join(values)
        tables.append(f"{_json(name)}: {{\n  {_json('columns')}: {_json(columns)},\n  {_json('rows')}: [{body}]}}")
    joined = ",\n ".join(tables)
    lines.append(f"{_json('tables')}: {{{joined}}}")
    return "{" + ",\n ".join(lines) + "}\n"


def read_results(folder: Path) -> list[Stored]:
    """Return all results below a folder, sorted by part and name.

    Raises
    ------
    PETError
        If there is none, or a file is damaged.
    """
    paths = sorted((folder / "results").glob("*/*.json"))
    if not paths:
        raise PETError(f"{folder}: has no results, expected some in {folder / 'results'}")
    return [_read(path) for path in paths]


def _read(path: Path) -> Stored:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        tables = {
            name: [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
            for name, table in content["tables"].items()
        }
        if not {"name", "entry", "label", "kind", "seed", "dose", "facts"} <= set(content["row"]):
            raise ValueError("the row has no name or kind")
        return Stored(str(content["part"]), content["row"], content["run"], tables)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PETError(f"{path}: cannot be read ({error}), expected a result of the benchmark") from error


def table_of(results: Sequence[Stored], part: str, table: str) -> pd.DataFrame:
    """Return the rows of a table of a part, with the name of the row of the benchmark in a first column ``method``."""
    rows = [
        {"method": stored.name, **row}
        for stored in results
        if stored.part == part
        for row in stored.tables.get(table, ())
    ]
    frame = pd.DataFrame(rows)
    # A column of nulls and numbers alone is one of numbers.
    for name in frame.columns:
        if not frame[name].map(lambda v: isinstance(v, str | list)).any():
            frame[name] = pd.to_numeric(frame[name])
    return frame


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it, without what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, str | int):
        return value
    number = float(value)
    if not math.isfinite(number):
        return None
    return float(f"{number:.{_DIGITS}g}")
