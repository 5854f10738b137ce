"""The tables that show what was measured: means, lesions by size, differences, swapped styles."""

import pandas as pd
import pytest

from pipeline.comparison import ResultTable, as_markdown, result_tables, summarise, summarise_lesions


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


def test_a_table_has_a_cell_for_every_column_and_says_what_was_not_measured(made):
    one = made()
    without = one.scans.assign(liver_bias_percent=float("nan"))
    tables = {t.title: t for t in result_tables(type(one)(without, one.lesions, one.truth), ["net"])}
    for table in tables.values():
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.header)}
        assert 1 <= table.n_text_columns < len(table.header)
    liver = tables["SUVmean bias of the liver against noise-free [%]"]
    assert {cell for row in liver.rows for cell in row[1:]} == {"n/a"}
    # What no subject has a reference for is no table.
    assert not any("independent" in title for title in tables)


def test_titles_say_what_stands_for_truth_and_lesions(made):
    one = made()
    real = type(one)(one.scans, one.lesions, "full", "hot regions")
    titles = [table.title for table in result_tables(real, ["net"])]
    assert "SUVmax bias of hot regions against full dose [%]" in titles
    assert "False hot spots per scan against full dose" in titles


def test_figures_that_flatter_are_named_and_counts_have_intervals(made):
    one = made()
    counts = {"n_lesions": 10, "n_lesions_full": 10, "n_lesions_seen": 9, "n_lesions_both": 9, "n_spots_full": 0}
    scans = one.scans.assign(**counts, n_spots_seen=1, n_spots_both=0, psnr_full_peak_maximum=50.0, udpet_score=0.5)
    tables = {t.title.partition(" (")[0]: t for t in result_tables(type(one)(scans, one.lesions, one.truth), ["net"])}
    assert any("a hot bladder flatters" in title for title in tables)
    lost = tables["Lost and invented lesions"]
    assert lost.rows[0] == ("true lesions lost, per 100 true", "input", "10.0 (10.0 to 10.0)", "10.0 (10.0 to 10.0)")
    agreement = next(t for title, t in tables.items() if title.startswith("Limits of agreement"))
    assert agreement.rows[0][:4] == ("SUVmax", "gaussian", "DRF 4", "6")
    # DRF 4 and 20 alone make no composite over all doses.
    assert not any(title.startswith("Composite score over") for title in tables)


def test_a_swap_of_styles_is_a_table_of_both_directions(made):
    rows = [
        {"subject": s, "dose_reduction_factor": a, "style_of": b, "psnr_own_style": 40, "psnr_other_style": 39 - s,
         "change": -1 - s}
        for s in (0, 1)
        for a, b in ((4.0, 20.0), (20.0, 4.0))
    ]  # fmt: skip
    table = result_tables(made(), ["net"], style_swaps={"net": pd.DataFrame(rows)})[-1]
    assert table.rows == (
        ("DRF 4", "DRF 20", "40.00", "38.50", "-1.50"),
        ("DRF 20", "DRF 4", "40.00", "38.50", "-1.50"),
    )


def test_markdown_keeps_bars_inside_of_cells():
    table = ResultTable("t", ("a|b", "n"), (("x|y", "1"),))
    assert as_markdown([table]).splitlines()[2:] == [r"| a\|b | n |", "|---|---:|", r"| x\|y | 1 |"]


def test_one_method_and_no_lesion_make_no_empty_table(made):
    one = made()
    none = type(one)(one.scans, one.lesions.iloc[:0], one.truth)
    assert not any("lesions" in table.title for table in result_tables(none, ["net"]))
