"""Bowel: loops with walls, content and gas, uptake that changes along the way, and fat strands around them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from pipeline.simulation.patient.canvas import Canvas
from pipeline.simulation.patient.shapes import curve, ellipsoid, tube

__all__ = ["paint_bowel"]

_LOW, _HIGH = np.array([-92.0, -10.0, 655.0]), np.array([92.0, 72.0, 835.0])
"""Corners of the room that the small bowel has [mm]."""
_COLON = (
    *((105, 10, 790), (112, 5, 720), (108, 15, 665), (60, 62, 680), (0, 70, 700), (-60, 62, 675)),
    *((-106, -10, 640), (-110, -10, 720), (-104, -5, 790), (-50, 10, 810), (-10, -20, 815), (0, -40, 860)),
)
_DUODENUM = ((36, 38, 636), (50, 26, 648), (53, 8, 676), (40, 0, 706), (6, -4, 712), (-18, 4, 694))
_GAS_SUV = 0.1


def _paint_small_bowel(canvas: Canvas, suv: float, *, label: int, inside: np.ndarray, variation: float) -> None:
    """Paint loops whose uptake differs from loop to loop and along each; some are filled with content."""
    rng = canvas.rng
    width = _HIGH - _LOW
    for _ in range(int(rng.integers(7, 12))):
        knots = np.cumsum(rng.normal(0, 24, (9, 3)), axis=0)
        knots += [rng.uniform(-60, 60), rng.uniform(10, 55), rng.uniform(690, 790)] - knots.mean(axis=0)
        # A loop that meets the wall turns back; stopped there, it would pass through one point twice.
        line = curve(_LOW + width - np.abs((knots - _LOW) % (2 * width) - width), n_points=120)
        uptake = suv * float(np.exp(0.6 * variation * rng.standard_normal()))
        radius = float(rng.uniform(7.5, 12.0))
        canvas.paint(tube(line, radius), uptake, label=label, texture=0.30, texture_length=14.0, inside=inside)
        if rng.random() < 0.5:
            first = int(rng.integers(0, 60))
            part = line[first : first + int(rng.integers(25, 60))]
            canvas.paint(tube(part, radius - 3.5), uptake * rng.uniform(0.3, 0.8), inside=inside)


def _paint_colon(canvas: Canvas, suv: float, *, label: int, inside: np.ndarray, variation: float) -> None:
    """Paint the frame of the colon with haustra, segments of high uptake, stool, and gas where it stands highest."""
    rng = canvas.rng
    n = 420
    line = curve(np.array(_COLON, dtype=float) + rng.normal(0, 6, (len(_COLON), 3)), n_points=n)
    waves = ndimage.gaussian_filter1d(rng.standard_normal(n), 18.0)
    uptake = suv * np.clip(np.exp(variation * waves / waves.std()), 0.4, 4.5)
    wide = ndimage.gaussian_filter1d(rng.standard_normal(n), 30.0)
    radius = (15 + 3 * wide / wide.std()).clip(9, 22) + 2 * np.sin(0.9 * np.arange(n))
    filling = ndimage.gaussian_filter1d(rng.standard_normal(n), 14.0)
    # Gas rises: the front half of the abdomen holds it.
    gas = filling / filling.std() + (line[:, 1] - 20) / 60
    most = float(rng.uniform(0.6, 2.5))
    for first in range(0, n, 14):
        part = slice(first, min(first + 18, n))
        canvas.paint(
            tube(line[part], radius[part]),
            float(uptake[first]),
            label=label,
            texture=0.30,
            texture_length=16.0,
            inside=inside,
        )
        core = tube(line[part], np.maximum(radius[part] - 4.0, 2.0))
        if gas[first] > most:
            canvas.paint(core, _GAS_SUV, tissue="air", inside=inside)
        elif gas[first] < -0.3:
            canvas.paint(core, float(uptake[first]) * rng.uniform(0.35, 0.9), inside=inside)


def paint_bowel(
    canvas: Canvas,
    suv: dict[str, float],
    *,
    inside: np.ndarray,
    variation: float,
    bowel_label: int,
    duodenum_label: int,
) -> None:
    """Paint mesentery, small bowel, colon and duodenum.

    `suv` is the uptake by organ [g/mL], `inside` the fraction of each voxel inside the muscle wall, shape (X, Y, Z),
    `variation` the standard deviation of the logarithm of the uptake along the bowel.
    """
    room = ellipsoid((0, 22, 745), (105, 58, 95), exponent=2.6)
    box = canvas.box(room.lower, room.upper)
    if min(s.stop - s.start for s in box) >= 1:
        # Vessels of the mesentery run in sheets between the loops.
        strands = np.zeros(canvas.shape, dtype=np.float32)
        strands[box] = canvas.sheets(box, spacing=20.0, thickness=float(canvas.rng.uniform(0.5, 2.0)))[0]
        strands *= inside
        canvas.paint(room, 0.8 * suv["blood"], inside=strands)
    _paint_small_bowel(canvas, suv["small_bowel"], label=bowel_label, inside=inside, variation=variation)
    _paint_colon(canvas, suv["colon"], label=bowel_label, inside=inside, variation=variation)
    duodenum = tube(curve(np.array(_DUODENUM, dtype=float), n_points=80), 10.0)
    canvas.paint(duodenum, suv["duodenum"], label=duodenum_label, texture=0.2, texture_length=12.0)
