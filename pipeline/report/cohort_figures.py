"""The figures of a cohort as PNG bytes: how a measure is distributed over its scans or regions."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from pipeline.report.figures import AFTER_COLOR, BEFORE_COLOR, TEXT_COLOR, png, style_axes

__all__ = ["distribution_figure"]

_DPI = 140
_COLORS = (BEFORE_COLOR, AFTER_COLOR)
_MOST_BINS = 60


def distribution_figure(
    groups: Mapping[str, ArrayLike], *, title: str, x_label: str, counted: str = "scans", outliers: Sequence[float] = ()
) -> bytes:
    """Draw histograms of the finite values of one or two groups on common bins, the outliers as marks below, as PNG.

    Raises
    ------
    ValueError
        There is no finite value.
    """
    values = {name: np.asarray(group, dtype=np.float64) for name, group in groups.items()}
    values = {name: group[np.isfinite(group)] for name, group in values.items()}
    together = np.concatenate(list(values.values()))
    if not together.size:
        raise ValueError("no value to show")
    figure = Figure(figsize=(5.2, 3.2), dpi=_DPI, facecolor="white")
    axes = figure.add_axes((0.13, 0.17, 0.84, 0.71))
    edges = np.histogram_bin_edges(together, bins="auto" if np.ptp(together) else 1)
    if edges.size > _MOST_BINS:
        edges = np.histogram_bin_edges(together, bins=_MOST_BINS)
    for (name, group), color in zip(values.items(), _COLORS[-len(values) :], strict=True):
        counts, _ = np.histogram(group, bins=edges)
        axes.stairs(counts, edges, fill=True, color=color, alpha=0.25)
        axes.stairs(counts, edges, color=color, linewidth=1.6, label=name)
    if len(outliers):
        axes.plot(
            outliers, np.zeros(len(outliers)), "^", color="#c2410c", markersize=6, clip_on=False, label="outliers"
        )
    style_axes(axes, title, x_label, counted)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    if len(values) > 1 or len(outliers):
        axes.legend(frameon=False, fontsize=9, labelcolor=TEXT_COLOR)
    return png(figure)
