"""Projections that turn around the patient: an animated picture that needs no script, and one that stands still."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pipeline.report.figures import SUV_WINDOW, TEXT_COLOR

__all__ = ["N_VIEWS", "Turning", "turning_projections", "views_around"]

N_VIEWS = 36
"""Views of one turn, every 10 degrees."""
_MILLISECONDS = 140  # that a view is shown
_TALLEST = 380  # [pixels] of a projection
_FINEST = 2.5  # [mm] of a pixel
_MARGIN, _GAP, _TOP, _BOTTOM = 8, 12, 26, 54  # [pixels] beside, between, above and below the projections
_BAR = 160  # [pixels] length of the bar of the grey scale
_DPI = 100
_QUALITY = 55


@dataclass(frozen=True)
class Turning:
    """Pictures in the format WebP."""

    animated: bytes
    """One turn, again and again."""
    still: bytes
    """Its first view, from the front."""


def turning_projections(
    images: Mapping[str, NDArray[np.floating]],
    *,
    voxel_size: Sequence[float],
    suv_window: tuple[float, float] = SUV_WINDOW,
) -> Turning:
    """Draw maximum intensity projections that turn, of all images side by side at one inverted grey scale.

    `images` are SUV [g/mL] by name on one grid, shape (X, Y, Z) with axes towards right, front and head, cropped to
    what is shown; `voxel_size` is in mm. `suv_window` are the SUV shown white and the SUV shown black [g/mL]. The first
    view is from the front, the patient's right on the left; then it goes around by the patient's right.

    Raises
    ------
    ValueError
        Shapes differ, or there is no image.
    """
    shapes = {image.shape for image in images.values()}
    if len(shapes) != 1:
        raise ValueError(f"turning_projections: images of one shape are needed, found {sorted(shapes)}")
    (shape,) = shapes
    pixel = max(_FINEST, shape[2] * voxel_size[2] / _TALLEST)
    around = [
        views_around(_grey_cubes(image, voxel_size=voxel_size, pixel=pixel, suv_window=suv_window))
        for image in images.values()
    ]
    paper = _paper(list(images), around[0].shape[1:], pixel=pixel, suv_window=suv_window)
    pictures = []
    for views in zip(*around, strict=True):
        page = paper.copy()
        for column, view in enumerate(views):
            tall, wide = view.shape
            left = _MARGIN + column * (wide + _GAP)
            page[_TOP : _TOP + tall, left : left + wide] = 255 - view
        pictures.append(Image.fromarray(page))
    more: dict[str, Any] = {"save_all": True, "append_images": pictures[1:], "duration": _MILLISECONDS, "loop": 0}
    return Turning(animated=_webp(pictures[0], **more), still=_webp(pictures[0]))


def views_around(volume: NDArray[np.uint8], *, n_views: int = N_VIEWS) -> NDArray[np.uint8]:
    """Return maximum intensity projections from all around, shape (n_views, Z, width), head up.

    `volume` has the shape (X, Y, Z) with axes towards right, front and head, cubic voxels and 0 outside. The first view
    is from the front with the patient's right on the left, and a quarter of a turn later the view is from the patient's
    right, the front on the right. `n_views` is even: a view from behind is the mirror of that from the front.
    """
    nx, ny, nz = volume.shape
    wide = int(np.ceil(np.hypot(nx, ny)))
    # One more column, of nothing, stands for all that is outside.
    columns = np.concatenate([volume.reshape(nx * ny, nz), np.zeros((1, nz), dtype=volume.dtype)])
    # Across the picture from the patient's right on, and along the ray in half steps, which miss no voxel.
    across = ((wide - 1) / 2 - np.arange(wide))[:, None]
    along = (np.arange(2 * wide) / 2 - (wide - 1) / 2)[None, :]
    views = np.empty((n_views, nz, wide), dtype=volume.dtype)
    for number, angle in enumerate(2 * np.pi * np.arange(n_views // 2) / n_views):
        # Rounded up at one half, whatever the rounding of the sine: else rays between voxels would skip some.
        x = np.floor(across * np.cos(angle) + along * np.sin(angle) + nx / 2 + 1e-6).astype(int)
        y = np.floor(across * -np.sin(angle) + along * np.cos(angle) + ny / 2 + 1e-6).astype(int)
        inside = (x >= 0) & (x < nx) & (y >= 0) & (y < ny)
        rays = np.where(inside, x * ny + y, nx * ny)
        view = np.stack([columns[ray].max(axis=0) for ray in rays], axis=1)[::-1]
        views[number], views[number + n_views // 2] = view, view[:, ::-1]
    return views


def _grey_cubes(
    suv: NDArray[np.floating], *, voxel_size: Sequence[float], pixel: float, suv_window: tuple[float, float]
) -> NDArray[np.uint8]:
    """Return an image on cubic voxels of `pixel` mm, 0 to 255 over the window."""
    low, high = suv_window
    cubes = ndimage.zoom(suv, [side / pixel for side in voxel_size], order=1, grid_mode=True, mode="nearest")
    return np.round(255 * np.clip((cubes - low) / (high - low), 0, 1)).astype(np.uint8)


def _paper(
    names: Sequence[str], size: tuple[int, ...], *, pixel: float, suv_window: tuple[float, float]
) -> NDArray[np.uint8]:
    """Return the page without its projections: names, a ruler and the bar of the grey scale."""
    tall, wide = size
    width = max(2 * _MARGIN + len(names) * (wide + _GAP) - _GAP, _BAR + 150)
    height = _TOP + tall + _BOTTOM
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    for column, name in enumerate(names):
        axes.text(_MARGIN + column * (wide + _GAP), _TOP - 8, name, fontsize=9, color=TEXT_COLOR)
    below = _TOP + tall + 14
    axes.add_patch(Rectangle((_MARGIN, below), 100 / pixel, 3, facecolor=TEXT_COLOR))
    axes.text(_MARGIN, below + 20, "10 cm", fontsize=8, color=TEXT_COLOR)
    bar = figure.add_axes(((width - _BAR - 24) / width, 1 - (below + 8) / height, _BAR / width, 8 / height))
    grey = figure.colorbar(
        ScalarMappable(Normalize(*suv_window), "gray_r"), cax=bar, orientation="horizontal", ticks=suv_window
    )
    grey.set_label("SUVbw [g/mL]", fontsize=8, color=TEXT_COLOR, labelpad=-6)
    bar.tick_params(labelsize=8, length=2, colors=TEXT_COLOR)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., 0].copy()


def _webp(picture: Image.Image, **options: Any) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, format="WEBP", quality=_QUALITY, method=4, **options)
    return buffer.getvalue()
