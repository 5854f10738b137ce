"""Results as files: what is written is read, and what is damaged is said."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from pipeline.benchmark.results import Stored, read_results, table_of, write_result
from pipeline.pet import PETError
from tests.benchmark.findings_by_hand import images_of, row_of


def test_what_is_written_is_read(tmp_path):
    tables = {"scans": [{"subject": "a", "psnr": 41.234567891, "n": 3}, {"subject": "b", "auc": np.float32(0.5)}]}
    write_result(tmp_path, Stored("images", row_of("unet"), {"version": "1"}, tables))
    [found] = read_results(tmp_path)
    assert (found.part, found.name, found.run) == ("images", "unet", {"version": "1"})
    assert found.tables["scans"] == [
        {"subject": "a", "psnr": 41.23457, "n": 3, "auc": None},
        {"subject": "b", "psnr": None, "n": None, "auc": 0.5},
    ]


def test_what_is_not_finite_is_null_and_a_number_again_in_the_table(tmp_path):
    rows = [{"subject": "a", "psnr": math.inf, "ssim": math.nan}, {"subject": "b", "psnr": 40.0, "ssim": math.nan}]
    path = write_result(tmp_path, Stored("images", row_of("unet"), {}, {"scans": rows}))
    assert "Infinity" not in path.read_text()
    assert "NaN" not in path.read_text()
    frame = table_of(read_results(tmp_path), "images", "scans")
    assert list(frame["method"]) == ["unet", "unet"]
    assert frame["ssim"].dtype == float
    assert frame["psnr"].isna().tolist() == [True, False]


def test_a_later_result_replaces_an_earlier_one(tmp_path):
    for gain in (1, 2):
        write_result(tmp_path, images_of("unet", (gain,)))
    assert table_of(read_results(tmp_path), "images", "scans")["psnr_noise_free"].tolist() == [42, 32]


def test_the_same_figures_keep_when_they_were_measured(tmp_path):
    for day, gain in (("Monday", 1), ("Tuesday", 1), ("Wednesday", 2)):
        write_result(tmp_path, replace(images_of("unet", (gain,)), run={"date": day}))
        assert read_results(tmp_path)[0].run["date"] == {"Tuesday": "Monday"}.get(day, day)


def test_a_damaged_result_is_written_anew(tmp_path):
    path = write_result(tmp_path, images_of("unet", (1,)))
    path.write_text("{")
    write_result(tmp_path, images_of("unet", (1,)))
    assert len(read_results(tmp_path)) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"tables"', '"table"'),
        lambda text: text.replace('"kind"', '"sort"'),
        lambda text: json.dumps([json.loads(text)]),
    ],
)
def test_a_damaged_result_is_named(tmp_path, damage):
    path = write_result(tmp_path, images_of("unet", (1,)))
    path.write_text(damage(path.read_text()))
    with pytest.raises(PETError, match=r"unet.json: cannot be read .*, expected a result of the benchmark"):
        read_results(tmp_path)


def test_no_results_are_said(tmp_path):
    with pytest.raises(PETError, match="has no results, expected some in"):
        read_results(tmp_path)
