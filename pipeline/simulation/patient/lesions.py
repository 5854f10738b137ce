"""Lesions of known size and uptake, grown in liver, lung, bone, lymph nodes, prostate and soft tissue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from pipeline.simulation.patient.body import SOFT_TISSUE
from pipeline.simulation.patient.canvas import Canvas
from pipeline.simulation.patient.organs import ORGAN_LABELS
from pipeline.simulation.patient.shapes import Shape, ellipsoid
from pipeline.simulation.patient.uptake import Tracer

__all__ = ["LESION_COLUMNS", "LESION_SITES", "draw_lesion_count", "paint_lesions"]

LESION_COLUMNS: dict[str, str] = {
    "id": "number of the lesion in the volume of lesions",
    "site": "where the lesion lies",
    "diameter": "diameter of the sphere of its volume [mm]",
    "volume": "true volume [mL]",
    "suv_mean": "true mean of SUVbw [g/mL]",
    "suv_max": "true maximum of SUVbw [g/mL]",
    "x": "centre, +x is the patient's right [mm]",
    "y": "centre, +y is anterior [mm]",
    "z": "centre, +z is superior [mm]",
}
"""Meaning and unit of the columns of a lesion table, in order."""

_SMALLEST, _LARGEST = 4.0, 60.0  # [mm]


@dataclass(frozen=True)
class _Site:
    """Where lesions of one kind may lie."""

    labels: tuple[int, ...]
    """Organ labels that the centre must lie in."""
    depth: tuple[float, float]
    """Range of depth below the vertex in the reference body [mm]."""
    largest: float = _LARGEST
    """Largest diameter [mm]."""
    tissue: str | None = "soft"
    """What it attenuates like; None for the tissue it grows in."""


LESION_SITES: Mapping[str, _Site] = {
    "lung": _Site((ORGAN_LABELS["lung"],), (300.0, 620.0)),
    "liver": _Site((ORGAN_LABELS["liver"],), (480.0, 720.0)),
    "bone": _Site((ORGAN_LABELS["bone"],), (200.0, 900.0), largest=40.0, tissue=None),
    "node": _Site((SOFT_TISSUE, ORGAN_LABELS["blood_pool"]), (205.0, 900.0), largest=45.0),
    "prostate": _Site((ORGAN_LABELS["prostate"],), (800.0, 1000.0), largest=25.0),
    "soft": _Site((SOFT_TISSUE,), (230.0, 1000.0)),
}
"""Sites by name, as in `Tracer.lesion_sites`."""

# Lymph node stations of the right side in the reference body [mm].
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
_STATION_REACH = 18.0  # [mm] around a station
_GAP = 5.0  # [mm] of tissue between two lesions, so that each is measured alone
_ATTEMPTS = 60
_RELIEF = 0.035  # of the diameter: amplitude of each of the three waves on the surface
_SHARE_NECROTIC = 0.35
_SMALLEST_NECROTIC = 24.0  # [mm]


def draw_lesion_count(rng: np.random.Generator) -> int:
    """Number of lesions of a patient: none in one of ten, otherwise 1 + Poisson(8)."""
    return 0 if rng.random() < 0.1 else 1 + int(rng.poisson(8))


def _places(canvas: Canvas, *, inside: np.ndarray) -> dict[str, np.ndarray]:
    """Return the voxels that may be the centre of a lesion, one every 5 mm: indices of shape (n, 3) by site."""
    steps = np.array([max(1, round(5.0 / v)) for v in canvas.voxel_size])
    sx, sy, sz = (slice(None, None, int(step)) for step in steps)
    coarse = (sx, sy, sz)
    labels = np.where((canvas.labels[coarse] == SOFT_TISSUE) & (inside[coarse] < 0.9), 0, canvas.labels[coarse])
    x, y, z = canvas.coordinates(coarse)
    stations = cKDTree(np.concatenate([_STATIONS, _STATIONS * [-1, 1, 1]]))
    places = {}
    for name, site in LESION_SITES.items():
        allowed = np.isin(labels, site.labels) & (z >= site.depth[0]) & (z <= site.depth[1])
        if name == "node":
            candidates = np.stack([c[allowed] for c in (x, y, z)], axis=1)
            allowed[allowed] = np.isfinite(stations.query(candidates, distance_upper_bound=_STATION_REACH)[0])
        places[name] = np.argwhere(allowed) * steps
    return places


class _Placement:
    """Draws centres that keep clear of the lesions already there."""

    def __init__(self, canvas: Canvas, places: Mapping[str, np.ndarray]) -> None:
        self._gap = max(_GAP, 2 * canvas.edge)
        self._rng = canvas.rng
        self._places = places
        self._size = np.array(canvas.voxel_size)
        self._placed: list[tuple[np.ndarray, float]] = []

    def find(self, name: str, radius: float) -> np.ndarray | None:
        """Return a centre [voxels] whose lesion of this reach [mm] touches no other; None after many attempts."""
        voxels = self._places[name]
        for _ in range(_ATTEMPTS):
            index = voxels[self._rng.integers(len(voxels))]
            gaps = [np.linalg.norm((index - other) * self._size) - r - radius for other, r in self._placed]
            if min(gaps, default=np.inf) >= self._gap:
                return index
        return None

    def take(self, index: np.ndarray, radius: float) -> None:
        """Keep other lesions away from this one."""
        self._placed.append((index, radius))


def _lesion_shape(
    canvas: Canvas, index: np.ndarray, diameter: float, stretch: np.ndarray
) -> tuple[Shape, np.ndarray, np.ndarray]:
    """Return an ellipsoid with a gently irregular surface around a voxel, its centre and its half axes."""
    rng = canvas.rng
    center = canvas.reference_point(index)
    half_axes = canvas.natural(tuple(center), tuple(diameter / 2 * stretch))
    solid = ellipsoid(center, half_axes)
    waves = rng.normal(0, 1, (3, 3))
    waves *= rng.uniform(1.6, 3.0, 3)[:, None] / np.linalg.norm(waves, axis=1, keepdims=True) / (diameter / 2)
    phases = rng.uniform(0, 2 * np.pi, 3)
    height = np.float32(_RELIEF * diameter)

    def distance(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        dx, dy, dz = x - np.float32(center[0]), y - np.float32(center[1]), z - np.float32(center[2])
        relief = sum(
            np.sin(np.float32(w[0]) * dx + np.float32(w[1]) * dy + np.float32(w[2]) * dz + np.float32(p))
            for w, p in zip(waves, phases, strict=True)
        )
        return solid.distance(x, y, z) + height * relief

    reach = 3 * float(height)
    return Shape(distance, solid.lower - reach, solid.upper + reach), center, half_axes


def paint_lesions(
    canvas: Canvas, n_lesions: int, *, tracer: Tracer, inside: np.ndarray
) -> tuple[np.ndarray, pd.DataFrame]:
    """Paint lesions and measure what was painted.

    Diameters are log-uniform from 4 to 60 mm, whatever the site: each lesion goes to one of the sites that
    are large enough for it. The largest is placed first, for it is the one to find no place later.

    The canvas has every organ painted; `inside` is the fraction of each voxel inside the muscle wall, shape (X, Y, Z).
    Fewer than `n_lesions` are placed when no free place is found for one. The result is the lesion labels, uint16 of
    shape (X, Y, Z), 0 outside and k in the k-th lesion, and the table with the columns of `LESION_COLUMNS`. Centres are
    in mm from the centre of the voxel (0, 0, 0).
    """
    rng = canvas.rng
    lesion_labels = np.zeros(canvas.shape, dtype=np.uint16)
    places = _places(canvas, inside=inside)
    placement = _Placement(canvas, places)
    body = canvas.labels > 0
    painted: list[tuple[str, tuple[slice, slice, slice]]] = []
    for diameter in np.sort(np.exp(rng.uniform(np.log(_SMALLEST), np.log(_LARGEST), n_lesions)))[::-1]:
        names = [n for n in tracer.lesion_sites if len(places[n]) and diameter <= LESION_SITES[n].largest]
        if not names:
            continue
        shares = np.array([tracer.lesion_sites[n].share for n in names])
        name = str(rng.choice(names, p=shares / shares.sum()))
        # Axes of equal product: the volume is that of a sphere of this diameter.
        stretch = np.exp(rng.normal(0, 0.14, 3))
        stretch /= np.cbrt(stretch.prod())
        reach = diameter / 2 * stretch.max() + 3 * _RELIEF * diameter
        index = placement.find(name, reach)
        if index is None:
            continue
        shape, center, half_axes = _lesion_shape(canvas, index, diameter, stretch)
        site = tracer.lesion_sites[name]
        uptake = float(np.exp(rng.uniform(np.log(site.lowest), np.log(site.highest))))
        # What is not above its surroundings is not a lesion that anyone could be asked to find.
        uptake = max(uptake, 1.4 * float(canvas.activity[tuple(index)]))
        box = canvas.box(shape.lower, shape.upper)
        covered = (canvas.coverage(shape, box) > 0.5) & body[box] & (lesion_labels[box] == 0)
        if not covered.any():
            continue
        tissue = LESION_SITES[name].tissue
        canvas.paint(shape, uptake, tissue=tissue, texture=0.10, texture_length=8.0, inside=body)
        if diameter > _SMALLEST_NECROTIC and rng.random() < _SHARE_NECROTIC:
            core = ellipsoid(center + half_axes * rng.uniform(-0.2, 0.2, 3), 0.5 * half_axes)
            canvas.paint(core, 0.25 * uptake, tissue=tissue, inside=body)
        placement.take(index, reach)
        painted.append((name, box))
        lesion_labels[box][covered] = len(painted)
    # Measured at the end, when nothing is painted any more that could brush the edge of another lesion.
    rows = [
        {"id": k, "site": name, **_measure(canvas, lesion_labels, k, box)} for k, (name, box) in enumerate(painted, 1)
    ]
    return lesion_labels, pd.DataFrame(rows, columns=list(LESION_COLUMNS))


def _measure(
    canvas: Canvas, lesion_labels: np.ndarray, label: int, box: tuple[slice, slice, slice]
) -> dict[str, float]:
    """Measure what one lesion's voxels, all in the box, hold."""
    covered = lesion_labels[box] == label
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
