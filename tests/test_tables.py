"""Tables: what a spreadsheet may not run, the scan that they are of, and what their columns mean."""

import json
import os

import pandas as pd
import pytest

from pipeline.errors import PETError
from pipeline.tables import write_scan_table, write_table


def test_text_that_is_a_formula_is_quoted_and_numbers_are_not(tmp_path):
    table = pd.DataFrame({"method": ["=1+1", "@cmd", "fixed SUV >= 4"], "change": [-12.5, 0.1234567, None]})
    path = write_table(table, tmp_path / "regions.tsv")
    assert path.read_text().splitlines() == [
        "method\tchange",
        "'=1+1\t-12.5",
        "'@cmd\t0.123457",
        "fixed SUV >= 4\tn/a",
    ]


def test_a_table_without_rows_keeps_its_header(tmp_path):
    path = write_table(pd.DataFrame(columns=["region", "volume_ml"]), tmp_path / "none.tsv")
    assert path.read_text() == "region\tvolume_ml\n"


def test_a_table_of_a_scan_names_it_and_has_a_dictionary(tmp_path):
    columns = {"b_percent": "mean [g/mL], change from before [%]", "a": "number, strongest first", "unused": "x [mm]"}
    table = pd.DataFrame({"a": [1, 2], "b_percent": [0.5, None]})
    path = write_scan_table(table, tmp_path / "found.tsv", scan="sub-01", columns=columns)
    assert path.read_text().splitlines() == ["scan\ta\tb_percent", "sub-01\t1\t0.5", "sub-01\t2\tn/a"]
    described = json.loads((tmp_path / "found.json").read_text())
    assert list(described) == ["scan", "a", "b_percent"]
    assert described["a"] == {"Description": "number, strongest first"}
    assert described["b_percent"] == {"Description": "mean, change from before", "Units": "%"}
    assert list(table.columns) == ["a", "b_percent"]
    write_scan_table(table.head(0), tmp_path / "none.tsv", scan="sub-01", columns=columns)
    assert (tmp_path / "none.tsv").read_text() == "scan\ta\tb_percent\n"


def test_a_column_without_a_meaning_is_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"found\.tsv: columns new have no meaning"):
        write_scan_table(pd.DataFrame({"new": [1]}), tmp_path / "found.tsv", scan="sub-01", columns={})
    assert not list(tmp_path.iterdir())


def test_a_table_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "regions.tsv"
    path.write_text("old")

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(PETError, match=r"regions\.tsv: No space left on device$"):
        write_table(pd.DataFrame({"a": [1]}), path)
    assert [p.name for p in tmp_path.iterdir()] == ["regions.tsv"]
    assert path.read_text() == "old"
