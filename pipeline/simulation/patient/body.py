"""Outline of the body: skin, fat, muscle, arms, legs and breasts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from pipeline.simulation.patient.canvas import Canvas
from pipeline.simulation.patient.details.findings import paint_ascites
from pipeline.simulation.patient.details.muscles import part_muscles
from pipeline.simulation.patient.shapes import Shape, column, curve, ellipsoid, tube

__all__ = ["SOFT_TISSUE", "Body", "paint_body"]

SOFT_TISSUE = 1
"""Label of everything inside the skin that is no organ of its own."""

# Outline of head and trunk: depth below the vertex, half width, half depth and centre line y [mm].
_OUTLINE = np.array(
    [
        (0, 8, 10, 0),
        (12, 38, 48, 0),
        (40, 62, 78, 0),
        (110, 76, 97, 0),
        (185, 64, 80, 4),
        (222, 57, 62, -12),
        (250, 58, 60, -18),
        (268, 70, 63, -20),
        (284, 94, 68, -20),
        (300, 128, 76, -18),
        (322, 158, 88, -12),
        (350, 172, 99, -8),
        (430, 174, 113, 0),
        (560, 162, 114, 0),
        (640, 154, 107, 0),
        (720, 160, 105, 0),
        (800, 173, 108, -3),
        (860, 176, 107, -5),
        (940, 172, 100, -4),
        (1400, 165, 100, -4),
    ],
    dtype=float,
)
# How a woman's half width differs, by depth.
_FEMALE_WIDTH = np.array([(300, 1.0), (340, 0.93), (560, 0.96), (650, 0.95), (800, 1.05), (880, 1.06), (1400, 1.03)])
_LEG_TOP, _LEG_BOTTOM = 835.0, 925.0  # over these depths the pelvis turns into two thighs
# Centre line of the right arm in the reference body and its radius [mm]: raised beyond the vertex, or lowered
# with the elbow at the side and the hand on the groin.
_ARM_UP = np.array(
    [(140, -12, 338, 36), (168, -8, 250, 36), (158, 8, 120, 34), (124, 22, 5, 30), (90, 34, -90, 27)], dtype=float
)
_ARM_DOWN = np.array(
    [
        (148, -14, 338, 34),
        (170, -40, 410, 34),
        (172, -48, 520, 33),
        (172, -34, 610, 31),
        (171, 12, 690, 27),
        (163, 66, 770, 23),
        (126, 104, 836, 22),
        (104, 110, 872, 20),
    ],
    dtype=float,
)
_SHARE_DOWN = 0.45
_SQUEEZE = 14.0  # [mm] that lowered arms may be pressed into the trunk
_ROOM = 16.0  # [mm] between arms and edge of the field of view, for shift and warp
_ARM_POINTS, _ARM_PIECE = 120, 20  # along a centre line, and along a piece of it
_TABLE_STEP = 0.25  # [mm] of depth, fine enough to be looked up without interpolation
_HUGE = np.array([1e4, 1e4, 1e4])


def _outline(female: bool) -> Shape:
    """Return the head, trunk and legs as one smooth solid."""
    depth = _OUTLINE[:, 0]
    width = _OUTLINE[:, 1] * (np.interp(depth, _FEMALE_WIDTH[:, 0], _FEMALE_WIDTH[:, 1]) if female else 1.0)
    table = np.arange(0.0, 1400.0 + _TABLE_STEP, _TABLE_STEP)
    half_width, half_depth, middle = (
        PchipInterpolator(depth, values)(table) for values in (width, _OUTLINE[:, 2], _OUTLINE[:, 3])
    )
    leg_x = np.interp(table, [_LEG_TOP, 950, 1400], [80, 88, 88]) * (1.03 if female else 1.0)
    leg_radius = np.interp(table, [_LEG_TOP, 930, 1200, 1400], [90, 85, 66, 58])

    def distance(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        place = np.clip(z * np.float32(1 / _TABLE_STEP), 0, len(table) - 1).astype(np.int32)

        def at(values: np.ndarray) -> np.ndarray:
            return np.take(values.astype(np.float32), place)

        a, b = at(half_width), at(half_depth)
        u, v = np.abs(x / a), np.abs((y - at(middle)) / b)
        radius = (u * u * np.sqrt(np.sqrt(u)) + v * v * np.sqrt(np.sqrt(v))) ** np.float32(1 / 2.25)
        d = np.maximum((radius - 1) * np.minimum(a, b), -z)
        if float(z.max()) > _LEG_TOP:
            t = np.clip((z - np.float32(_LEG_TOP)) / np.float32(_LEG_BOTTOM - _LEG_TOP), 0, 1)
            blend = t * t * (3 - 2 * t)
            leg = np.hypot(np.abs(x) - at(leg_x), y) - at(leg_radius)
            d = d * (1 - blend) + leg * blend
        return d

    return Shape(distance, -_HUGE * [1, 1, 0], _HUGE * [1, 1, 0.14])


def _layer(outline: Shape, thickness: float | np.ndarray) -> Shape:
    """Return the outline shrunk by a thickness [mm]; pairs (depth, thickness) make it vary with depth."""

    def distance(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        if isinstance(thickness, np.ndarray):
            skin = np.interp(z, thickness[0], thickness[1]).astype(np.float32)
        else:
            skin = np.float32(thickness)
        return outline.distance(x, y, z) + skin

    return Shape(distance, outline.lower, outline.upper)


def _arms(canvas: Canvas) -> tuple[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Return the arms' position, centre lines and radii; they are lowered only where they fit the field of view."""
    rng = canvas.rng
    lowered = rng.random() < _SHARE_DOWN
    jitter = np.clip(rng.normal(0, 4, (len(_ARM_DOWN), 3)), -6, 6)
    # Farthest from the middle that the skin may lie in the reference body.
    edge = (canvas.shape[0] * canvas.voxel_size[0] / 2 - _ROOM) / canvas.physique.girth
    fits = (_ARM_DOWN[:, 0] + _ARM_DOWN[:, 3]).max() - _SQUEEZE <= edge
    position, table = ("down", _ARM_DOWN) if lowered and fits else ("up", _ARM_UP)
    knots = table[:, :3] + jitter[: len(table)]
    knots[:, 0] = np.minimum(knots[:, 0], edge - table[:, 3])
    knots[0] = table[0, :3]
    radius = np.interp(np.linspace(0, len(table) - 1, _ARM_POINTS), np.arange(len(table)), table[:, 3])
    return position, [(curve(knots * [side, 1, 1], n_points=_ARM_POINTS), radius) for side in (-1, 1)]


