"""What denoising does to the SUV of regions: limits of agreement, and the distribution of errors of a reference."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from pipeline.evaluation import Agreement, limits_of_agreement
from pipeline.report.figures import (
    AFTER_COLOR,
    BEFORE_COLOR,
    MUTED_COLOR,
    TEXT_COLOR,
    chart,
    difference_limit,
    png,
    style_axes,
)

__all__ = [
    "SUVAgreement",
    "absolute_error_figure",
    "agreement_figure",
    "error_figure",
    "suv_agreement",
    "voxel_error_figure",
]

_SIZE = (4.0, 3.2)  # [in]
_DPI = 180
_OVER_LINES: dict[str, Any] = {
    "frameon": True,
    "facecolor": "white",
    "edgecolor": "none",
    "framealpha": 1,
    "borderpad": 0.1,
}
_FEWEST = 3
"""Regions from which limits are stated: the SD of two says nothing."""
_ERRORS = np.linspace(-50, 50, 21)
"""Edges of the histogram of errors [%]; what lies beyond is counted at the ends."""


@dataclass(frozen=True)
class SUVAgreement:
    """One quantity of the same regions in two images."""

    mean: NDArray[np.float64]
    """Of both images, shape (n,) [g/mL]."""
    difference: NDArray[np.float64]
    """The first less the second, in percent of the mean, shape (n,)."""
    limits: Agreement | None
    """Bias and limits of agreement [%]; None for fewer than three regions."""


def suv_agreement(first: ArrayLike, second: ArrayLike) -> SUVAgreement:
    """Compare a quantity of regions in two images as Bland and Altman (1986) do, in percent of the mean of both.

    The difference of SUV grows with SUV, so it is relative. Both have the shape (n,) [g/mL]; regions where a value is
    not finite, or the mean is not above 0, are left out.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    mean = (a + b) / 2
    kept = np.isfinite(mean) & (mean > 0)
    mean, difference = mean[kept], 100 * (a - b)[kept] / mean[kept]
    limits = limits_of_agreement(difference) if len(mean) >= _FEWEST else None
    return SUVAgreement(mean, difference, limits)


def agreement_figure(agreement: SUVAgreement, *, quantity: str, comparison: str) -> bytes:
    """Draw a Bland-Altman plot of regions, as PNG: bias, limits of agreement and their 95 % intervals.

    `quantity` is its name, such as SUVpeak, and `comparison` says which image is subtracted from which.

    Raises
    ------
    ValueError
        There is no region.
    """
    if not agreement.mean.size:
        raise ValueError("agreement_figure: no regions to show")
    figure = Figure(figsize=_SIZE, dpi=_DPI, facecolor="white")
    axes = figure.add_axes((0.19, 0.16, 0.63, 0.72))
    limits = agreement.limits
    shown = [-10.0, 10.0, *agreement.difference]
    axes.axhline(0, color=MUTED_COLOR, linewidth=0.8)
    if limits is not None:
        shown += [limits.lower.low, limits.upper.high]
        lines = {"bias": (limits.bias, "-"), "+1.96 SD": (limits.upper, "--"), "−1.96 SD": (limits.lower, "--")}
        heights = _apart([line.mean for line, _ in lines.values()], 0.14 * np.ptp(shown))
        for (name, (line, style)), height in zip(lines.items(), heights, strict=True):
            axes.axhspan(line.low, line.high, color=AFTER_COLOR, alpha=0.10, linewidth=0)
            axes.axhline(line.mean, color=AFTER_COLOR, linewidth=1.3, linestyle=style)
            text = f"{name}\n{line.mean:+.1f} %".replace("-", "−")
            axes.text(
                1.02, height, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5, color=TEXT_COLOR
            )
    axes.scatter(
        agreement.mean, agreement.difference, s=26, color=TEXT_COLOR, edgecolor="white", linewidth=0.7, zorder=3
    )
    axes.set_xscale("log")
    low, high = 0.8 * agreement.mean.min(), 1.25 * agreement.mean.max()
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 50, 100, 200) if low <= tick <= high]
    axes.set_xlim(low, high)
    axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    margin = 0.08 * np.ptp(shown)
    axes.set_ylim(min(shown) - margin, max(shown) + margin)
    style_axes(axes, f"{quantity}: {comparison}", f"{quantity}, mean of both [g/mL]", "difference [% of the mean]")
    return png(figure)


