"""Solids given by signed distance: negative inside, positive outside, in millimetres of the reference body."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree

__all__ = [
    "Shape",
    "column",
    "curve",
    "difference",
    "ellipsoid",
    "half_space",
    "intersection",
    "oriented",
    "shell",
    "smooth_union",
    "tube",
]

Distance = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
_FAR = 16.0  # [mm] from the surface: beyond this a tube only needs to know that it is far


@dataclass(frozen=True)
class Shape:
    """A solid: its signed distance and a box that encloses it."""

    distance: Distance
    """Signed distance [mm] of points x, y, z [mm], arrays that broadcast."""
    lower: np.ndarray
    """Smallest x, y, z of the solid [mm]. Shape (3,)."""
    upper: np.ndarray
    """Largest x, y, z of the solid [mm]. Shape (3,)."""


def ellipsoid(center: ArrayLike, half_axes: ArrayLike, *, exponent: float = 2.0) -> Shape:
    """Return a superellipsoid; an exponent above 2 makes it boxier.

    The distance is that along the ray to the centre, scaled by the smallest half axis: exact for a
    sphere, and good enough at the surface, which is all that anti-aliasing needs.
    """
    c = np.asarray(center, dtype=np.float32)
    h = np.asarray(half_axes, dtype=np.float32)

    def distance(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        u, v, w = (x - c[0]) / h[0], (y - c[1]) / h[1], (z - c[2]) / h[2]
        if exponent == 2.0:
            radius = np.sqrt(u * u + v * v + w * w)
        else:
            powers = np.abs(u) ** exponent + np.abs(v) ** exponent + np.abs(w) ** exponent
            radius = powers ** np.float32(1.0 / exponent)
        return (radius - 1) * h.min()

    return Shape(distance, c - h, c + h)


def oriented(shape: Shape, center: ArrayLike, axes: np.ndarray, *, reach: float) -> Shape:
    """Place a shape, defined around the origin, at `center` with its own axes.

    The rows of `axes` are the directions of the shape's own x, y, z, orthonormal, shape (3, 3). `reach` is the radius
    of a sphere about `center` that encloses the solid; both are in mm.
    """
    c = np.asarray(center, dtype=np.float32)
    r = np.asarray(axes, dtype=np.float32)

    def distance(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        dx, dy, dz = x - c[0], y - c[1], z - c[2]
        return shape.distance(*(r[k, 0] * dx + r[k, 1] * dy + r[k, 2] * dz for k in range(3)))

    return Shape(distance, c - reach, c + reach)


def half_space(normal: ArrayLike, offset: float) -> Distance:
    """Return the distance of points with normal . p <= offset, for use in intersections."""
    n = np.asarray(normal, dtype=np.float32)
    return lambda x, y, z: n[0] * x + n[1] * y + n[2] * z - np.float32(offset)


def shell(shape: Shape, thickness: float) -> Shape:
    """Return the outer layer of a solid, `thickness` [mm] deep."""

    def distance(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        d = shape.distance(x, y, z)
        return np.maximum(d, -d - np.float32(thickness))

    return Shape(distance, shape.lower, shape.upper)


def intersection(shape: Shape, other: Distance) -> Shape:
    """Return what lies in both."""
    return Shape(lambda x, y, z: np.maximum(shape.distance(x, y, z), other(x, y, z)), shape.lower, shape.upper)


def difference(shape: Shape, other: Distance) -> Shape:
    """Return what lies in the first and not in the second."""
    return Shape(lambda x, y, z: np.maximum(shape.distance(x, y, z), -other(x, y, z)), shape.lower, shape.upper)


def smooth_union(a: Shape, b: Shape, *, blend: float) -> Shape:
    """Return the union with the crease filled over `blend` [mm] (polynomial smooth minimum)."""

    def distance(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        da, db = a.distance(x, y, z), b.distance(x, y, z)
        h = np.clip(0.5 + 0.5 * (db - da) / np.float32(blend), 0, 1)
        return db * (1 - h) + da * h - np.float32(blend) * h * (1 - h)

    return Shape(distance, np.minimum(a.lower, b.lower), np.maximum(a.upper, b.upper))


def curve(knots: ArrayLike, *, n_points: int) -> np.ndarray:
    """Return a cubic spline through the knots [mm], by chord length. Shape (n_points, 3)."""
    k = np.asarray(knots, dtype=float)
    t = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(k, axis=0), axis=1))])
    return CubicSpline(t, k)(np.linspace(0, t[-1], n_points))


def tube(points: np.ndarray, radius: float | np.ndarray) -> Shape:
    """Return a tube around a curve given by close points. Shape (n, 3) [mm], radius [mm] scalar or (n,)."""
    radii = np.broadcast_to(np.asarray(radius, dtype=np.float32), (len(points),))
    tree = cKDTree(points)
    reach = float(radii.max())

    def distance(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        grid = np.broadcast_arrays(x, y, z)
        query = np.stack([g.ravel() for g in grid], axis=1)
        d, nearest = tree.query(query, distance_upper_bound=reach + _FAR)
        missed = nearest == len(points)
        d[missed] = reach + _FAR
        nearest[missed] = 0
        return (d - radii[nearest]).reshape(grid[0].shape).astype(np.float32)

    return Shape(distance, points.min(axis=0) - reach, points.max(axis=0) + reach)


def column(points: np.ndarray, radius: float | np.ndarray, *, flatten: float = 1.0) -> Shape:
    """Return a tube whose centre line is a function of z, far cheaper than `tube`. Points sorted by z, shape (n, 3).

    `flatten` is the ratio of the anterior-posterior to the lateral radius.
    """
    px, py, pz = (np.ascontiguousarray(points[:, k], dtype=float) for k in range(3))
    radii = np.broadcast_to(np.asarray(radius, dtype=float), (len(points),))

    def distance(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        cx, cy, r = (np.interp(z, pz, values).astype(np.float32) for values in (px, py, radii))
        side = np.hypot(x - cx, (y - cy) / np.float32(flatten)) - r
        return np.maximum(side, np.maximum(np.float32(pz[0]) - z, z - np.float32(pz[-1])))

    reach = np.array([radii.max(), radii.max() * flatten, 0.0])
    return Shape(distance, points.min(axis=0) - reach, points.max(axis=0) + reach)
