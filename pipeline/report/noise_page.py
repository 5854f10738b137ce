"""The page of inserted noise: the full dose beside its low doses, and the liver's noise as measured and expected."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.images import body_mask, voxel_volume
from pipeline.images.liver import measured_liver_cov
from pipeline.images.projections import body_box
from pipeline.pet import PETSeries
from pipeline.pet.grid import check_same_grid
from pipeline.report.figures import AFTER_COLOR, BEFORE_COLOR, SUV_WINDOW, png, style_axes
from pipeline.report.montage import montage_figure, montage_row
from pipeline.report.page import write_page

__all__ = ["LIVER_NOISE_COLUMNS", "liver_noise_figure", "liver_noise_table", "write_noise_page"]

LIVER_NOISE_COLUMNS: dict[str, str] = {
    "dose_reduction_factor": "full dose over the dose of the image; 1 is the scan as it is",
    "liver_suv_mean": "mean of the liver [g/mL]",
    "liver_cov": "standard deviation over mean of the voxels of the liver",
    "expected_cov": "the same as the square root of the dose predicts it, the texture of the organ kept",
    "ratio": "liver_cov over expected_cov",
}
"""Meaning and unit of the columns of `liver_noise_table`, in order."""


def liver_noise_table(
    full: PETSeries, low: Mapping[float, PETSeries], *, region: NDArray[np.bool_], noise_cov: float
) -> pd.DataFrame:
    """Return the liver's coefficient of variation at every dose, against the square root of the dose reduction factor.

    Noise grows as sqrt(d) and the organ's own texture does not, so sqrt(texture^2 + d noise^2) is expected. Full dose
    and the series of each factor lie on one grid, `region` are the voxels of the liver (X, Y, Z), and `noise_cov` is
    the coefficient of variation of the full dose's noise alone, that the insertion was calibrated to. The table has one
    row per dose, full dose (factor 1) first; its ratio is the measured over the expected coefficient.

    Raises
    ------
    PETError
        The region does not fit a series.
    """
    rows = []
    texture = 0.0
    for factor, series in sorted({1.0: full, **low}.items()):
        found = measured_liver_cov(series, mask=region)
        if factor == 1:
            texture = max(found.cov**2 - noise_cov**2, 0.0)
        expected = float(np.sqrt(texture + factor * noise_cov**2))
        rows.append((factor, found.suv_mean, found.cov, expected, found.cov / expected))
    return pd.DataFrame(rows, columns=list(LIVER_NOISE_COLUMNS))


def liver_noise_figure(table: pd.DataFrame) -> bytes:
    """Draw measured and expected coefficient of variation against the dose reduction factor, as PNG."""
    figure = Figure(figsize=(7.0, 3.6), dpi=140, facecolor="white")
    axes = figure.add_axes((0.1, 0.15, 0.86, 0.8))
    factors = table["dose_reduction_factor"]
    axes.plot(factors, 100 * table["expected_cov"], color=BEFORE_COLOR, label="expected, as the square root")
    axes.plot(factors, 100 * table["liver_cov"], "o", color=AFTER_COLOR, markersize=7, label="measured")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(list(factors), labels=[f"{factor:g}" for factor in factors])
    axes.set_xticks([], minor=True)
    ticks = [tick for tick in (5, 10, 20, 50, 100, 200) if tick <= 150 * max(table["liver_cov"].max(), 0.1)]
    axes.set_yticks(ticks, labels=[f"{tick}" for tick in ticks])
    axes.set_yticks([], minor=True)
    style_axes(axes, "", "dose reduction factor", "coefficient of variation of the liver [%]")
    axes.legend(frameon=False)
    return png(figure)


def write_noise_page(
    path: str | os.PathLike[str],
    *,
    title: str,
    full: PETSeries,
    low: Mapping[float, PETSeries],
    region: NDArray[np.bool_],
    noise_cov: float,
    texture: str,
    run: Mapping[str, object],
) -> Path:
    """Write one self-contained HTML page on noise that was inserted into a full-dose series.

    All text is escaped; `title`, such as a pseudonym, and `run` are shown as they are given, so keep identifiers out of
    them. `texture` compares the texture of own and inserted noise in one line, and `run` says line by line what was
    done: scanner, attenuation, seed, versions. The folder of `path` must exist; the other arguments are those of
    `liver_noise_table`.

    Raises
    ------
    PETError
        The series or the region lie on different grids.
    """
    for factor, series in low.items():
        check_same_grid({"the full dose": full.grid, f"{path}: the series of factor {factor:g}": series.grid})
    voxel_size = full.voxel_size
    box = body_box(body_mask(full.suv, voxel_size=voxel_size), voxel_size=voxel_size)
    panels = [("full dose", full.suv[box]), *((f"1/{d:g} of the counts", low[d].suv[box]) for d in sorted(low))]
    table = liver_noise_table(full, low, region=region, noise_cov=noise_cov)
    figures = {
        "images": montage_figure([montage_row("", panels, voxel_size=voxel_size)]),
        "liver": liver_noise_figure(table),
    }
    return write_page(
        Path(path),
        "noise.html",
        source=full,
        figures=figures,
        run=run,
        kind="Inserted noise",
        title=title,
        provenance=low[max(low)].provenance if low else full.provenance,
        rows=table.to_dict("records"),
        noise_cov=noise_cov,
        texture=texture,
        litres=int(region.sum()) * voxel_volume(voxel_size) / 1000,
        suv_window=SUV_WINDOW,
    )