def error_figure(errors: Mapping[str, ArrayLike], *, quantity: str) -> bytes:
    """Draw histograms of the errors of regions [% of the reference] in two images, as PNG.

    `errors` are arrays (n,) by the name of the image, the first grey, the second blue; what is not finite is left out.
    """
    return _histograms(
        errors, _ERRORS, f"Error of {quantity}", "error [% of the reference]", "regions per 5 %", middle=True
    )


def absolute_error_figure(errors: Mapping[str, ArrayLike], *, quantity: str) -> bytes:
    """Draw histograms of the errors of regions without their sign [g/mL], as PNG; `errors` are as in `error_figure`.

    The bins are a twentieth of the least of 1, 2, 5, 10 and so on that holds all errors.
    """
    highest = max((float(np.max(found)) for values in errors.values() if (found := _finite(values)).size), default=0)
    end = next((step for step in _steps() if step >= highest), highest)
    edges = np.linspace(0, end, 21)
    unit = f"regions per {end / 20:g} g/mL"
    return _histograms(errors, edges, f"|Error| of {quantity}", "|image − reference| [g/mL]", unit, middle=False)


def voxel_error_figure(images: Mapping[str, NDArray[np.floating]], reference: NDArray[np.floating]) -> bytes:
    """Draw the histogram of the errors of voxels [g/mL], as PNG, on a logarithmic scale with their RMS.

    `images` by name, the first grey, the second blue, and the reference are SUV of the same voxels [g/mL]. What lies
    beyond the scale, which holds 99 % of the voxels of each, is not drawn.
    """
    figure, axes = chart()
    errors = {name: image.astype(np.float64) - reference for name, image in images.items()}
    limit = max(difference_limit(error) for error in errors.values())
    edges = np.linspace(-limit, limit, 81)
    for (name, error), color in zip(errors.items(), (BEFORE_COLOR, AFTER_COLOR), strict=False):
        counts, _ = np.histogram(error, bins=edges)
        rms = float(np.sqrt(np.mean(error**2))) if error.size else np.nan
        share = 100 * counts / max(error.size, 1)
        axes.stairs(share, edges, color=color, linewidth=1.6, label=f"{name}: RMS {rms:.2f} g/mL")
    axes.axvline(0, color=MUTED_COLOR, linewidth=0.8)
    axes.set_xlim(-limit, limit)
    axes.set_yscale("log")
    axes.set_ylim(top=30 * axes.get_ylim()[1])
    axes.legend(**_OVER_LINES, fontsize=10, labelcolor=TEXT_COLOR, loc="upper left")
    label = f"voxels per {edges[1] - edges[0]:.2g} g/mL [%]"
    style_axes(axes, "Error of the body's voxels", "image − reference [g/mL]", label)
    return png(figure)


def _histograms(
    errors: Mapping[str, ArrayLike], edges: NDArray[np.float64], title: str, x_label: str, y_label: str, *, middle: bool
) -> bytes:
    """Draw histograms over each other; what lies beyond the edges is counted in the outermost bins."""
    figure = Figure(figsize=_SIZE, dpi=_DPI, facecolor="white")
    axes = figure.add_axes((0.15, 0.16, 0.80, 0.72))
    for (name, values), color in zip(errors.items(), (BEFORE_COLOR, AFTER_COLOR), strict=False):
        counts, _ = np.histogram(np.clip(_finite(values), edges[0], edges[-1]), bins=edges)
        axes.stairs(counts, edges, color=color, linewidth=1.6, label=name)
        axes.stairs(counts, edges, color=color, alpha=0.15, fill=True)
    if middle:
        axes.axvline(0, color=MUTED_COLOR, linewidth=0.8)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, 1.25 * max(axes.get_ylim()[1], 1))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(**_OVER_LINES, fontsize=9, labelcolor=TEXT_COLOR, loc="upper left" if middle else "upper right")
    style_axes(axes, title, x_label, y_label)
    return png(figure)


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    found = np.asarray(values, dtype=np.float64)
    return found[np.isfinite(found)]


def _steps() -> list[float]:
    return [factor * 10.0**power for power in range(-2, 4) for factor in (1, 2, 5)]


def _apart(heights: list[float], least: float) -> list[float]:
    """Return the heights of the labels of a bias and of the limits above and below it, moved apart if they touch."""
    middle, above, below = heights
    return [middle, max(above, middle + least), min(below, middle - least)]
