"""The field of view of a scanner that sees an image's own voxels: the square of them that holds the body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.errors import PETError
from pipeline.simulation.attenuation import WATER
from pipeline.simulation.scanner.presets import GENERIC
from pipeline.simulation.scanner.scanner import Scanner

__all__ = ["FieldOfView", "body_circle", "scanner_of"]

_FIELD_MARGIN = 40.0  # [mm] of air around the body that is given noise, too


def body_circle(attenuation: np.ndarray, voxel_size: Sequence[float]) -> tuple[float, float, float]:
    """Return centre x, y [voxels] and radius [mm] of a circle around all that attenuates like half of water."""
    x, y = np.nonzero((attenuation > WATER / 2).any(axis=2))
    if x.size == 0:
        raise PETError("the attenuation map is empty, expected a body in it")
    center_x, center_y = (x.min() + x.max()) / 2, (y.min() + y.max()) / 2
    radius = np.hypot((x - center_x) * voxel_size[0], (y - center_y) * voxel_size[1]).max()
    return float(center_x), float(center_y), float(radius)


def scanner_of(attenuation: np.ndarray, *, voxel_size: Sequence[float], preset: Scanner = GENERIC) -> Scanner:
    """Return a scanner that sees an image's own voxels: the square of them that holds the body, and every slice.

    Time of flight, resolution, background, beds and reconstruction are those of the preset. The field of view is
    the body's circle and 40 mm of air, at most as wide as the image or the body's circle. With fewer angles than
    the matrix has columns there are streaks, so a fine matrix is given more than the preset has.

    `attenuation` is on the image's grid [1/mm], shape (X, Y, Z); `voxel_size` is in mm, X and Y equal. The preset is
    what the image was scanned with, or what is nearest.

    Raises
    ------
    PETError
        If the voxels are not square in plane, the map is empty, or the preset does not reach along Z.
    """
    dx, dy, dz = (float(side) for side in voxel_size)
    if abs(dx - dy) > 1e-3 * dx:
        raise PETError(f"voxels of {dx:g} x {dy:g} mm in plane, expected square ones to simulate a scan")
    _, _, radius = body_circle(attenuation, voxel_size)
    needed = 2 * (radius / dx + 2)
    wanted = max(needed, min(2 * (radius + _FIELD_MARGIN) / dx, max(attenuation.shape[:2])))
    n = 2 * int(np.ceil(wanted / 2))
    n_angles = int(np.ceil(max(preset.n_angles, n) / preset.n_subsets)) * preset.n_subsets
    matrix = (n, n, attenuation.shape[2])
    return replace(preset, matrix=matrix, voxel_size=(dx, dx, dz), n_angles=n_angles, supersampling=1)


@dataclass(frozen=True)
class FieldOfView:
    """Where the scanner's square lies in the image; either may be the larger."""

    first: tuple[int, int]
    """Image voxel at the square's corner, along X and Y; may be negative."""
    size: int
    """Voxels of the square along X and Y."""

    def _overlap(self, shape: Sequence[int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        image, square = [], []
        for first, n in zip(self.first, shape[:2], strict=True):
            low, high = max(first, 0), min(first + self.size, n)
            image.append(slice(low, high))
            square.append(slice(low - first, high - first))
        return (image[0], image[1]), (square[0], square[1])

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Cut the square's part out of an image, 0 where the image does not reach."""
        there, here = self._overlap(image.shape)
        square = np.zeros((self.size, self.size, image.shape[2]), dtype=image.dtype)
        square[here] = image[there]
        return square

    def paste(self, square: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Return an image of that shape with the square in its place, 0 around it."""
        there, here = self._overlap(shape)
        image = np.zeros(tuple(shape), dtype=square.dtype)
        image[there] = square[here]
        return image
