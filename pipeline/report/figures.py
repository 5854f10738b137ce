"""The report's figures as PNG bytes: projections and planes at one grey scale, profiles, agreement of regions.

Every function builds its own figure and canvas. Nothing touches matplotlib's global state, so figures can be
made in threads and a user's notebook is not disturbed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from pipeline.images.projections import View, maximum_projection, plane

__all__ = ["SUV_WINDOW", "agreement_figure", "difference_figure", "mip_figure", "profile_figure"]

SUV_WINDOW = (0.0, 7.0)
"""Default grey scale [g/mL]: white to black."""

_TEXT = "#1b1f24"
_MUTED = "#5b6470"
_LINE = "#c9ced6"
BEFORE_COLOR = "#8a929e"
AFTER_COLOR = "#0b5cad"
_DPI = 160
_WIDTH = 10.0  # [in]
_MAX_PANEL_HEIGHT = 8.5  # [in]
_GAP, _TOP, _BOTTOM, _BAR = 0.12, 0.42, 0.1, 0.9  # [in] between panels, titles above, below, colour bar


@dataclass(frozen=True)
class _Panel:
    image: NDArray
    view: View
    title: str
    is_difference: bool = False


def mip_figure(
    before: NDArray[np.floating],
    after: NDArray[np.floating],
    *,
    voxel_size: Sequence[float],
    suv_window: tuple[float, float] = SUV_WINDOW,
    names: tuple[str, str] = ("Before", "After"),
) -> bytes:
    """Draw coronal and sagittal maximum intensity projections of two images at one inverted grey scale, as PNG.

    The images are SUV [g/mL] on one grid, shape (X, Y, Z) with axes towards right, front and head; `voxel_size` is in
    mm. `suv_window` are the SUV shown white and the SUV shown black [g/mL].

    Raises
    ------
    ValueError
        Shapes differ.
    """
    _check_shapes(before, after)
    panels = [
        _Panel(maximum_projection(volume, view), view, f"{name}, {view} MIP")
        for view in ("coronal", "sagittal")
        for name, volume in zip(names, (before, after), strict=True)
    ]
    return _panel_figure(panels, voxel_size, suv_window, difference_limit=None)


def difference_figure(
    before: NDArray[np.floating],
    after: NDArray[np.floating],
    *,
    voxel_size: Sequence[float],
    index: int,
    suv_window: tuple[float, float] = SUV_WINDOW,
) -> bytes:
    """Draw coronal plane `index` of two images at one inverted grey scale, and their difference on a symmetrical scale.

    The difference's scale ends at the smallest of 0.2, 0.5, 1, 2, 5, 10 g/mL that holds 99 % of the plane's voxels with
    activity; it is drawn beside the panel. Images, errors and PNG are as in `mip_figure`.
    """
    _check_shapes(before, after)
    first, second = (plane(volume, "coronal", index=index) for volume in (before, after))
    difference = second.astype(np.float64) - first
    panels = [
        _Panel(first, "coronal", "Before, coronal plane"),
        _Panel(second, "coronal", "After, coronal plane"),
        _Panel(difference, "coronal", "After − before", is_difference=True),
    ]
    return _panel_figure(panels, voxel_size, suv_window, difference_limit=_difference_limit(difference[first > 0.1]))


def profile_figure(
    before: NDArray[np.floating],
    after: NDArray[np.floating],
    *,
    mask: NDArray[np.bool_],
    voxel_size: Sequence[float],
) -> bytes:
    """Draw the mean SUV of the body in every axial plane, and the histogram of SUV in the body.

    A denoiser that keeps the calibration leaves the profile where it was and narrows the histogram. `mask` is the body,
    shape (X, Y, Z); images, errors and PNG are as in `mip_figure`.
    """
    _check_shapes(before, after, mask)
    figure = Figure(figsize=(_WIDTH, 3.4), dpi=_DPI, facecolor="white")
    along_z = figure.add_axes((0.065, 0.17, 0.42, 0.72))
    histogram = figure.add_axes((0.565, 0.17, 0.42, 0.72))
    n_voxels = mask.sum(axis=(0, 1))
    occupied = n_voxels > 0
    distance = np.flatnonzero(occupied) * voxel_size[2] / 10
    edges = np.linspace(0, 10, 101)
    for name, volume, color in (("Before", before, BEFORE_COLOR), ("After", after, AFTER_COLOR)):
        sums = np.where(mask, volume, 0).sum(axis=(0, 1), dtype=np.float64)
        along_z.plot(distance, sums[occupied] / n_voxels[occupied], color=color, linewidth=1.6, label=name)
        counts, _ = np.histogram(volume[mask], bins=edges)
        histogram.stairs(100 * counts / max(mask.sum(), 1), edges, color=color, linewidth=1.6, label=name)
    along_z.set_ylim(bottom=0)
    histogram.set_yscale("log")
    histogram.set_xlim(0, 10)
    style_axes(along_z, "Mean SUV of the body, plane by plane", "from the lowest plane [cm]", "SUVbw [g/mL]")
    style_axes(histogram, "SUV of the body's voxels", "SUVbw [g/mL]", "voxels per 0.1 g/mL [%]")
    for axes in (along_z, histogram):
        axes.legend(frameon=False, fontsize=10, labelcolor=_TEXT)
    return png(figure)


def agreement_figure(lesions: pd.DataFrame) -> bytes:
    """Draw the change of SUVmax, SUVpeak and SUVmean of every region against its value before, with a band of 10 %.

    Changes of more than 100 % (a region that was invented) are arrowheads at the upper end. `lesions` has at least one
    row of `pipeline.evaluation.lesion_table`; a ValueError is raised otherwise.
    """
    if lesions.empty:
        raise ValueError("agreement_figure: no regions to show")
    figure = Figure(figsize=(_WIDTH, 3.4), dpi=_DPI, facecolor="white")
    quantities = {"SUVmax": "suv_max", "SUVpeak": "suv_peak", "SUVmean": "suv_mean"}
    changes = lesions[[f"{quantity}_change_percent" for quantity in quantities.values()]].to_numpy(float)
    end = 1.15 * np.nanmax([25.0, *np.minimum(np.abs(changes), 100.0).ravel()])
    for position, (title, quantity) in enumerate(quantities.items()):
        axes = figure.add_axes((0.07 + position * 0.325, 0.18, 0.27, 0.70))
        x = lesions[f"{quantity}_before"].to_numpy(float)
        axes.axhspan(-10, 10, color="#e9edf2", linewidth=0)
        axes.axhline(0, color=_MUTED, linewidth=1)
        y = changes[:, position]
        beyond = y > 100
        shown = np.where(beyond, 0.95 * end, y)
        style: dict[str, Any] = {"color": AFTER_COLOR, "edgecolor": "white", "linewidth": 0.8, "zorder": 3}
        axes.scatter(x[~beyond], shown[~beyond], s=36, marker="o", **style)
        axes.scatter(x[beyond], shown[beyond], s=60, marker="^", **style)
        axes.set_xscale("log")
        low, high = 0.7 * x[x > 0].min(initial=2.0), 1.4 * x.max(initial=5.0)
        ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200) if low <= tick <= high]
        axes.set_xlim(low, high)
        axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_ylim(-end, end)
        style_axes(axes, title, f"{title} before [g/mL]", "change [%]" if position == 0 else "")
    return png(figure)


def _panel_figure(
    panels: Sequence[_Panel],
    voxel_size: Sequence[float],
    suv_window: tuple[float, float],
    *,
    difference_limit: float | None,
) -> bytes:
    """Draw panels side by side at one scale in millimetres, and a bar for each scale of values."""
    pixel = {"coronal": voxel_size[0], "sagittal": voxel_size[1]}
    widths = [panel.image.shape[1] * pixel[panel.view] for panel in panels]  # [mm]
    height = panels[0].image.shape[0] * voxel_size[2]
    n_bars = 1 if difference_limit is None else 2
    available = _WIDTH - n_bars * _BAR - len(panels) * _GAP
    inch_per_mm = min(available / sum(widths), _MAX_PANEL_HEIGHT / height)
    total_height = height * inch_per_mm + _TOP + _BOTTOM
    total_width = sum(widths) * inch_per_mm + n_bars * _BAR + len(panels) * _GAP
    figure = Figure(figsize=(total_width, total_height), dpi=_DPI, facecolor="white")

    left, bottom, tall = 0.02, _BOTTOM / total_height, height * inch_per_mm / total_height
    for number, (panel, width) in enumerate(zip(panels, widths, strict=True)):
        wide = width * inch_per_mm
        axes = figure.add_axes((left / total_width, bottom, wide / total_width, tall))
        low, high = suv_window
        if panel.is_difference and difference_limit is not None:
            low, high = -difference_limit, difference_limit
        shown = axes.imshow(
            panel.image,
            extent=(0, width, 0, height),
            interpolation="bilinear",
            cmap="RdBu_r" if panel.is_difference else "gray_r",
            vmin=low,
            vmax=high,
        )
        _mark_panel(axes, panel, with_ruler=number == 0, size_mm=(width, height))
        left += wide + _GAP
        next_differs = number + 1 < len(panels) and panels[number + 1].is_difference != panel.is_difference
        if number + 1 == len(panels) or next_differs:
            bar = figure.add_axes((left / total_width, bottom + 0.2 * tall, 0.13 / total_width, 0.6 * tall))
            _draw_bar(figure, bar, shown, is_difference=panel.is_difference)
            left += _BAR
    return png(figure)


def _mark_panel(axes: Axes, panel: _Panel, *, with_ruler: bool, size_mm: tuple[float, float]) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(_LINE)
    axes.set_title(panel.title, fontsize=10.5, color=_TEXT, pad=6, loc="left")
    letters = "RL" if panel.view == "coronal" else "AP"
    for letter, x, side in zip(letters, (0.025, 0.975), ("left", "right"), strict=True):
        mark = axes.text(x, 0.988, letter, transform=axes.transAxes, ha=side, va="top", fontsize=11, color=_TEXT)
        mark.set_path_effects([withStroke(linewidth=3, foreground="white")])
    width, height = size_mm
    if with_ruler and width > 130:
        x, y = 0.04 * width, 0.02 * height
        axes.add_patch(Rectangle((x, y), 100, 0.006 * height, color=_TEXT, linewidth=0))
        axes.text(x + 50, y + 0.012 * height, "10 cm", ha="center", va="bottom", fontsize=8.5, color=_TEXT)


def _draw_bar(figure: Figure, bar: Axes, shown: AxesImage, *, is_difference: bool) -> None:
    colorbar = figure.colorbar(shown, cax=bar)
    bar.set_frame_on(False)
    label = "SUVbw difference [g/mL]" if is_difference else "SUVbw [g/mL]"
    colorbar.set_label(label, fontsize=9.5, color=_TEXT)
    bar.tick_params(labelsize=9, colors=_TEXT, length=3)


def style_axes(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    """Give axes of curves or points the style of the pages."""
    axes.set_title(title, fontsize=11, color=_TEXT, loc="left", pad=8)
    axes.set_xlabel(x_label, fontsize=9.5, color=_TEXT)
    axes.set_ylabel(y_label, fontsize=9.5, color=_TEXT)
    axes.tick_params(labelsize=9, colors=_TEXT, length=3)
    axes.grid(color="#eceff3", linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_LINE)


def _difference_limit(difference: NDArray[np.floating]) -> float:
    spread = np.percentile(np.abs(difference), 99) if difference.size else 0.0
    steps = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
    return next((step for step in steps if spread <= step), steps[-1])


def _check_shapes(*volumes: NDArray) -> None:
    shapes = [volume.shape for volume in volumes]
    if len(set(shapes)) != 1 or len(shapes[0]) != 3:
        raise ValueError(f"volumes of one 3D shape are needed, found {', '.join(map(str, shapes))}")


def png(figure: Figure) -> bytes:
    """Return a figure as PNG; without the software's version the same figure is the same file."""
    buffer = BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()
