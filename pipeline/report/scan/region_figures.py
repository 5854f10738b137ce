"""Three planes and a line through one region, in every image at one scale, as PNG for the width of a phone."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import find_contours

from pipeline.images import Regions
from pipeline.images.projections import View, plane
from pipeline.report.figures import LINE_COLOR, TEXT_COLOR, difference_limit, png
from pipeline.report.scan.region_profile import draw_profile

__all__ = ["MOST_REGIONS", "region_figure", "region_figures", "region_window"]

MOST_REGIONS = 20
"""Regions that are drawn, the hottest."""

_VIEWS: dict[View, tuple[int, int, int]] = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
"""Axes of the volume along a panel's width, its height, and the view."""
_LETTERS = {"axial": "RL", "coronal": "RL", "sagittal": "AP"}
_WIDTH = 3.7  # [in] of the figure, which a phone of 390 pixels shows as it is
_DPI = 160
_LEFT, _TOP, _BARS, _GAP = 0.2, 0.22, 0.5, 0.05  # [in]
_PROFILE = 1.35  # [in] height of the chart below the planes, with its labels
_AROUND = 25.0  # [mm] shown around the region
_SIDES = (80.0, 400.0)  # [mm] least and greatest side of a panel
_WINDOWS = (7.0, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0)
_OUTLINE = "#e07b00"


def region_window(suv_peak: float) -> tuple[float, float]:
    """Return the grey scale for a region [g/mL]: from 0 to the least of 7, 10, 15, 20, 30, 50, 100 that holds its peak.

    A region hotter than the usual 7 g/mL would be black in every image, and what denoising did to it unseen.
    """
    return 0.0, next((end for end in _WINDOWS if suv_peak <= end), _WINDOWS[-1])


def region_figures(
    images: Mapping[str, NDArray[np.floating]],
    regions: Regions,
    lesions: pd.DataFrame,
    *,
    voxel_size: Sequence[float],
) -> dict[int, bytes]:
    """Return the figure of each of the hottest regions by its number, hottest first; see `region_figure`.

    `lesions` are rows of `pipeline.evaluation.lesion_table` of these regions; the grey scale is that of
    `region_window`. There are at most MOST_REGIONS figures.
    """
    # Regions that were looked for are numbered hottest first, given ones are not.
    sorted_by_heat = lesions if regions.found_in else lesions.sort_values("suv_peak_before", ascending=False)
    boxes = ndimage.find_objects(regions.labels)
    return {
        row.region: region_figure(
            images,
            regions.labels,
            region=row.region,
            box=boxes[row.region - 1],
            voxel_size=voxel_size,
            suv_window=region_window(max(row.suv_peak_before, row.suv_peak_after)),
        )
        for row in sorted_by_heat.head(MOST_REGIONS).itertuples()
    }


