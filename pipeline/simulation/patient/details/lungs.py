"""Lungs that are denser below than above, with vessels and patches of inflammation."""

from __future__ import annotations

import numpy as np

from pipeline.simulation.patient.canvas import Canvas
from pipeline.simulation.patient.details.vessels import branches
from pipeline.simulation.patient.shapes import ellipsoid

__all__ = ["paint_lung_details"]

_N_BRANCHES = 9
_GRADIENT = (0.0, 0.0045)  # relative density and uptake per mm from front to back, lying on the back: customary
_SHARE_INFLAMED = 0.12  # of patients: customary
_INFLAMED = (1.5, 6.0)  # times the lung's uptake: customary


def paint_lung_details(
    canvas: Canvas, suv: dict[str, float], boxes: dict[int, tuple[slice, slice, slice]], *, label: int, shift: float
) -> None:
    """Paint the gradient, vessels and inflamed patches of both lungs.

    `boxes` holds the voxels around the lung of each side, 1 is right, `label` is the label of lung, `shift` as for
    `paint_chest`.
    """
    rng = canvas.rng
    slope = np.float32(rng.uniform(*_GRADIENT))
    inflamed = rng.random() < _SHARE_INFLAMED
    for side, box in boxes.items():
        if min(s.stop - s.start for s in box) < 1:
            continue
        lung = canvas.labels == label
        part = lung[box]
        factor = np.clip(1 - slope * (canvas.coordinates(box)[1] + 5), 0.5, 1.6)
        factor = np.where(part, factor, np.float32(1))
        canvas.activity[box] *= factor
        canvas.attenuation[box] *= factor
        root = np.array([side * 36.0, -14.0, 415.0 + shift])
        ends = np.array([side * 80.0, -5.0, 440.0 + shift]) + rng.uniform(-1, 1, (_N_BRANCHES, 3)) * [34, 60, 90]
        for vessel in branches(rng, root, ends, radius=(4.0, 1.2)):
            canvas.paint(vessel, 0.75 * suv["blood"], inside=lung)
        if inflamed and rng.random() < 0.6:
            patch = ellipsoid(ends[0] + [0, -20, 20], rng.uniform(12, 40, 3))
            uptake = suv["lung"] * float(np.exp(rng.uniform(*np.log(_INFLAMED))))
            canvas.paint(patch, uptake, tissue=None, texture=0.5, texture_length=20.0, inside=0.7 * lung)
