"""The page of an adaptation: what new weights change on the held-out scans of a site, and whether they were kept."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pipeline.report.figures import AFTER_COLOR, BEFORE_COLOR, png, style_axes
from pipeline.report.page import write_page

__all__ = ["gain_figure", "write_adaptation_page"]


def gain_figure(gains: pd.DataFrame) -> bytes:
    """Draw the gain of PSNR [dB] of every scan (row) at every dose reduction factor (column), and the mean, as PNG."""
    figure = Figure(figsize=(7.0, 3.6), dpi=140, facecolor="white")
    axes = figure.add_axes((0.12, 0.15, 0.84, 0.8))
    factors = [float(factor) for factor in gains.columns]
    axes.axhline(0, color="0.6", linewidth=1)
    for values in gains.to_numpy():
        axes.plot(factors, values, "o-", color=BEFORE_COLOR, markersize=4, linewidth=1)
    axes.plot(factors, gains.mean(axis=0), "o-", color=AFTER_COLOR, linewidth=2.5)
    axes.set_xscale("log")
    axes.set_xticks(factors, labels=[f"{factor:g}" for factor in factors])
    axes.set_xticks([], minor=True)
    style_axes(axes, "", "dose reduction factor", "gain of PSNR [dB]")
    return png(figure)


def write_adaptation_page(
    path: str | os.PathLike[str],
    *,
    outcome: str,
    limits: Sequence[str],
    criteria: Sequence[Mapping[str, Any]],
    gains: pd.DataFrame,
    tables: Sequence[Mapping[str, Any]],
    scans: Sequence[Mapping[str, Any]],
    run: Mapping[str, object],
) -> Path:
    """Write one self-contained HTML page on an adaptation; all text is escaped, and no image of a patient is on it.

    `outcome` is one sentence, `limits` are what the figures cannot show. `criteria` have what, before, after, demand
    and met; `gains` is PSNR after less before [dB], a row per scan and a column per dose reduction factor; `tables`
    have title, header, rows and n_text_columns; `scans` have name, role and liver_cov. `run` says line by line what was
    done. The folder of `path` must exist.
    """
    return write_page(
        Path(path),
        "adaptation.html",
        source=None,
        figures={"gain": gain_figure(gains)},
        run=run,
        kind="Adaptation to a site",
        title="Before and after",
        provenance=(),
        outcome=outcome,
        limits=limits,
        criteria=criteria,
        tables=tables,
        scans=scans,
    )
