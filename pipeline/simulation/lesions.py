"""Lesions of known size and uptake, grown in liver, lung, bone, lymph nodes and soft tissue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.simulation.body import SOFT_TISSUE
from pipeline.simulation.canvas import Canvas
from pipeline.simulation.organs import ORGAN_LABELS
from pipeline.simulation.shapes import Shape, ellipsoid

__all__ = ["LESION_COLUMNS", "draw_lesion_count", "paint_lesions"]

LESION_COLUMNS = ["id", "site", "diameter", "volume", "suv_mean", "suv_max", "x", "y", "z"]
"""Columns of a lesion table: id, site, equivalent diameter [mm], volume [mL], true SUVbw [g/mL], centre [mm]."""


@dataclass(frozen=True)
class _Site:
    """Where lesions of one kind may lie."""

    share: float
    """Fraction of all lesions."""
    labels: tuple[int, ...]
    """Organ labels that the centre must lie in."""
    depth: tuple[float, float]
    """Range of depth below the vertex in the reference body [mm]."""
    largest: float
    """Largest diameter [mm]."""


_SITES = {
    "lung": _Site(0.22, (ORGAN_LABELS["lung"],), (300.0, 620.0), 60.0),
    "liver": _Site(0.22, (ORGAN_LABELS["liver"],), (480.0, 720.0), 60.0),
    "bone": _Site(0.22, (ORGAN_LABELS["bone"],), (200.0, 900.0), 40.0),
    "node": _Site(0.22, (SOFT_TISSUE, ORGAN_LABELS["blood_pool"]), (205.0, 900.0), 45.0),
    "soft": _Site(0.12, (SOFT_TISSUE,), (230.0, 1000.0), 60.0),
}
# Lymph node stations of the right side in the reference body [mm], and how far nodes scatter about them [mm].
_STATIONS = np.array(
    [
        (38, -5, 225),
        (40, 8, 265),
        (50, 10, 305),
        (118, 5, 380),
        (14, 0, 380),
        (12, -8, 425),
        (32, -15, 425),
        (10, 30, 650),
        (14, -25, 690),
        (14, -28, 730),
        (36, -18, 790),
        (52, 5, 830),
        (62, 55, 880),
    ],
    dtype=float,
)
_STATION_SPREAD = 9.0
_SMALLEST, _USUAL_LARGEST, _LARGEST = 6.0, 40.0, 60.0  # [mm]
_SHARE_LARGE = 0.08
_GAP = 5.0  # [mm] of tissue between two lesions, so that each is measured alone
_ATTEMPTS = 60


def draw_lesion_count(rng: np.random.Generator) -> int:
    """Number of lesions of a patient: none in one of ten, otherwise 1 + Poisson(8)."""
    return 0 if rng.random() < 0.1 else 1 + int(rng.poisson(8))


def _draw_diameter(rng: np.random.Generator, largest: float) -> float:
    """Log-uniform from 6 to 40 mm, and now and then up to 60 mm [mm]."""
    low, high = (_USUAL_LARGEST, _LARGEST) if rng.random() < _SHARE_LARGE else (_SMALLEST, _USUAL_LARGEST)
    return min(float(np.exp(rng.uniform(np.log(low), np.log(high)))), largest)


class _Placement:
    """Draws centres in the right tissue that keep clear of the lesions already there."""

    def __init__(self, canvas: Canvas, inside: np.ndarray) -> None:
        self.canvas = canvas
        self.rng = canvas.rng
        self.placed: list[tuple[np.ndarray, float]] = []
        stride = tuple(max(1, round(5.0 / v)) for v in canvas.voxel_size)
        self._stride = np.array(stride)
        coarse = tuple(slice(None, None, s) for s in stride)
        labels = np.where((canvas.labels[coarse] == SOFT_TISSUE) & (inside[coarse] < 0.9), 0, canvas.labels[coarse])
        self._voxels = {v: np.argwhere(labels == v) * self._stride for site in _SITES.values() for v in site.labels}

    def candidate(self, name: str) -> np.ndarray | None:
        """Voxel index of a possible centre, or None."""
        site = _SITES[name]
        if name == "node":
            station = _STATIONS[self.rng.integers(len(_STATIONS))] * [self.rng.choice([-1, 1]), 1, 1]
            index = self.canvas.voxel_at(station + self.rng.normal(0, _STATION_SPREAD, 3))
            if index is None or self.canvas.labels[tuple(index)] not in site.labels:
                return None
            return index
        voxels = self._voxels[site.labels[0]]
        if len(voxels) == 0:
            return None
        index = voxels[self.rng.integers(len(voxels))]
        depth = self.canvas.reference_point(index)[2]
        return index if site.depth[0] <= depth <= site.depth[1] else None

    def find(self, name: str, radius: float) -> np.ndarray | None:
        """Voxel index of a centre whose lesion of this radius [mm] touches no other; None after many attempts."""
        size = np.array(self.canvas.voxel_size)
        for _ in range(_ATTEMPTS):
            index = self.candidate(name)
            if index is None:
                continue
            gaps = [np.linalg.norm((index - other) * size) - r - radius for other, r in self.placed]
            if min(gaps, default=np.inf) >= _GAP:
                return index
        return None


def _lesion_shape(canvas: Canvas, index: np.ndarray, diameter: float) -> tuple[Shape, np.ndarray, np.ndarray]:
    """An ellipsoid with a gently irregular surface, at the reference point of a voxel."""
    rng = canvas.rng
    # Axes of equal product: the volume is that of a sphere of this diameter.
    stretch = np.exp(rng.normal(0, 0.14, 3))
    stretch /= np.cbrt(stretch.prod())
    center = canvas.reference_point(index)
    half_axes = canvas.natural(tuple(center), tuple(diameter / 2 * stretch))
    solid = ellipsoid(center, half_axes)
    waves = rng.normal(0, 1, (3, 3))
    waves *= rng.uniform(1.6, 3.0, 3)[:, None] / np.linalg.norm(waves, axis=1, keepdims=True) / (diameter / 2)
    phases = rng.uniform(0, 2 * np.pi, 3)
    height = np.float32(0.035 * diameter)

    def distance(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        dx, dy, dz = x - np.float32(center[0]), y - np.float32(center[1]), z - np.float32(center[2])
        relief = sum(
            np.sin(np.float32(w[0]) * dx + np.float32(w[1]) * dy + np.float32(w[2]) * dz + np.float32(p))
            for w, p in zip(waves, phases, strict=True)
        )
        return solid.distance(x, y, z) + height * relief

    reach = 3 * float(height)
    return Shape(distance, solid.lower - reach, solid.upper + reach), center, half_axes


def paint_lesions(canvas: Canvas, n_lesions: int, *, inside: np.ndarray) -> tuple[np.ndarray, pd.DataFrame]:
    """Paint lesions and measure what was painted.

    Parameters
    ----------
    canvas
        Canvas with every organ painted.
    n_lesions
        How many to place; fewer when no free place is found for one.
    inside
        Fraction of each voxel inside the muscle wall. Shape (X, Y, Z).

    Returns
    -------
    tuple
        Lesion labels, uint16 of shape (X, Y, Z), 0 outside and k in the k-th lesion; and the table with
        the columns of `LESION_COLUMNS`. Centres are in mm from the centre of the voxel (0, 0, 0).
    """
    rng = canvas.rng
    lesion_labels = np.zeros(canvas.shape, dtype=np.uint16)
    placement = _Placement(canvas, inside)
    names = list(_SITES)
    shares = np.array([_SITES[n].share for n in names])
    rows: list[dict[str, object]] = []
    for _ in range(n_lesions):
        name = str(rng.choice(names, p=shares / shares.sum()))
        diameter = _draw_diameter(rng, _SITES[name].largest)
        index = placement.find(name, diameter / 2)
        if index is None:
            continue
        shape, center, half_axes = _lesion_shape(canvas, index, diameter)
        background = float(canvas.activity[tuple(index)])
        uptake = float(np.clip(np.exp(rng.normal(1.75, 0.5)), 1.5, 30.0))
        # What is not above its surroundings is not a lesion that anyone could be asked to find.
        uptake = max(uptake, 1.4 * background)
        core = ellipsoid(center, 0.5 * half_axes) if diameter > 24 and rng.random() < 0.35 else None
        row = _paint_lesion(canvas, shape, core, uptake=uptake, label=len(rows) + 1, lesion_labels=lesion_labels)
        if row is None:
            continue
        placement.placed.append((index, diameter / 2))
        rows.append({"id": len(rows) + 1, "site": name, **row})
    return lesion_labels, pd.DataFrame(rows, columns=LESION_COLUMNS)


def _paint_lesion(
    canvas: Canvas, shape: Shape, core: Shape | None, *, uptake: float, label: int, lesion_labels: np.ndarray
) -> dict[str, float] | None:
    """Paint one lesion, with a necrotic core if given; what it measures, or None if no voxel is half covered."""
    box = canvas.box(shape.lower, shape.upper)
    body = canvas.labels[box] > 0
    covered = (canvas.coverage(shape, box) > 0.5) & body & (lesion_labels[box] == 0)
    if not covered.any():
        return None
    canvas.paint(shape, uptake, texture=0.10, texture_length=8.0)
    if core is not None:
        canvas.paint(core, 0.25 * uptake)
    lesion_labels[box][covered] = label
    volume = float(covered.sum()) * float(np.prod(canvas.voxel_size)) * 1e-3
    suv = canvas.activity[box][covered]
    centroid = (np.argwhere(covered).mean(axis=0) + [s.start for s in box]) * canvas.voxel_size
    return {
        "diameter": round(2 * (3 * volume * 1e3 / (4 * np.pi)) ** (1 / 3), 3),
        "volume": round(volume, 4),
        "suv_mean": round(float(suv.mean(dtype=np.float64)), 4),
        "suv_max": round(float(suv.max()), 4),
        **{axis: round(float(value), 2) for axis, value in zip("xyz", centroid, strict=True)},
    }
