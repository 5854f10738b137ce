"""The page of a cohort: failures with their reasons, outliers first, and how everything is distributed."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from pipeline.report.cohort_figures import distribution_figure
from pipeline.report.page import write_page

__all__ = ["OUTLYING", "CohortScan", "outlyingness", "write_cohort_page"]

OUTLYING = 3.5
"""Robust standard deviations from the median beyond which a scan is an outlier (Iglewicz and Hoaglin 1993)."""

_JUDGED = {
    "noise_change_percent": 1.0,
    "suv_mean_change_percent": 0.1,
    "suv_peak_change_percent": 1.0,
    "suv_max_change_percent": 1.0,
    "tlg_change_percent": 1.0,
}
"""Columns in which scans can be outliers, and the least standard deviation that counts [percentage points]: where all
scans are nearly the same, what differs by less is none."""

_FEWEST = 5
"""Scans below which none is called an outlier."""

_MOST_ROWS = 200


@dataclass(frozen=True, kw_only=True)
class CohortScan:
    """A scan on the page."""

    values: Mapping[str, Any]
    """Its row of ``scans.tsv``."""
    report: str
    """Path of its own page, relative to that of the cohort; empty if it has none."""

    @property
    def link(self) -> str:
        """Return the path as a link."""
        return quote(self.report)


def outlyingness(scans: pd.DataFrame) -> pd.DataFrame:
    """Return how far each scan is from the median of all, and the column in which it is farthest.

    The distance is in robust standard deviations, 1.4826 times the median absolute deviation, in the column of noise,
    SUV and lesion changes where it is largest. NaN and None where nothing was measured, or of fewer than five scans.
    """
    distances = pd.DataFrame(index=scans.index)
    for name, least in _JUDGED.items():
        values = scans[name].astype(float)
        apart = values - values.median()
        distances[name] = apart.abs() / max(1.4826 * float(apart.abs().median() if len(apart) else 0), least)
    if len(scans) < _FEWEST:
        distances[:] = np.nan
    measured = distances.notna().any(axis=1)
    farthest = distances[measured].idxmax(axis=1).reindex(scans.index)
    return pd.DataFrame({"outlyingness": distances.max(axis=1), "outlying_in": farthest.astype(object)})


def write_cohort_page(
    path: str | os.PathLike[str],
    *,
    scans: Sequence[CohortScan],
    table: pd.DataFrame,
    regions: pd.DataFrame,
    failures: Mapping[str, str],
    n_left: int,
    outside: Sequence[tuple[str, int]],
    run: Mapping[str, object],
) -> Path:
    """Write one self-contained HTML page on a cohort; all text is escaped, and no image of a patient is on it.

    `scans` are in the order in which they are shown, `table` is ``scans.tsv`` of them, `regions` is ``cohort.tsv``.
    `failures` are reasons by name. `n_left` scans have neither result nor failure. `outside` counts in what scans are
    unlike those of the training. `run` says line by line what was done. The folder of `path` must exist.
    """
    is_outlier = table["outlyingness"].astype(float) > OUTLYING
    figures, captions = _figures(table, regions, is_outlier)
    return write_page(
        Path(path),
        "cohort.html",
        source=None,
        figures=figures,
        run=run,
        kind="Cohort of denoised scans",
        title=f"{len(scans)} scans",
        provenance=(),
        scans=list(scans)[:_MOST_ROWS],
        n_scans=len(scans),
        n_outliers=int(is_outlier.sum()),
        outlying=OUTLYING,
        failures=failures,
        n_left=n_left,
        outside=outside,
        captions=captions,
        medians={name: float(table[name].astype(float).median()) if len(table) else np.nan for name in _JUDGED},
    )


def _figures(
    table: pd.DataFrame, regions: pd.DataFrame, is_outlier: "pd.Series[bool]"
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return the figures that there are values for, and what each shows."""
    shown: dict[str, tuple[str, dict[str, Any]]] = {}

    def of_scans(name: str) -> dict[str, Any]:
        return {"groups": {"": table[name]}, "outliers": table.loc[is_outlier, name].astype(float).dropna().tolist()}

    noise = {when.capitalize(): table[f"noise_{when}_percent"] for when in ("before", "after")}
    shown["noise"] = (
        "Noise of the body, before and after denoising",
        {"groups": noise, "title": "Noise of the body", "x_label": "relative to the mean SUV [%]"},
    )
    shown["noise_change"] = (
        "Change of the noise of the body; triangles are outliers",
        of_scans("noise_change_percent") | {"title": "Change of noise", "x_label": "change [%]"},
    )
    shown["suv_mean"] = (
        "Change of the mean SUV of the body, which denoising should leave as it is; triangles are outliers",
        of_scans("suv_mean_change_percent") | {"title": "Change of the body’s mean SUV", "x_label": "change [%]"},
    )
    shown["tlg"] = (
        "Change of the total lesion glycolysis, each image in regions of its own; triangles are outliers",
        of_scans("tlg_change_percent") | {"title": "Change of TLG", "x_label": "change [%]"},
    )
    for name, title in (("suv_max", "SUVmax"), ("suv_peak", "SUVpeak")):
        column = f"{name}_change_percent"
        values = regions.get(column, [])
        shown[name] = (
            f"Change of {title} of every region of every scan",
            {"groups": {"": values}, "title": f"Change of {title}", "x_label": "change [%]", "counted": "regions"},
        )
    drawn, captions = {}, {}
    for name, (caption, given) in shown.items():
        try:
            drawn[name] = distribution_figure(**given)
        except ValueError:  # nothing was measured
            continue
        captions[name] = caption
    return drawn, captions