def _paint_arms(canvas: Canvas, suv: dict[str, float], arms: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Paint skin, fat, muscle and bone around each centre line."""
    for line, radius in arms:
        layers = [
            (radius, suv["skin"], "soft"),
            (radius - 2.5, suv["fat"], "fat"),
            (0.8 * radius, suv["muscle"], "soft"),
            (0.28 * radius, suv["cortical_bone"], "bone"),
        ]
        for size, uptake, tissue in layers:
            # Piece by piece, for the box around a bent arm is mostly not arm.
            for first in range(0, len(line), _ARM_PIECE):
                part = slice(first, first + _ARM_PIECE + 1)
                canvas.paint(tube(line[part], size[part]), uptake, tissue=tissue, label=SOFT_TISSUE)


@dataclass(frozen=True)
class Body:
    """What later painters need to know of the body."""

    inside: np.ndarray
    """Fraction of each voxel that lies inside the muscle wall, float32, shape (X, Y, Z)."""
    arms: str
    """"up" or "down"."""
    arm_lines: list[tuple[np.ndarray, np.ndarray]]
    """Centre line, shape (n, 3), and radius, shape (n,), of both arms in the reference body [mm]."""


def paint_body(canvas: Canvas, suv: dict[str, float], *, findings: frozenset[str]) -> Body:
    """Paint skin, fat, muscle, arms, legs and breasts.

    `suv` is the uptake by organ [g/mL]; `findings` may name a removed breast, or fluid in the abdomen.
    """
    female = canvas.physique.sex == "F"
    fat = canvas.physique.fat_thickness
    rng = canvas.rng
    outline = _outline(female)
    position, arms = _arms(canvas)
    if female:
        size = rng.uniform(0.75, 1.15)
        removed = float(rng.choice([-1, 1])) if "mastectomy" in findings else 0.0
        for side in sorted({-1, 1} - {removed}):
            breast = ellipsoid((side * 80, 96, 445), (54 * size, 40 * size, 50 * size))
            canvas.paint(breast, suv["fat"], tissue="fat", label=SOFT_TISSUE)
            gland = ellipsoid((side * 80, 104, 448), (34 * size, 26 * size, 32 * size))
            canvas.paint(gland, suv["breast"], texture=0.35, texture_length=15.0)
    _paint_arms(canvas, suv, arms)
    canvas.paint(outline, suv["skin"], label=SOFT_TISSUE)
    canvas.paint(_layer(outline, 2.5), suv["fat"], tissue="fat", texture=0.18, texture_length=25.0)
    depths = [0.0, 200.0, 330.0, 500.0, 860.0, 1400.0]
    wall = _layer(outline, np.array([depths, [4.0, 4.0, 4 + 0.4 * fat, 2.5 + fat, 2.5 + 1.1 * fat, 2.5 + 0.8 * fat]]))
    canvas.paint(wall, suv["muscle"], texture=0.18, texture_length=18.0, stretch=3.0)
    inner = np.zeros(canvas.shape, dtype=np.float32)
    step = 32
    for first in range(0, canvas.shape[2], step):
        slab = (slice(0, canvas.shape[0]), slice(0, canvas.shape[1]), slice(first, min(first + step, canvas.shape[2])))
        inner[slab] = canvas.coverage(wall, slab)
    part_muscles(canvas, suv, inside=inner)
    belly = ellipsoid((0, 22, 690), (114, 64, 130), exponent=2.6)
    canvas.paint(belly, 1.2 * suv["fat"], tissue="fat", texture=0.25, inside=inner)
    if "ascites" in findings:
        paint_ascites(canvas, suv, inside=inner)
    femur = np.array([(88, -5, 838), (114, -8, 872), (102, -5, 960), (92, 0, 1200), (90, 0, 1400)], dtype=float)
    for side in (-1, 1):
        canvas.paint(column(femur * [side, 1, 1], 14.0), suv["cortical_bone"], tissue="bone")
        canvas.paint(column(femur[:3] * [side, 1, 1], 10.0), 0.5 * suv["marrow"], tissue="bone")
    return Body(inner, position, arms)
