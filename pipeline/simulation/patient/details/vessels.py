"""Vessels of the neck, chest, liver, mesentery and groin."""

from __future__ import annotations

import numpy as np

from pipeline.simulation.patient.canvas import Canvas
from pipeline.simulation.patient.shapes import Shape, column, curve, shell, tube

__all__ = ["branches", "paint_aorta_wall", "paint_vessels"]

# Right side of the reference body [mm]: centre line by falling height, radius.
_PAIRED = (
    (((22, 2, 205), (19, 4, 290), (12, 8, 350)), 3.5),
    (((29, 4, 200), (28, 6, 290), (22, 8, 345)), 6.0),
    (((6, -28, 722), (32, -22, 790), (56, 28, 850), (70, 40, 900), (74, 30, 1100)), 5.0),
    (((12, -34, 722), (36, -30, 790), (50, 22, 850), (60, 36, 900), (64, 26, 1100)), 6.5),
)


def paint_vessels(canvas: Canvas, suv: dict[str, float]) -> None:
    """Paint carotids, jugular, subclavian, iliac, femoral and renal vessels and the arteries of the lungs."""
    rng = canvas.rng
    blood = suv["blood"]
    for side in (-1, 1):
        for knots, radius in _PAIRED:
            line = np.array(knots, dtype=float) * [side, 1, 1] + [rng.normal(0, 2), rng.normal(0, 2), 0]
            canvas.paint(column(line, radius * float(rng.uniform(0.8, 1.2))), blood)
        for ends, radius in (
            (((20, 8, 342), (62, 12, 318), (118, 0, 340)), 5.5),
            (((18, -28, 650), (36, -38, 652), (52, -46, 656)), 5.0),
            (((0, 2, 400), (20, -6, 402), (42, -12, 412)), 9.0),
        ):
            canvas.paint(tube(curve(np.array(ends, dtype=float) * [side, 1, 1], n_points=50), radius), blood)


def paint_aorta_wall(canvas: Canvas, line: np.ndarray, radius: np.ndarray, suv: float) -> None:
    """Paint the wall of the aorta in patches, as atheroma takes up; `line` and `radius` in mm, `suv` in g/mL."""
    wall = shell(tube(line, radius + 1.0), 3.0)
    canvas.paint(wall, suv, texture=0.35, texture_length=25.0)


def branches(
    rng: np.random.Generator, root: np.ndarray, ends: np.ndarray, *, radius: tuple[float, float]
) -> list[Shape]:
    """Return curved, tapering vessels from one point to many: points [mm] of shape (3,) and (n, 3), radii [mm]."""
    shapes = []
    for end in ends:
        way = end - root
        bend = rng.normal(0, 0.12, (2, 3)) * np.linalg.norm(way)
        line = curve(np.stack([root, root + way / 3 + bend[0], root + 2 * way / 3 + bend[1], end]), n_points=40)
        shapes.append(tube(line, np.linspace(*radius, 40)))
    return shapes
