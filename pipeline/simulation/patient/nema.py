"""The image quality phantom of NEMA NU 2, and what is measured on it: contrast recovery, variability, lung residual.

Geometry of the IEC 61675-1 body phantom and analysis of NEMA NU 2-2018, section 7, with all six spheres hot. Walls of
glass and plastic are left out, and so is the 70 cm scatter phantom that stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pipeline.errors import PETError
from pipeline.simulation.patient.canvas import ATTENUATION
from pipeline.simulation.scanner.scanner import Scanner

__all__ = [
    "SPHERE_DIAMETERS",
    "NEMAPhantom",
    "NEMAQuality",
    "background_mean",
    "nema_phantom",
    "nema_quality",
    "sphere_centres",
    "sphere_plane",
]

SPHERE_DIAMETERS = (10.0, 13.0, 17.0, 22.0, 28.0, 37.0)
"""Inner diameters of the spheres [mm]."""

_SPHERE_RING = 57.2  # [mm] from the axis of the lung insert to the centres of the spheres
_SPHERE_ANGLES = np.deg2rad([120.0, 60.0, 0.0, -60.0, -120.0, 180.0])  # the 17 mm sphere on the horizontal axis
_BELOW = 35.0  # [mm] from the axis of the lung insert down to the centre of the body's arc
_TOP_RADIUS, _CORNER_RADIUS, _FLAT = 147.0, 77.0, 70.0  # [mm] arc above, corners below, half of the flat bottom
_LUNG_RADIUS, _LUNG_REGION = 25.0, 30.0  # [mm] of the insert; diameter of the region that is measured in it
_LID, _BOTTOM = 68.0, 112.0  # [mm] from the plane of the spheres along Z
_PLANES = (-20.0, -10.0, 0.0, 10.0, 20.0)  # [mm] from the plane of the spheres
_LUNG_MARGIN = 10.0  # [mm] from the ends of the insert
_SAMPLING = 0.5  # [mm] between the points that tell how much of a voxel lies in a region

BACKGROUND_REGIONS = np.array(
    [
        *((-112, -18), (-110, -52), (-68, -78), (64, -78), (98, -68), (74, -40)),
        *((112, -36), (108, -2), (92, 28), (70, 54), (0, 78), (-74, 50)),
    ],
    dtype=float,
)
"""Centres x, y of the twelve background regions [mm]: up to 37 mm wide they stay 15 mm away from edge and spheres.
Found by search, as far from each other as they can be. Shape (12, 2)."""


@dataclass(frozen=True)
class NEMAPhantom:
    """The phantom on the fine grid of a scanner: background 1, spheres `ratio`, centred on the middle slice."""

    activity: np.ndarray
    """SUVbw [g/mL], float32, shape (X * f, Y * f, Z * f)."""
    attenuation: np.ndarray
    """At 511 keV [1/mm], float32, same shape."""
    ratio: float
    """Activity concentration of the spheres over that of the background."""


def _body_distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the signed distance to the outline of the body [mm], negative inside."""
    above = np.hypot(x, y + _BELOW) - _TOP_RADIUS
    below = np.hypot(np.maximum(np.abs(x) - _FLAT, 0), y + _BELOW) - _CORNER_RADIUS
    return np.where(y >= -_BELOW, above, below)


def sphere_centres() -> np.ndarray:
    """Return the centres x, y of the spheres [mm]. Shape (6, 2)."""
    return _SPHERE_RING * np.stack([np.cos(_SPHERE_ANGLES), np.sin(_SPHERE_ANGLES)], axis=1)