def region_figure(
    images: Mapping[str, NDArray[np.floating]],
    labels: NDArray[np.integer],
    *,
    region: int,
    box: tuple[slice, slice, slice],
    voxel_size: Sequence[float],
    suv_window: tuple[float, float],
) -> bytes:
    """Draw an axial, a coronal and a sagittal plane through a region, and a line: every image, and second minus first.

    `images` are SUV [g/mL] by name, at least two; they and the labels have the shape (X, Y, Z) on axes towards right,
    front and head, `voxel_size` is in mm, and `box` is the bounding box of the region's number in the labels. The
    planes meet where the mean of the first two images is highest in the region, so that they follow neither the noise
    of one nor the errors of the other. All images have one inverted grey scale, `suv_window`, and the difference has a
    symmetrical one; bars with units are below. The region's outline is drawn on each. Below is the SUV along the line
    from right to left through the place where the planes meet.

    Raises
    ------
    ValueError
        There are fewer than two images.
    """
    if len(images) < 2:
        raise ValueError(f"region_figure: two images or more are needed, found {len(images)}")
    (first, before), (second, after), *_ = images.items()
    mean = np.where(labels[box] == region, before[box] + after[box], -np.inf)
    center = [int(i) + axis.start for i, axis in zip(np.unravel_index(mean.argmax(), mean.shape), box, strict=True)]
    side = _side(box, voxel_size)
    window = _window(labels.shape, center, voxel_size, side)
    middle = [c - axis.start for c, axis in zip(center, window, strict=True)]
    crops = {name: image[window] for name, image in images.items()}
    difference = crops[second].astype(np.float64) - crops[first]
    limit = difference_limit(difference)
    crops[f"{second} − {first.lower()}"] = difference
    inside = labels[window] == region

    n_columns = len(crops)
    inch = (_WIDTH - _LEFT - n_columns * _GAP) / n_columns
    height = _TOP + 3 * (inch + _GAP) + _BARS + _PROFILE
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    shown: list[AxesImage] = []
    for (row, view), (column, (name, crop)) in product(enumerate(_VIEWS), enumerate(crops.items())):
        corner = (_LEFT + column * (inch + _GAP), height - _TOP - row * (inch + _GAP) - inch)
        is_difference = column == n_columns - 1
        low, high = (-limit, limit) if is_difference else suv_window
        panel = _Panel(axes, view, corner=corner, inch=inch, side=side, voxel_size=voxel_size, center=middle)
        shown.append(panel.draw(crop, low=low, high=high, cmap="RdBu_r" if is_difference else "gray_r"))
        panel.outline(inside)
        if row == 0 and not is_difference:
            panel.line()
        if column == 0:
            panel.name()
        if row == 0:
            axes.text(corner[0], height - _TOP + 0.05, name, va="bottom", fontsize=7.5, color=TEXT_COLOR)
        if row == column == 0:
            panel.ruler()
    axes.set_xlim(0, _WIDTH)
    axes.set_ylim(0, height)
    images_wide = (n_columns - 1) * (inch + _GAP) - _GAP
    _bar(figure, shown[0], left=_LEFT, wide=min(images_wide, 1.6), height=height, label="SUVbw [g/mL]")
    last = _LEFT + images_wide + _GAP
    _bar(figure, shown[n_columns - 1], left=last, wide=inch, height=height, label="difference [g/mL]")
    chart = figure.add_axes((0.42 / _WIDTH, 0.32 / height, (_WIDTH - 0.52) / _WIDTH, (_PROFILE - 0.42) / height))
    lines = {name: crops[name] for name in images}
    draw_profile(chart, lines, inside, middle, size=voxel_size[0], side=side)
    return png(figure, n_colors=256)


