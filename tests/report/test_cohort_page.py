"""The page of a cohort: outliers first, every failure, nobody's name and nothing from outside."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.report import OUTLYING, CohortScan, outlyingness, write_cohort_page
from pipeline.report.cohort_figures import distribution_figure


def table_of(n: int = 30) -> pd.DataFrame:
    """Return scans that are much alike but for ``sub-07``, whose mean SUV changed."""
    random = np.random.default_rng(0)
    table = pd.DataFrame({"scan": [f"sub-{k:02d}" for k in range(n)]})
    for name, mean, spread in (
        ("noise_before_percent", 20, 2),
        ("noise_after_percent", 8, 1),
        ("noise_change_percent", -60, 4),
        ("suv_mean_before", 1, 0.1),
        ("suv_mean_after", 1, 0.1),
        ("suv_mean_change_percent", 0, 0.3),
        ("suv_max_change_percent", -8, 3),
        ("suv_peak_change_percent", -2, 2),
        ("tlg_change_percent", -1, 2),
    ):
        table[name] = random.normal(mean, spread, n)
    table.loc[7, "suv_mean_change_percent"] = 9.0
    for name in ("n_regions", "n_lost", "n_new", "n_warnings"):
        table[name] = 1
    table[["outlyingness", "outlying_in"]] = outlyingness(table)
    return table.sort_values("outlyingness", ascending=False)


def write(path: Path, table: pd.DataFrame, **more) -> Path:
    """Write a page on these scans."""
    regions = pd.DataFrame({name: table[name] for name in table if name.endswith("change_percent")})
    rows = [CohortScan(values=row, report=f"{row['scan']}/report.html") for row in table.to_dict("records")]
    given = {"failures": {"sub-99-0123abcd": "no <such> file"}, "n_left": 2, "outside": [("voxel size", 3)], **more}
    return write_cohort_page(path, scans=rows, table=table, regions=regions, run={"method": "identity"}, **given)


def test_the_scan_that_changed_most_unlike_the_others_is_the_first_outlier():
    table = table_of()
    first = table.iloc[0]
    assert (first["scan"], first["outlying_in"]) == ("sub-07", "suv_mean_change_percent")
    assert first["outlyingness"] > OUTLYING
    values = table["suv_mean_change_percent"]
    spread = 1.4826 * np.median(np.abs(values - np.median(values)))
    assert first["outlyingness"] == pytest.approx((9 - np.median(values)) / spread)


def test_scans_that_are_nearly_the_same_or_few_are_no_outliers():
    table = table_of()
    table["suv_mean_change_percent"] = 0.0
    table.loc[3, "suv_mean_change_percent"] = 0.2  # of zero spread, but by less than counts
    assert outlyingness(table)["outlyingness"][3] == pytest.approx(2.0)
    assert outlyingness(table_of().head(4))["outlyingness"].isna().all()


def test_the_page_shows_failures_outliers_and_links_and_loads_nothing(tmp_path):
    page = write(tmp_path / "cohort.html", table_of()).read_text()
    assert "no &lt;such&gt; file" in page
    assert page.index("sub-07") < page.index("sub-00")
    assert '<a href="sub-07/report.html">sub-07</a>' in page
    assert "2 are left" in page
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!data:image/png|sub-\d\d/report)', page)
    assert page.count("<img ") == page.count('<img alt="') == 6


def test_a_cohort_without_a_result_has_a_page(tmp_path):
    page = write(tmp_path / "cohort.html", table_of().head(0)).read_text()
    assert "None was denoised." in page
    assert "<img" not in page


def test_a_distribution_needs_a_value():
    with pytest.raises(ValueError, match="no value to show"):
        distribution_figure({"": [np.nan]}, title="", x_label="")
    assert distribution_figure({"": [1.0]}, title="", x_label="").startswith(b"\x89PNG")
