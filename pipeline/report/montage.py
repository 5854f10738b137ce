"""One picture of a cohort: a row per subject, a column per image, one grey scale."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.images.projections import center_of_activity, maximum_projection, plane
from pipeline.report.figures import SUV_WINDOW, png

__all__ = ["MontageRow", "montage_figure", "montage_row"]

_PANEL_HEIGHT = 3.2  # [in]
_NAME_WIDTH, _TITLE_HEIGHT, _GAP = 0.3, 0.3, 0.04  # [in]
_DPI = 110


@dataclass(frozen=True)
class MontageRow:
    """Panels of one subject; small, so that a cohort's volumes need not be held together."""

    name: str
    panels: tuple[tuple[str, NDArray], ...]
    """Title and SUV of each panel, shape (Z, X), head up."""
    aspect: float
    """Height over width of a pixel."""


def montage_row(
    name: str, images: Iterable[tuple[str, NDArray[np.floating]]], *, voxel_size: Sequence[float]
) -> MontageRow:
    """Return the panels of a subject: the coronal projection of the first image, then one coronal plane of each.

    `images` are title and SUV volume (X, Y, Z) of each, on one grid, and are read one after the other; `voxel_size` is
    in mm.

    Raises
    ------
    ValueError
        If there is no image.
    """
    panels: list[tuple[str, NDArray]] = []
    index = 0
    for title, suv in images:
        if not panels:
            # Behind the centre of activity lie liver, kidneys and spine.
            index = center_of_activity(suv)[1]
            panels.append((f"{title}, projection", maximum_projection(suv, "coronal").copy()))
        panels.append((title, plane(suv, "coronal", index=index).copy()))
    if not panels:
        raise ValueError(f"{name}: no image to show")
    return MontageRow(name=name, panels=tuple(panels), aspect=voxel_size[2] / voxel_size[0])


def montage_figure(rows: Sequence[MontageRow], *, suv_window: tuple[float, float] = SUV_WINDOW) -> bytes:
    """Draw rows of subjects below each other, as PNG; they may differ in size and in number of panels.

    `suv_window` are the SUV shown white and the SUV shown black [g/mL].

    Raises
    ------
    ValueError
        If there is no row.
    """
    if not rows:
        raise ValueError("no subject to show")
    # The tallest field of view fills a panel's height; the others keep their size in millimetres beside it.
    widths = [
        [_PANEL_HEIGHT * panel.shape[1] / (panel.shape[0] * row.aspect) for _, panel in row.panels] for row in rows
    ]
    width = _NAME_WIDTH + max(sum(w) + _GAP * len(w) for w in widths)
    height = len(rows) * (_PANEL_HEIGHT + _TITLE_HEIGHT)
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    for k, (row, row_widths) in enumerate(zip(rows, widths, strict=True)):
        bottom = height - (k + 1) * (_PANEL_HEIGHT + _TITLE_HEIGHT)
        left = _NAME_WIDTH
        middle = (bottom + _PANEL_HEIGHT / 2) / height
        figure.text(_NAME_WIDTH / 2 / width, middle, row.name, rotation=90, ha="center", va="center")
        for (title, panel), panel_width in zip(row.panels, row_widths, strict=True):
            box = (left / width, bottom / height, panel_width / width, _PANEL_HEIGHT / height)
            axes = figure.add_axes(box)
            axes.imshow(panel, cmap="gray_r", vmin=suv_window[0], vmax=suv_window[1], aspect="auto")
            axes.set_axis_off()
            axes.set_title(title, fontsize=8, pad=3)
            left += panel_width + _GAP
    return png(figure)
