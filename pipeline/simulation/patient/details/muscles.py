"""Muscles of their own uptake, and the fat and fasciae between them."""

from __future__ import annotations

import numpy as np

from pipeline.simulation.patient.canvas import ATTENUATION, Canvas
from pipeline.simulation.patient.shapes import Shape, column, curve, ellipsoid, tube

__all__ = ["paint_muscles", "part_muscles"]

_SHARE_USED = 0.12  # of groups that were used shortly before or after the injection: customary
_USED = (1.4, 4.0)  # times the uptake at rest, log-uniform: customary
_SPREAD = 0.12  # of the logarithm of the uptake between groups at rest: customary
_STRETCH = 3.0  # muscles are longer than wide


def _groups(side: int) -> dict[str, Shape]:
    """Return the muscles of one side (1 is right) as solids in the reference body."""

    def path(*knots: tuple[float, float, float]) -> np.ndarray:
        return np.array(knots, dtype=float) * [side, 1, 1]

    return {
        "sternomastoid": tube(curve(path((46, -5, 185), (32, 20, 260), (14, 46, 318)), n_points=60), 9.0),
        "scalene": column(path((22, -22, 215), (30, -20, 260), (44, -12, 310)), 8.0),
        "trapezius": tube(curve(path((14, -58, 240), (55, -52, 296), (120, -22, 326)), n_points=60), 12.0),
        "masseter": ellipsoid((side * 54, 26, 180), (8, 14, 24)),
        "pectoral": ellipsoid((side * 80, 80, 392), (48, 12, 48)),
        "infraspinatus": ellipsoid((side * 100, -90, 385), (34, 9, 42)),
        "erector": column(path((24, -84, 400), (30, -92, 560), (30, -96, 720), (26, -92, 790)), 24.0, flatten=0.65),
        "crus": column(path((14, -38, 600), (12, -44, 690)), 6.0),
        "psoas": column(path((26, -42, 680), (34, -40, 740), (46, -22, 800), (72, 4, 850)), 17.0),
        "abdominal": ellipsoid((side * 36, 96, 690), (30, 8, 120)),
        "gluteus": ellipsoid((side * 66, -78, 850), (52, 26, 56)),
        "iliopsoas": ellipsoid((side * 78, 12, 815), (16, 14, 40)),
        "quadriceps": column(path((82, 36, 895), (86, 40, 1000), (88, 34, 1200)), 34.0),
        "adductor": column(path((52, 0, 885), (58, -4, 1000), (70, -8, 1150)), 24.0),
        "hamstring": column(path((86, -44, 900), (88, -46, 1050), (90, -40, 1200)), 27.0),
    }


def part_muscles(canvas: Canvas, suv: dict[str, float], *, inside: np.ndarray) -> None:
    """Part what lies inside the muscle wall into muscles of a few centimetres with fat between them.

    `inside` is the fraction of each voxel inside the wall, shape (X, Y, Z). Neighbours differ in uptake by up to
    a third, and the sheets of fat are 0.5 to 4 mm thick: customary.
    """
    rng = canvas.rng
    whole = tuple(slice(0, n) for n in canvas.shape)
    fat, side = canvas.sheets(
        (whole[0], whole[1], whole[2]), spacing=36.0, thickness=float(rng.uniform(0.5, 4.0)), stretch=_STRETCH
    )
    side *= np.float32(rng.uniform(0.04, 0.18))
    side *= inside
    side += 1
    canvas.activity *= side
    fat *= inside
    canvas.activity += fat * (np.float32(suv["fat"]) - canvas.activity)
    canvas.attenuation += fat * (np.float32(ATTENUATION["fat"]) - canvas.attenuation)


def paint_muscles(canvas: Canvas, suv: dict[str, float], *, inside: np.ndarray) -> None:
    """Paint groups of muscles, each with an uptake of its own; some were used, on both sides or on one.

    The canvas has everything painted that the muscles lie around. `inside` is as for `part_muscles`.
    """
    rng = canvas.rng
    right, left = _groups(1), _groups(-1)
    for name in right:
        factors = np.full(2, np.exp(rng.normal(0, _SPREAD)))
        if rng.random() < _SHARE_USED:
            used = np.exp(rng.uniform(*np.log(_USED)) * rng.uniform(0.5, 1.0, 2))
            used[rng.integers(0, 2)] **= float(rng.random() < 0.5)
            factors *= used
        for group, factor in zip((right[name], left[name]), factors, strict=True):
            uptake = float(factor) * suv["muscle"]
            canvas.paint(group, uptake, texture=0.18, texture_length=16.0, stretch=_STRETCH, inside=inside)
