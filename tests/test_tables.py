"""Tables: what a spreadsheet may not run, the scan that they are of, what their columns mean, and that all have it."""

import json
import os
import re

import pandas as pd
import pytest

from pipeline.benchmark import own_definition, read_definition
from pipeline.benchmark.reporting.columns import columns_of
from pipeline.benchmark.reporting.findings import Findings
from pipeline.benchmark.reporting.report import measured_tables
from pipeline.benchmark.results import read_results
from pipeline.errors import PETError
from pipeline.tables import _meaning_of, write_scan_table, write_table

MEANINGS = {"method": "which", "change": "from before [%]", "region": "number", "volume_ml": "volume [mL]", "a": "one"}


def test_text_that_is_a_formula_is_quoted_and_numbers_are_not(tmp_path):
    table = pd.DataFrame({"method": ["=1+1", "@cmd", "fixed SUV >= 4"], "change": [-12.5, 0.1234567, None]})
    path = write_table(table, tmp_path / "regions.tsv", columns=MEANINGS)
    assert path.read_text().splitlines() == [
        "method\tchange",
        "'=1+1\t-12.5",
        "'@cmd\t0.123457",
        "fixed SUV >= 4\tn/a",
    ]


def test_a_table_without_rows_keeps_its_header(tmp_path):
    table = pd.DataFrame(columns=["region", "volume_ml"])
    path = write_table(table, tmp_path / "none.tsv", columns=MEANINGS)
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
    with pytest.raises(ValueError, match=r"found\.tsv: columns new have no meaning"):
        write_table(pd.DataFrame({"new": [1]}), tmp_path / "found.tsv", columns={"nearly*": "another"})
    assert not list(tmp_path.iterdir())


def test_one_meaning_serves_columns_that_begin_alike(tmp_path):
    columns = {"psnr_*": "PSNR against * [dB]", "psnr_full_*": "in the *", "psnr_full": "the full dose [dB]"}
    table = pd.DataFrame({"psnr_truth": [1], "psnr_full": [2], "psnr_full_box": [3]})
    write_table(table, tmp_path / "a.tsv", columns=columns, about={"Description": "rows"})
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "Description": "rows",
        "psnr_truth": {"Description": "PSNR against truth", "Units": "dB"},
        "psnr_full": {"Description": "the full dose", "Units": "dB"},
        "psnr_full_box": {"Description": "in the box"},
    }


def test_no_table_is_written_by_another_road(repository):
    """`write_table` refuses a column without a meaning: what calls it has a dictionary."""
    others = re.compile(r"\.to_csv\(|\.to_excel\(|csv\.writer|DictWriter|savetxt|\.join\(.*\\t|\\t.*\.join\(")
    found = {
        path.relative_to(repository).as_posix()
        for path in (repository / "pipeline").rglob("*.py")
        if others.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"pipeline/tables.py"}


def test_every_column_of_a_benchmark_has_a_meaning(repository):
    findings = Findings(read_definition(own_definition()), read_results(repository / "docs" / "benchmark"))
    tables = dict(measured_tables(findings))
    assert len(tables) > 8
    for name, frame in tables.items():
        meanings = columns_of(name)
        lacking = [column for column in frame if _meaning_of(column, meanings) is None]
        assert not lacking, (name, lacking)


def test_a_table_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "regions.tsv"
    path.write_text("old")

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(PETError, match=r"regions\.json: No space left on device$"):
        write_table(pd.DataFrame({"a": [1]}), path, columns=MEANINGS)
    assert [p.name for p in tmp_path.iterdir()] == ["regions.tsv"]
    assert path.read_text() == "old"
