"""Skull, spine, ribs, shoulder girdle and pelvis with their marrow."""

from __future__ import annotations

import numpy as np

from pipeline.simulation.patient.canvas import Canvas
from pipeline.simulation.patient.shapes import Shape, column, curve, difference, ellipsoid, intersection, shell, tube

__all__ = ["BONE", "paint_skeleton", "paint_skull"]

BONE = 6
"""Label of bone with red marrow."""

_RIB_SPACING = 22.0  # [mm]
_FIRST_RIB, _LAST_RIB = 335.0, 555.0  # depth of the ribs below the vertex at the side [mm]


def paint_skull(canvas: Canvas, suv: dict[str, float]) -> None:
    """Paint the vault and the jaw; the brain is painted over it."""
    vault = shell(ellipsoid((0, 0, 88), (73, 93, 83)), 7.0)
    canvas.paint(vault, suv["cortical_bone"], tissue="bone")
    jaw = curve([(-50, 5, 172), (-40, 45, 200), (0, 68, 208), (40, 45, 200), (50, 5, 172)], n_points=80)
    canvas.paint(tube(jaw, 6.0), suv["cortical_bone"], tissue="bone")


def _ribs() -> Shape:
    """Return all ribs as one solid: the distance to the nearest of a stack of tilted ellipses."""

    def distance(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        level = z - np.float32(18) - np.float32(0.28) * y
        n_ribs = round((_LAST_RIB - _FIRST_RIB) / _RIB_SPACING)
        rib = np.clip(np.round((level - np.float32(_FIRST_RIB)) / np.float32(_RIB_SPACING)), 0, n_ribs)
        a = np.interp(rib, [0, 3, 8, 10], [92, 136, 143, 135]).astype(np.float32)
        b = np.interp(rib, [0, 3, 8, 10], [62, 91, 98, 94]).astype(np.float32)
        radius = np.sqrt((x / a) ** 2 + ((y + 2) / b) ** 2)
        d = np.hypot((radius - 1) * b, level - (np.float32(_FIRST_RIB) + np.float32(_RIB_SPACING) * rib)) - 5
        # Ribs end short of the spine, and the lower ones short of the sternum.
        return np.where((np.abs(x) < 14) | ((y > 55) & (rib > 6)), np.float32(20), d)

    return Shape(distance, np.array([-150.0, -110, 315]), np.array([150.0, 110, 610]))


def _spine(canvas: Canvas, suv: dict[str, float]) -> None:
    """Paint vertebral bodies with discs between them, spinous processes and cord."""
    pitch = float(canvas.rng.uniform(28, 32))
    z = np.arange(205.0, 800.0, 3.0)
    y = np.where(z < 300, np.interp(z, [205, 300], [-28, -58]), -62 - 9 * np.sin((z - 330) / 165))
    line = np.stack([2 * np.sin(z / 120), y, z], axis=1)
    radius = 13 + 6.5 * np.clip((z - 205) / 400, 0, 1)
    bodies = column(line, radius, flatten=0.85)
    disc_half = 2.6

    def discs(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        phase = np.mod(z - 205, np.float32(pitch)) - np.float32(pitch / 2)
        return np.abs(phase) - np.float32(disc_half)

    canvas.paint(bodies, 0.6 * suv["muscle"], label=BONE)
    canvas.paint(difference(bodies, discs), suv["marrow"], tissue="bone", texture=0.16, texture_length=22.0)
    canvas.paint(column(line + np.array([0, -31, 8]), 7.0), 0.7 * suv["marrow"], tissue="bone", label=BONE)
    canvas.paint(column(line[z < 660] + np.array([0, -20, 0]), 5.5), suv["spinal_cord"])


def _pelvis(canvas: Canvas, marrow: float) -> None:
    """Paint iliac wings, sacrum, pubis and hip joints."""
    for side in (-1, 1):
        bowl = shell(ellipsoid((side * 52, -22, 772), (68, 60, 66)), 11.0)

        def wing(x: np.ndarray, y: np.ndarray, z: np.ndarray, side: int = side) -> np.ndarray:
            return np.maximum(np.float32(42) - side * x, y - np.float32(24))

        canvas.paint(intersection(bowl, wing), 0.9 * marrow, tissue="bone", label=BONE, texture=0.20)
        canvas.paint(ellipsoid((side * 88, -5, 838), (23, 23, 23)), 0.5 * marrow, tissue="bone", label=BONE)
        canvas.paint(ellipsoid((side * 42, 10, 868), (24, 9, 24)), 0.6 * marrow, tissue="bone", label=BONE)
    sacrum = ellipsoid((0, -70, 800), (44, 17, 44))
    canvas.paint(sacrum, marrow, tissue="bone", label=BONE, texture=0.20)


def paint_skeleton(canvas: Canvas, suv: dict[str, float]) -> None:
    """Paint spine, ribs, sternum, shoulder girdle and pelvis.

    The canvas has the body's outline; `suv` is the uptake by organ [g/mL].
    """
    marrow = suv["marrow"]
    _spine(canvas, suv)
    canvas.paint(_ribs(), 0.55 * marrow, tissue="bone", label=BONE, texture=0.2, texture_length=30.0)
    canvas.paint(ellipsoid((0, 90, 420), (17, 6, 78), exponent=3.0), 0.8 * marrow, tissue="bone", label=BONE)
    for side in (-1, 1):
        scapula = ellipsoid((side * 95, -80, 378), (36, 5, 48), exponent=2.2)
        canvas.paint(scapula, 0.6 * marrow, tissue="bone", label=BONE)
        clavicle = curve([(side * 10, 70, 330), (side * 80, 30, 314), (side * 136, -5, 324)], n_points=60)
        canvas.paint(tube(clavicle, 6.0), 0.6 * marrow, tissue="bone", label=BONE)
        canvas.paint(ellipsoid((side * 142, -8, 342), (22, 22, 24)), 0.7 * marrow, tissue="bone", label=BONE)
    _pelvis(canvas, marrow)
