"""The figures of a benchmark as PNG bytes: curves against the dose or a size, and quality against cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.sparse.csgraph import connected_components

from pipeline.report.figures import png, style_axes

__all__ = ["Curve", "Point", "curves_figure", "points_figure"]

_COLORS = ("#0b5cad", "#c2410c", "#15803d", "#7e22ce", "#111827", "#0e7490", "#be185d", "#4d7c0f")
_OTHERS = "#d5d9e0"
_DPI = 140
_PANEL = (3.6, 3.1)  # [in]
_NAME, _CHARACTER, _LINE, _GAP = 130.0, 7.5, 17.0, 14.0  # [pixels] a name, its letters, its line, its distance


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A measure of one method against the dose or a size, with the interval of each value."""

    name: str
    group: str
    """Curves of a group are drawn together, those of the others in grey behind them."""
    factors: Sequence[float]
    """Dose reduction factors, or sizes."""
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    """The interval; NaN where there is none."""
    is_repeat: bool = False
    """Whether it is another seed of the curve before it, which gets the colour of that one, dashed and without name."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One method: what it costs and how good it is."""

    name: str
    group: str
    cost: float
    quality: float


def curves_figure(
    curves: Sequence[Curve], *, y_label: str, x_label: str = "dose reduction factor", zero_line: bool = False
) -> bytes:
    """Draw curves on a logarithmic axis, such as of the dose reduction factor, a panel for each group, as PNG.

    Raises
    ------
    ValueError
        If there is no curve.
    """
    if not curves:
        raise ValueError("no curve to show")
    groups = list(dict.fromkeys(curve.group for curve in curves))
    longest = max(sum(c.group == group and not c.is_repeat for c in curves) for group in groups)
    legend = 0.6 + 0.21 * longest  # [in] below the panels
    width, height = max(_PANEL[0] * len(groups), 5.0), _PANEL[1] + legend
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    all_axes = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    figure.subplots_adjust(left=0.72 / width, right=1 - 0.1 / width, top=1 - 0.35 / height, bottom=legend / height)
    factors = sorted({factor for curve in curves for factor in curve.factors})
    for number, (axes, group) in enumerate(zip(all_axes, groups, strict=True)):
        if zero_line:
            axes.axhline(0, color="#8a929e", linewidth=1)
        for curve in curves:
            if curve.group != group:
                axes.plot(curve.factors, curve.mean, color=_OTHERS, linewidth=1, zorder=1)
        _draw_group(axes, [curve for curve in curves if curve.group == group])
        axes.set_xscale("log")
        axes.set_xticks(factors, labels=[f"{factor:g}" for factor in factors])
        axes.set_xticks([], minor=True)
        style_axes(axes, group, x_label, y_label if number == 0 else "")
        axes.legend(frameon=False, fontsize=8.5, loc="upper left", bbox_to_anchor=(-0.04, -0.17))
    return png(figure)


def _draw_group(axes: Axes, curves: Sequence[Curve]) -> None:
    number = -1
    for curve in curves:
        number += not curve.is_repeat
        color = _COLORS[max(number, 0) % len(_COLORS)]
        style = "--" if curve.is_repeat else "o-"
        name = None if curve.is_repeat else curve.name
        axes.plot(curve.factors, curve.mean, style, color=color, linewidth=1.6, markersize=3.5, label=name, zorder=3)
        if not curve.is_repeat:
            axes.fill_between(curve.factors, curve.low, curve.high, color=color, alpha=0.13, linewidth=0, zorder=2)


def points_figure(points: Sequence[Point], *, x_label: str, y_label: str) -> bytes:
    """Draw quality against cost on a logarithmic axis, each point with its name, as PNG.

    Raises
    ------
    ValueError
        If there is no point, or a cost is not above 0.
    """
    if not points or min(point.cost for point in points) <= 0:
        raise ValueError("no point to show, or a cost that is not above 0")
    figure = Figure(figsize=(8.6, 4.6), dpi=_DPI, facecolor="white")
    axes = figure.add_axes((0.09, 0.13, 0.88, 0.82))
    groups = list(dict.fromkeys(point.group for point in points))
    for group, color in zip(groups, _COLORS * len(groups), strict=False):
        members = [point for point in points if point.group == group]
        axes.scatter([p.cost for p in members], [p.quality for p in members], s=38, color=color, label=group, zorder=3)
    axes.set_xscale("log")
    style_axes(axes, "", x_label, y_label)
    low, high = min(p.cost for p in points), max(p.cost for p in points)
    axes.set_xlim(low / 1.6, high * max((high / low) ** 0.25, 2.0))  # room for the names at the right
    _name_points(axes, points, dict(zip(groups, _COLORS * len(groups), strict=False)))
    axes.legend(frameon=False, fontsize=9, loc="best")
    return png(figure)


def _name_points(axes: Axes, points: Sequence[Point], colors: Mapping[str, str]) -> None:
    """Write each name beside its point; of points that stand close, half at the left and half at the right."""
    places = axes.transData.transform([(p.cost, p.quality) for p in points])
    for group in _close_together(places):
        left, right = places[group, 0].min() - _GAP, places[group, 0].max() + _GAP
        longest = _CHARACTER * max(len(points[i].name) for i in group)
        half = len(group) // 2 if left - longest > axes.bbox.x0 else 0
        for members, edge, side, start in ((group[:half], left, "right", 1), (group[half:], right, "left", 0)):
            members = sorted(members, key=lambda i: -places[i, 1])
            heights = _apart(places[members, 1])
            for i, height in zip(members, heights, strict=True):
                leader = {"arrowstyle": "-", "color": "#c9ced6", "linewidth": 0.7, "relpos": (start, 0.5)}
                axes.annotate(
                    points[i].name,
                    (points[i].cost, points[i].quality),
                    xytext=(edge, height),
                    textcoords="figure pixels",
                    ha=side,
                    va="center",
                    fontsize=8.5,
                    color=colors[points[i].group],
                    arrowprops=leader if len(group) > 1 else None,
                )


def _close_together(places: NDArray[np.floating]) -> list[list[int]]:
    """Return the indices of points (n, 2) in groups whose names would meet, of each from left to right [pixels]."""
    apart = np.abs(places[:, None] - places[None])
    close = (apart[..., 0] < _NAME) & (apart[..., 1] < 2.5 * _LINE)
    _, groups = connected_components(close)
    order = np.argsort(places[:, 0], kind="stable")
    return [[int(i) for i in order if groups[i] == group] for group in dict.fromkeys(groups)]


def _apart(heights: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return heights in falling order moved as little as may be, in squares, so that all are a line apart [pixels]."""
    lines = _LINE * np.arange(len(heights))
    if len(heights) < 2:
        return np.asarray(heights, dtype=np.float64)
    return isotonic_regression(heights + lines, increasing=False).x - lines
