"""The line of SUV through a region, from the patient's right to the left, in every image."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from pipeline.report.figures import AFTER_COLOR, BEFORE_COLOR, LINE_COLOR, REFERENCE_COLOR, TEXT_COLOR

__all__ = ["draw_profile"]

_STYLES = ((BEFORE_COLOR, "-"), (AFTER_COLOR, "-"), (REFERENCE_COLOR, "--"))


def draw_profile(
    axes: Axes,
    images: Mapping[str, NDArray[np.floating]],
    inside: NDArray[np.bool_],
    center: Sequence[int],
    *,
    size: float,
    side: float,
) -> None:
    """Draw SUV [g/mL] along the first axis through a voxel against the distance from it [mm], an image a line.

    `images`, up to three by name, and `inside`, the region, have the shape (X, Y, Z) with X towards the patient's
    right, which is on the left. `size` is the voxel's along X, and `side` what is shown, both in mm. The extent of the
    region on the line is shaded.
    """
    at = np.s_[:, center[1], center[2]]
    places = -(np.arange(inside.shape[0]) - center[0]) * size
    shown = np.abs(places) <= side / 2
    for (name, image), (color, style) in zip(images.items(), _STYLES, strict=False):
        axes.plot(places[shown], image[at][shown], color=color, linestyle=style, linewidth=1.1, label=name)
    for first, last in _runs(inside[at]):
        ends = -(first - 0.5 - center[0]) * size, -(last + 0.5 - center[0]) * size
        axes.axvspan(*ends, color="#e07b00", alpha=0.12, linewidth=0)
    axes.set_xlim(-side / 2, side / 2)
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]), top=1.3 * axes.get_ylim()[1])
    axes.set_xlabel("R    from the centre [mm]    L", fontsize=6.5, labelpad=1.5, color=TEXT_COLOR)
    axes.set_ylabel("SUVbw [g/mL]", fontsize=6.5, labelpad=2, color=TEXT_COLOR)
    axes.tick_params(labelsize=6.5, length=2, pad=1.5, colors=TEXT_COLOR, width=0.4)
    axes.legend(frameon=False, fontsize=6.5, labelcolor=TEXT_COLOR, loc="upper center", ncols=3, borderaxespad=0.1)
    for place, spine in axes.spines.items():
        spine.set_visible(place in ("left", "bottom"))
        spine.set_color(LINE_COLOR)


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the first and the last index of each run of a line."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]
