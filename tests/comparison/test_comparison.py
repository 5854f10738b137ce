"""Differences between methods, their verdicts, and the tables that show them."""

import pandas as pd
import pytest

from pipeline.comparison import as_markdown, compare_methods, result_tables, summarise, summarise_lesions
from pipeline.comparison.baselines import COMPETITORS


def test_the_difference_is_to_the_best_competitor(made):
    found = {(d.measure, d.dose_reduction_factor): d for d in compare_methods(made(gain=1.5), "net", COMPETITORS)}
    gain = found["psnr_full", 4.0]
    assert gain.other == "nonlocal_means"
    # The subjects differ by decibels and their differences by nothing: paired, the interval has no width.
    interval = gain.interval
    assert (interval.mean, interval.low, interval.high) == pytest.approx((1.5, 1.5, 1.5))
    assert gain.verdict == "better"


def test_less_error_is_better_whatever_its_sign(made):
    for small in (-10.0, 10.0):
        (lesions,) = (
            d
            for d in compare_methods(made(small=small, large=2.0), "net", ["input"])
            if (d.measure, d.dose_reduction_factor) == ("suv_mean_error_percent", 20.0)
        )
        assert lesions.interval.mean == pytest.approx((10 + 2) / 2 - 30)
        assert lesions.verdict == "better"


def test_worse_and_tie(made):
    def verdicts(gain):
        return {d.verdict for d in compare_methods(made(gain=gain), "net", COMPETITORS) if d.measure == "psnr_full"}

    assert verdicts(-0.5) == {"worse"}
    assert verdicts(0.0) == {"tie"}


def test_lesions_are_counted_once_and_sorted_by_size(made):
    summaries = summarise_lesions(made(small=-10, large=-2).lesions, quantity="suv_mean")
    assert {name: n for name, (n, _) in summaries.items()} == {
        "all >= 10 mm": 6,
        ">= 15 mm": 3,
        "10 to 15 mm": 3,
        "15 to 25 mm": 3,
    }
    assert summaries["all >= 10 mm"][1].loc["net", 4.0] == -6
    assert summaries["10 to 15 mm"][1].loc["net", 4.0] == -10


def test_the_summary_is_the_mean_in_the_order_measured(made):
    summary = summarise(made(gain=2).scans)
    assert list(summary.index) == ["input", "gaussian", "nonlocal_means", "net"]
    assert summary.loc["net", 20.0] == pytest.approx(45 + 1 - 2)


def test_tables_in_markdown(made):
    text = as_markdown(result_tables(made(gain=1.5), ["net"]), preface="Three subjects.")
    assert text.startswith("Three subjects.\n\n**PSNR against full dose [dB], peak 20 SUV**\n\n| method | DRF 4 |")
    assert "\n|---|---:|---:|\n" in text
    assert "| net | 45.10 | 43.50 |" in text
    assert "| 10 to 15 mm (n = 3) | input | -30.0 | -30.0 |" in text
    assert "| DRF 4 | nonlocal_means | better | +1.50 | +1.50 to +1.50 |" in text
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.strip().splitlines()}) == 1


def test_several_methods_are_compared_with_the_first(made):
    one = made()
    twin = one.scans[one.scans["method"] == "net"].assign(method="twin", psnr_full=lambda rows: rows["psnr_full"] - 0.4)
    two = type(one)(pd.concat([one.scans, twin], ignore_index=True), one.lesions, one.truth)
    (table,) = (t for t in result_tables(two, ["net", "twin"]) if t.title.startswith("twin minus net"))
    assert table.rows[0][1:5] == ("DRF 4", "net", "worse", "-0.40")


def test_one_subject_says_nothing_about_others(made):
    one = made()
    alone = type(one)(*(table[table["subject"] == "sub-0"] for table in (one.scans, one.lesions)), one.truth)
    assert compare_methods(alone, "net", COMPETITORS) == []
