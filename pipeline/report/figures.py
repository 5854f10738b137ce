"""The report's figures as PNG bytes: projections and planes at one grey scale, profile and histogram of the body.

Every function builds its own figure and canvas. Nothing touches matplotlib's global state, so figures can be
made in threads and a user's notebook is not disturbed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from PIL import Image

from pipeline.images.projections import View, maximum_projection, plane

__all__ = ["SUV_WINDOW", "difference_figure", "histogram_figure", "mip_figure", "profile_figure"]

SUV_WINDOW = (0.0, 7.0)
"""Default grey scale [g/mL]: white to black."""

TEXT_COLOR = "#1b1f24"
MUTED_COLOR = "#5b6470"
LINE_COLOR = "#c9ced6"
BEFORE_COLOR = "#8a929e"
AFTER_COLOR = "#0b5cad"
REFERENCE_COLOR = "#b3560a"
_DPI = 160
_WIDTH = 2.5  # [in] of a panel, at most
_MAX_PANEL_HEIGHT = 8.5  # [in]
_LOW_BAR = 1.0  # [in] bars below have their label in two lines
_GAP, _TOP, _BOTTOM, _BAR = 0.12, 0.55, 0.1, 0.9  # [in] between panels, titles above, below, colour bar


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
    views: Sequence[Literal["coronal", "sagittal"]] = ("coronal", "sagittal"),
) -> bytes:
    """Draw maximum intensity projections of two images, view after view, at one inverted grey scale, as PNG.

    The images are SUV [g/mL] on one grid, shape (X, Y, Z) with axes towards right, front and head; `voxel_size` is in
    mm. `suv_window` are the SUV shown white and the SUV shown black [g/mL].

    Raises
    ------
    ValueError
        Shapes differ.
    """
    _check_shapes(before, after)
    panels = [
        _Panel(maximum_projection(volume, view), view, f"{name}\n{view} MIP")
        for view in views
        for name, volume in zip(names, (before, after), strict=True)
    ]
    # A view alone has the scale and the width of the other view, beside which it may stand.
    sides = [count * size for count, size in zip(before.shape[:2], voxel_size[:2], strict=True)]
    room = len(panels) * max(sides) if len(views) == 1 else None
    return _panel_figure(panels, voxel_size, suv_window, room=room)


def difference_figure(
    before: NDArray[np.floating],
    after: NDArray[np.floating],
    *,
    voxel_size: Sequence[float],
    index: int,
    reference: NDArray[np.floating] | None = None,
    suv_window: tuple[float, float] = SUV_WINDOW,
) -> bytes:
    """Draw coronal plane `index` of the images at one inverted grey scale, and differences on one symmetrical scale.

    They are after less before and, of a reference, after less reference. Their scale ends at the smallest of 0.2, 0.5,
    1, 2, 5, 10 g/mL that holds 99 % of the plane's voxels with activity of each; it is drawn beside the panels. Images,
    errors and PNG are as in `mip_figure`.
    """
    images = {"Before": before, "After": after} | ({} if reference is None else {"Reference": reference})
    _check_shapes(*images.values())
    planes = {name: plane(volume, "coronal", index=index) for name, volume in images.items()}
    panels = [_Panel(image, "coronal", f"{name}\ncoronal plane") for name, image in planes.items()]
    limits = []
    for name in ("Before", "Reference"):
        if name in planes:
            difference = planes["After"].astype(np.float64) - planes[name]
            limits.append(difference_limit(difference[planes["Before"] > 0.1]))
            panels.append(_Panel(difference, "coronal", f"Difference\nafter − {name.lower()}", is_difference=True))
    return _panel_figure(panels, voxel_size, suv_window, limit=max(limits))


def profile_figure(
    before: NDArray[np.floating],
    after: NDArray[np.floating],
    *,
    mask: NDArray[np.bool_],
    voxel_size: Sequence[float],
) -> bytes:
    """Draw the mean SUV of the body in every axial plane: a denoiser that keeps the calibration leaves it where it was.

    `mask` is the body, shape (X, Y, Z); images, errors and PNG are as in `mip_figure`.
    """
    _check_shapes(before, after, mask)
    figure, axes = chart()
    n_voxels = mask.sum(axis=(0, 1))
    occupied = n_voxels > 0
    distance = np.flatnonzero(occupied) * voxel_size[2] / 10
    for name, volume, color in (("Before", before, BEFORE_COLOR), ("After", after, AFTER_COLOR)):
        sums = np.where(mask, volume, 0).sum(axis=(0, 1), dtype=np.float64)
        axes.plot(distance, sums[occupied] / n_voxels[occupied], color=color, linewidth=1.6, label=name)
    axes.set_ylim(bottom=0)
    style_axes(axes, "Mean SUV of the body, plane by plane", "from the lowest plane [cm]", "SUVbw [g/mL]")
    axes.legend(frameon=False, fontsize=10, labelcolor=TEXT_COLOR)
    return png(figure)


def histogram_figure(before: NDArray[np.floating], after: NDArray[np.floating], *, mask: NDArray[np.bool_]) -> bytes:
    """Draw the histogram of SUV in the body, which a denoiser narrows; arguments are as in `profile_figure`."""
    _check_shapes(before, after, mask)
    figure, axes = chart()
    edges = np.linspace(0, 10, 101)
    for name, volume, color in (("Before", before, BEFORE_COLOR), ("After", after, AFTER_COLOR)):
        counts, _ = np.histogram(volume[mask], bins=edges)
        axes.stairs(100 * counts / max(mask.sum(), 1), edges, color=color, linewidth=1.6, label=name)
    axes.set_yscale("log")
    axes.set_xlim(0, 10)
    style_axes(axes, "SUV of the body's voxels", "SUVbw [g/mL]", "voxels per 0.1 g/mL [%]")
    axes.legend(frameon=False, fontsize=10, labelcolor=TEXT_COLOR)
    return png(figure)


def chart() -> tuple[Figure, Axes]:
    """Return a figure for one chart, the same size for all that stand beside each other."""
    figure = Figure(figsize=(5.0, 3.4), dpi=_DPI, facecolor="white")
    return figure, figure.add_axes((0.14, 0.16, 0.83, 0.74))


def _panel_figure(
    panels: Sequence[_Panel],
    voxel_size: Sequence[float],
    suv_window: tuple[float, float],
    *,
    limit: float | None = None,
    room: float | None = None,
) -> bytes:
    """Draw panels side by side at one scale in millimetres, and a bar for each scale of values.

    `limit` ends the scale of differences [g/mL]; `room` is the width kept for the panels if not their own [mm].
    """
    pixel = {"coronal": voxel_size[0], "sagittal": voxel_size[1]}
    widths = [panel.image.shape[1] * pixel[panel.view] for panel in panels]  # [mm]
    room = room or sum(widths)
    height = panels[0].image.shape[0] * voxel_size[2]
    n_bars = 1 if limit is None else 2
    available = len(panels) * _WIDTH - n_bars * _BAR - len(panels) * _GAP
    inch_per_mm = min(available / room, _MAX_PANEL_HEIGHT / height)
    total_height = height * inch_per_mm + _TOP + _BOTTOM
    total_width = room * inch_per_mm + n_bars * _BAR + len(panels) * _GAP
    figure = Figure(figsize=(total_width, total_height), dpi=_DPI, facecolor="white")

    left, bottom, tall = 0.02, _BOTTOM / total_height, height * inch_per_mm / total_height
    for number, (panel, width) in enumerate(zip(panels, widths, strict=True)):
        wide = width * inch_per_mm
        axes = figure.add_axes((left / total_width, bottom, wide / total_width, tall))
        low, high = suv_window
        if panel.is_difference and limit is not None:
            low, high = -limit, limit
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
        spine.set_color(LINE_COLOR)
    axes.set_title(panel.title, fontsize=10.5, color=TEXT_COLOR, pad=6, loc="left")
    letters = "RL" if panel.view == "coronal" else "AP"
    for letter, x, side in zip(letters, (0.025, 0.975), ("left", "right"), strict=True):
        mark = axes.text(x, 0.988, letter, transform=axes.transAxes, ha=side, va="top", fontsize=11, color=TEXT_COLOR)
        mark.set_path_effects([withStroke(linewidth=3, foreground="white")])
    width, height = size_mm
    if with_ruler and width > 130:
        x, y = 0.04 * width, 0.02 * height
        bar = Rectangle((x, y), 100, 0.008 * height, facecolor=TEXT_COLOR, edgecolor="white", linewidth=0.6)
        axes.add_patch(bar)
        name = axes.text(x + 50, y + 0.014 * height, "10 cm", ha="center", va="bottom", fontsize=8.5, color=TEXT_COLOR)
        name.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def _draw_bar(figure: Figure, bar: Axes, shown: AxesImage, *, is_difference: bool) -> None:
    colorbar = figure.colorbar(shown, cax=bar)
    bar.set_frame_on(False)
    label = "difference [g/mL]" if is_difference else "SUVbw [g/mL]"
    if bar.get_window_extent().height < _LOW_BAR * figure.dpi:
        label = label.replace(" ", "\n")
    colorbar.set_label(label, fontsize=9.5, color=TEXT_COLOR)
    bar.tick_params(labelsize=9, colors=TEXT_COLOR, length=3)


def style_axes(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    """Give axes of curves or points the style of the pages."""
    axes.set_title(title, fontsize=11, color=TEXT_COLOR, loc="left", pad=8)
    axes.set_xlabel(x_label, fontsize=9.5, color=TEXT_COLOR)
    axes.set_ylabel(y_label, fontsize=9.5, color=TEXT_COLOR)
    axes.tick_params(labelsize=9, colors=TEXT_COLOR, length=3)
    axes.grid(color="#eceff3", linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(LINE_COLOR)


def difference_limit(difference: NDArray[np.floating]) -> float:
    """Return where a symmetrical scale ends: the least of 0.2, 0.5, 1, 2, 5, 10 g/mL that holds 99 % of the voxels."""
    spread = np.percentile(np.abs(difference), 99) if difference.size else 0.0
    steps = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
    return next((step for step in steps if spread <= step), steps[-1])


def _check_shapes(*volumes: NDArray) -> None:
    shapes = [volume.shape for volume in volumes]
    if len(set(shapes)) != 1 or len(shapes[0]) != 3:
        raise ValueError(f"volumes of one 3D shape are needed, found {', '.join(map(str, shapes))}")


def png(figure: Figure, *, n_colors: int | None = None) -> bytes:
    """Return a figure as PNG; without the software's version the same figure is the same file.

    With `n_colors`, at most 256, it has a palette of the most suitable colours, which halves the file.
    """
    canvas, buffer = FigureCanvasAgg(figure), BytesIO()
    if n_colors is None:
        canvas.print_png(buffer, metadata={"Software": None})
        return buffer.getvalue()
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    picture.quantize(n_colors).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
