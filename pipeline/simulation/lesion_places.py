"""Lesions of given size and contrast at known places of a healthy patient, for studies of detection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from pipeline.simulation.patient.organs import ORGAN_LABELS
from pipeline.simulation.patient.phantom import Phantom

__all__ = ["SEPARATION", "SITES", "Place", "PlacedLesion", "centers_seen", "find_places", "with_lesions"]

SEPARATION = 36.0
"""Between the centres of two places, at least [mm]: farther than the observer's channels reach."""

_FROM_END = 28.0  # [mm] of a place from the ends of the scan
_BACKGROUND_RADIUS = 10.0  # [mm]
_SAMPLES = 7  # a side of a voxel, to tell how much of it lies in a sphere
_MARGINS: Mapping[str, float] = {"bone": 7.0, "liver": 16.0, "lung": 16.0}
"""Least distance of a place from the surface of its organ [mm]; the organ with the least room comes first."""
SITES = tuple(_MARGINS)
"""Organs that places lie in."""


@dataclass(frozen=True)
class Place:
    """Where a lesion may be."""

    site: str
    """Organ."""
    center: tuple[float, float, float]
    """From the centre of voxel (0, 0, 0) of the patient at the end of expiration [mm]."""
    background: float
    """Mean uptake within 10 mm, SUVbw [g/mL]."""


@dataclass(frozen=True)
class PlacedLesion:
    """A sphere at a place. It attenuates like what it grows in."""

    place: Place
    diameter: float
    """[mm]."""
    contrast: float
    """What it has more than its background, relative to it."""


def find_places(patient: Phantom, rng: np.random.Generator, *, n_per_site: int) -> list[Place]:
    """Draw places well inside bone, liver and lung, far from each other and from the ends of the scan.

    An organ without room for `n_per_site` of them has as many as were found.
    """
    size = np.array(patient.voxel_size)
    away = int(np.ceil(_FROM_END / size[2]))
    taken: list[np.ndarray] = []
    places = []
    for site, margin in _MARGINS.items():
        depth = ndimage.distance_transform_edt(patient.labels == ORGAN_LABELS[site], sampling=patient.voxel_size)
        inside = depth >= margin
        inside[:, :, :away] = inside[:, :, -away:] = False
        candidates = np.argwhere(inside) * size
        for center in taken:
            candidates = _far_from(candidates, center)
        for _ in range(n_per_site):
            if not len(candidates):
                break
            center = candidates[rng.integers(len(candidates))]
            taken.append(center)
            candidates = _far_from(candidates, center)
            places.append(Place(site, _as_point(center), _mean_around(patient, center)))
    return places


def _as_point(center: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in center)
    return x, y, z


def _far_from(candidates: np.ndarray, center: np.ndarray) -> np.ndarray:
    return candidates[np.square(candidates - center).sum(axis=1) >= SEPARATION**2]


def _box_around(patient: Phantom, center: Sequence[float], radius: float) -> tuple[slice, ...]:
    """Return the voxels that a sphere may touch."""
    return tuple(
        slice(max(0, int((c - radius) / v)), min(n, int((c + radius) / v) + 2))
        for c, v, n in zip(center, patient.voxel_size, patient.labels.shape, strict=True)
    )


def _fraction_inside(patient: Phantom, center: Sequence[float], radius: float, box: tuple[slice, ...]) -> np.ndarray:
    """Return how much of each voxel of a box lies in a sphere."""
    offset = (np.arange(_SAMPLES) - (_SAMPLES - 1) / 2) / _SAMPLES
    squares = [
        np.square((np.arange(b.start, b.stop)[:, None] + offset).ravel() * v - c)
        for b, v, c in zip(box, patient.voxel_size, center, strict=True)
    ]
    inside = squares[0][:, None, None] + squares[1][:, None] + squares[2] <= radius**2
    n = _SAMPLES
    blocks = inside.reshape(len(squares[0]) // n, n, len(squares[1]) // n, n, len(squares[2]) // n, n)
    return blocks.mean(axis=(1, 3, 5), dtype=np.float32)


def _mean_around(patient: Phantom, center: np.ndarray) -> float:
    box = _box_around(patient, _as_point(center), _BACKGROUND_RADIUS)
    weights = _fraction_inside(patient, _as_point(center), _BACKGROUND_RADIUS, box)
    return float(np.average(patient.activity[box], weights=weights))


def with_lesions(patient: Phantom, lesions: Sequence[PlacedLesion]) -> Phantom:
    """Return the patient with spheres added to the activity, each voxel by how much of it lies in one."""
    activity = patient.activity.copy()
    for lesion in lesions:
        place, radius = lesion.place, lesion.diameter / 2
        box = _box_around(patient, place.center, radius)
        added = np.float32(lesion.contrast * place.background)
        activity[box] += added * _fraction_inside(patient, place.center, radius, box)
    return replace(patient, activity=activity)


def centers_seen(patient: Phantom, places: Sequence[Place]) -> np.ndarray:
    """Return where a scan, which averages over a breath, shows a lesion at each place [mm], shape (n, 3)."""
    spheres = with_lesions(patient, [PlacedLesion(place, 10.0, 1.0) for place in places])
    added = spheres.averaged_over_a_breath()[0] - patient.averaged_over_a_breath()[0]
    centers = np.empty((len(places), 3))
    for i, place in enumerate(places):
        box = _box_around(patient, place.center, SEPARATION / 2)
        weights = np.maximum(added[box], 0)
        for axis, (part, size) in enumerate(zip(box, patient.voxel_size, strict=True)):
            along = weights.sum(axis=tuple(a for a in range(3) if a != axis))
            centers[i, axis] = np.average(np.arange(part.start, part.stop) * size, weights=along)
    return centers