def sphere_plane(scanner: Scanner) -> float:
    """Return the centre along Z of the slice that the spheres are centred on [mm], the middle one."""
    nz, dz = scanner.matrix[2], scanner.voxel_size[2]
    return (nz // 2 - (nz - 1) / 2) * dz


def nema_phantom(scanner: Scanner, *, ratio: float = 4.0) -> NEMAPhantom:
    """Make the image quality phantom for a scanner's field of view, to be given to `SystemModel.acquire`.

    `ratio` is the activity concentration of the spheres over that of the background, above 1.

    Raises
    ------
    PETError
        If the ratio is not above 1, or the field of view is too small: 300 mm across, 60 mm along Z.
    """
    if not ratio > 1:
        raise PETError(f"sphere to background ratio is {ratio:g}, expected above 1")
    extent = [n * v for n, v in zip(scanner.matrix, scanner.voxel_size, strict=True)]
    if extent[0] < 300 or extent[2] < 60:
        raise PETError(
            f"scanner {scanner.name}: field of view of {extent[0]:g} x {extent[2]:g} mm, "
            "expected 300 x 60 for the phantom"
        )
    axes = [
        ((np.arange(n) - (n - 1) / 2) * v).astype(np.float32)
        for n, v in zip(scanner.object_shape, scanner.object_voxel_size, strict=True)
    ]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    z = z - np.float32(sphere_plane(scanner))
    edge = float(np.cbrt(np.prod(scanner.object_voxel_size)))

    def fraction(distance: np.ndarray) -> np.ndarray:
        """Return how much of each voxel lies inside, from the signed distance of its centre."""
        return np.clip(0.5 - distance / edge, 0, 1)

    along = fraction(np.maximum(z - _LID, -_BOTTOM - z))
    water = fraction(_body_distance(x, y)) * along
    lung = fraction(np.hypot(x, y) - _LUNG_RADIUS) * along
    activity = water * (1 - lung)
    for diameter, (cx, cy) in zip(SPHERE_DIAMETERS, sphere_centres(), strict=True):
        sphere = fraction(np.sqrt((x - cx) ** 2 + (y - cy) ** 2 + z**2) - diameter / 2)
        activity += np.float32(ratio - 1) * sphere
    attenuation = water * (1 - lung) * ATTENUATION["soft"] + lung * ATTENUATION["lung"]
    return NEMAPhantom(activity.astype(np.float32), attenuation.astype(np.float32), ratio)


@dataclass(frozen=True)
class NEMAQuality:
    """What NEMA NU 2-2018 measures on its image quality phantom; the arrays are for each of `SPHERE_DIAMETERS`."""

    contrast_recovery: np.ndarray
    """Contrast of the spheres over the true contrast (7.4.1), (C_H / C_B - 1) / (ratio - 1), shape (6,). C_H is the
    mean over a circle of the sphere's diameter in the plane of the spheres, C_B that of 60 background circles of the
    same size: twelve in each of five planes."""
    background_variability: np.ndarray
    """Coefficient of variation of the means of those 60 circles (7.4.1), shape (6,)."""
    lung_residual: float
    """Mean in the cold lung insert over that of the largest background circles (7.4.2): what the corrections left, 0
    for a perfect image. Averaged over the slices that lie in the insert, 10 mm away from its ends and from those of
    the field of view."""


def _region_means(image: np.ndarray, centres: np.ndarray, *, diameter: float, z: float, scanner: Scanner) -> np.ndarray:
    """Return the means of circular regions, voxels weighted by how much of them lies inside. Shape (n,).

    `centres` are x, y [mm], shape (n, 2); `z` is that of the slice, from the plane of the spheres [mm].
    """
    (nx, _, nz), (dx, _, dz) = scanner.matrix, scanner.voxel_size
    k = nz // 2 + round(z / dz)
    offset = np.arange(-diameter / 2, diameter / 2 + _SAMPLING / 2, _SAMPLING)
    ox, oy = np.meshgrid(offset, offset, indexing="ij")
    inside = np.hypot(ox, oy) <= diameter / 2
    points = centres[:, None] + np.stack([ox[inside], oy[inside]], axis=1)
    index = np.rint(points / dx + (nx - 1) / 2).astype(int)
    return image[index[..., 0], index[..., 1], k].mean(axis=1, dtype=np.float64)


def background_mean(image: np.ndarray, scanner: Scanner) -> float:
    """Return the mean of the 60 background circles of the largest sphere, in the image's unit."""
    return float(_background_means(image, scanner, SPHERE_DIAMETERS[-1]).mean())


def _background_means(image: np.ndarray, scanner: Scanner, diameter: float) -> np.ndarray:
    """Return the means of the twelve background circles of a diameter [mm] in each of five planes. Shape (60,)."""
    planes = (_region_means(image, BACKGROUND_REGIONS, diameter=diameter, z=z, scanner=scanner) for z in _PLANES)
    return np.concatenate(list(planes))


def nema_quality(image: np.ndarray, scanner: Scanner, *, ratio: float) -> NEMAQuality:
    """Measure a reconstruction of a `nema_phantom` as NEMA NU 2-2018 does.

    The image has any unit and shape (X, Y, Z); `ratio` is the true activity ratio of spheres and background.

    Raises
    ------
    PETError
        If the image is not on the scanner's grid.
    """
    if image.shape != scanner.matrix:
        raise PETError(f"image of {image.shape} voxels, expected {scanner.matrix} of scanner {scanner.name}")

    def means(centres: np.ndarray, diameter: float, planes: Iterable[float]) -> np.ndarray:
        found = [_region_means(image, centres, diameter=diameter, z=z, scanner=scanner) for z in planes]
        return np.concatenate(found)

    background = np.array([_background_means(image, scanner, diameter) for diameter in SPHERE_DIAMETERS])
    spheres = zip(SPHERE_DIAMETERS, sphere_centres(), strict=True)
    hot = np.array([means(centre[None], diameter, (0.0,))[0] for diameter, centre in spheres])
    nz, dz = scanner.matrix[2], scanner.voxel_size[2]
    z = (np.arange(nz) - nz // 2) * dz
    low, high = max(z[0], -_BOTTOM) + _LUNG_MARGIN, min(z[-1], _LID) - _LUNG_MARGIN
    lung = means(np.zeros((1, 2)), _LUNG_REGION, z[(z > low) & (z < high)])
    mean = background.mean(axis=1)
    return NEMAQuality(
        contrast_recovery=(hot / mean - 1) / (ratio - 1),
        background_variability=background.std(axis=1, ddof=1) / mean,
        lung_residual=float(lung.mean() / mean[-1]),
    )
