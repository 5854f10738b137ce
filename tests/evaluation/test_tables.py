"""Tables are complete or absent, and never run in a spreadsheet."""

import os

import pandas as pd
import pytest

from pipeline.errors import PETError
from pipeline.evaluation import write_table


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


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "regions.tsv"
    path.write_text("old")

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(PETError, match=r"regions\.tsv: No space left on device$"):
        write_table(pd.DataFrame({"a": [1]}), path)
    assert [p.name for p in tmp_path.iterdir()] == ["regions.tsv"]
    assert path.read_text() == "old"