class _Panel:
    """One square of the figure, whose axes are in inches: where millimetres around the centre lie in it."""

    def __init__(
        self,
        axes: Axes,
        view: View,
        *,
        corner: tuple[float, float],
        inch: float,
        side: float,
        voxel_size: Sequence[float],
        center: Sequence[int],
    ) -> None:
        across, up, along = _VIEWS[view]
        self.axes, self.view, self.corner, self.inch, self.side = axes, view, corner, inch, side
        self.sizes = voxel_size[across], voxel_size[up]
        self.middle = center[across], center[up]
        self.index = center[along]
        self.frame = Rectangle(corner, inch, inch, facecolor="#f1f3f6", edgecolor=LINE_COLOR, linewidth=0.5, zorder=0)
        axes.add_patch(self.frame)

    def _x(self, mm: Any) -> Any:
        return self.corner[0] + (mm / self.side + 0.5) * self.inch

    def _y(self, mm: Any) -> Any:
        return self.corner[1] + (mm / self.side + 0.5) * self.inch

    def _edges(self, shape: tuple[int, int]) -> tuple[float, float]:
        """Return how far the left and the upper edge of a panel's image lie from the centre [mm]."""
        n_up, n_across = shape
        left = -(n_across - 0.5 - self.middle[0]) * self.sizes[0]
        return left, (n_up - 0.5 - self.middle[1]) * self.sizes[1]

    def draw(self, volume: NDArray, *, low: float, high: float, cmap: str) -> AxesImage:
        """Draw the panel's plane of a volume."""
        image = plane(volume, self.view, index=self.index)
        left, top = self._edges(image.shape)
        right, bottom = left + image.shape[1] * self.sizes[0], top - image.shape[0] * self.sizes[1]
        drawn = self.axes.imshow(
            image,
            extent=(self._x(left), self._x(right), self._y(bottom), self._y(top)),
            aspect="auto",
            interpolation="bilinear",
            cmap=cmap,
            vmin=low,
            vmax=high,
            zorder=1,
        )
        drawn.set_clip_path(self.frame)
        return drawn

    def outline(self, mask: NDArray[np.bool_]) -> None:
        """Draw the outline of the region in the plane."""
        inside = plane(mask, self.view, index=self.index)
        left, top = self._edges(inside.shape)
        lines = []
        for contour in find_contours(np.pad(inside, 1).astype(np.float64), 0.5):
            row, column = contour.T - 1
            lines.append(
                np.stack(
                    [self._x(left + (column + 0.5) * self.sizes[0]), self._y(top - (row + 0.5) * self.sizes[1])], 1
                )
            )
        drawn = LineCollection(lines, colors=_OUTLINE, linewidths=0.6, zorder=2)
        self.axes.add_collection(drawn, autolim=False)
        drawn.set_clip_path(self.frame)

    def name(self) -> None:
        """Write the name of the view beside the panel, and the patient's sides in it."""
        x, y = self.corner[0] - 0.06, self.corner[1] + self.inch / 2
        self.axes.text(x, y, self.view, rotation=90, ha="right", va="center", fontsize=7.5, color=TEXT_COLOR)
        for letter, x, side in zip(_LETTERS[self.view], (0.03, 0.97), ("left", "right"), strict=True):
            x_inch, y_inch = self.corner[0] + x * self.inch, self.corner[1] + 0.97 * self.inch
            mark = self.axes.text(x_inch, y_inch, letter, ha=side, va="top", fontsize=7, color=TEXT_COLOR)
            mark.set_path_effects([withStroke(linewidth=1.8, foreground="white")])

    def line(self) -> None:
        """Mark the ends of the line from right to left through the centre."""
        y = self._y(0)
        for start, end in ((0, 0.08), (0.92, 1)):
            x = [self.corner[0] + part * self.inch for part in (start, end)]
            self.axes.plot(x, [y, y], color=_OUTLINE, linewidth=0.8, zorder=3)

    def ruler(self) -> None:
        """Draw 2 cm, or 5 cm in a wide panel."""
        length = 20 if self.side <= 150 else 50
        x, y = self.corner[0] + 0.05 * self.inch, self.corner[1] + 0.05 * self.inch
        long = length / self.side * self.inch
        self.axes.add_patch(Rectangle((x, y), long, 0.02, facecolor=TEXT_COLOR, edgecolor="white", linewidth=0.4))
        text = self.axes.text(x, y + 0.03, f"{length // 10} cm", ha="left", va="bottom", fontsize=6.5, color=TEXT_COLOR)
        text.set_path_effects([withStroke(linewidth=1.8, foreground="white")])


def _bar(figure: Figure, shown: AxesImage, *, left: float, wide: float, height: float, label: str) -> None:
    axes = figure.add_axes((left / _WIDTH, (_PROFILE + 0.36) / height, wide / _WIDTH, 0.07 / height))
    bar = figure.colorbar(shown, cax=axes, orientation="horizontal")
    low, high = shown.get_clim()
    bar.set_ticks([low, (low + high) / 2, high])
    bar.set_ticklabels([f"{value:g}".replace("-", "−") for value in (low, (low + high) / 2, high)])
    bar.outline.set_linewidth(0.4)
    axes.tick_params(labelsize=6.5, length=2, pad=1.5, colors=TEXT_COLOR, width=0.4)
    labels = axes.get_xticklabels()
    labels[0].set_horizontalalignment("left")
    labels[-1].set_horizontalalignment("right")
    axes.set_xlabel(label, fontsize=6.5, labelpad=1.5, color=TEXT_COLOR)


def _side(box: tuple[slice, ...], voxel_size: Sequence[float]) -> float:
    """Return the side of a panel [mm]: the region's longest extent and what is around it."""
    longest = max((axis.stop - axis.start) * size for axis, size in zip(box, voxel_size, strict=True))
    return float(np.clip(10 * np.ceil((longest + 2 * _AROUND) / 10), *_SIDES))


def _window(
    shape: tuple[int, ...], center: Sequence[int], voxel_size: Sequence[float], side: float
) -> tuple[slice, slice, slice]:
    reach = [int(np.ceil(side / 2 / size)) + 1 for size in voxel_size]
    x, y, z = (slice(max(c - r, 0), min(c + r + 1, n)) for c, r, n in zip(center, reach, shape, strict=True))
    return x, y, z
