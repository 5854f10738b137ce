"""Procedural whole-body phantoms: a new patient for every seed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import ndimage

from pipeline.errors import PETError
from pipeline.simulation.patient.body import paint_body
from pipeline.simulation.patient.canvas import Canvas
from pipeline.simulation.patient.details.breathing import Breathing, Motion, draw_breathing
from pipeline.simulation.patient.details.findings import draw_findings, paint_findings, paint_metal
from pipeline.simulation.patient.details.muscles import paint_muscles
from pipeline.simulation.patient.details.vessels import paint_vessels
from pipeline.simulation.patient.lesions import draw_lesion_count, paint_lesions
from pipeline.simulation.patient.organs import (
    ORGAN_LABELS,
    paint_abdomen,
    paint_chest,
    paint_head,
    paint_pelvis,
)
from pipeline.simulation.patient.physique import Physique, body_mass, draw_physique
from pipeline.simulation.patient.skeleton import paint_skeleton, paint_skull
from pipeline.simulation.patient.tracers.fdg import FDG
from pipeline.simulation.patient.uptake import Tracer, draw_uptake

__all__ = ["Phantom", "block_mean", "majority_labels", "make_phantom", "reduce_lesion_labels"]

_LARGEST_SHARE_HELD = 0.88
"""Fraction of the injected activity in the field of view, before lesions; the legs and urine voided have the rest."""


_MEAN_HELD = ("lung", "liver", "spleen")
_MOVING = (
    *("lung", "blood_pool", "myocardium", "liver", "spleen", "kidney", "bowel", "stomach", "pancreas", "adrenal"),
    *("duodenum", "gallbladder"),
)


@dataclass(frozen=True)
class Phantom:
    """A patient whose every value is known. Arrays of shape (X, Y, Z): right, anterior, superior (RAS+)."""

    activity: np.ndarray
    """True uptake, SUVbw [g/mL], float32."""
    attenuation: np.ndarray
    """Linear attenuation coefficient at 511 keV [1/mm], float32."""
    labels: np.ndarray
    """Organ labels, see `ORGAN_LABELS`, uint8. A lesion keeps the label of its organ."""
    lesion_labels: np.ndarray
    """0 outside, k in the k-th lesion, uint16."""
    lesions: pd.DataFrame
    """One row per lesion, see `LESION_COLUMNS`; centres [mm] from the centre of voxel (0, 0, 0)."""
    voxel_size: tuple[float, float, float]
    """[mm]."""
    tracer: Tracer
    """What the patient was given."""
    uptake: dict[str, float]
    """Mean uptake of each organ as drawn, SUVbw [g/mL]."""
    body_weight: float
    """Estimated from the attenuation map [kg]."""
    arms: str
    """"up" or "down"."""
    physique: Physique
    """Sex, height and build."""
    findings: frozenset[str]
    """What was found in this patient, see `FINDINGS`."""
    breathing: Breathing
    """How the organs move during the scan; all arrays are at the end of expiration."""

    def _motion(self) -> Motion:
        moving = tuple(ORGAN_LABELS[organ] for organ in _MOVING)
        return Motion.of(self.labels, self.voxel_size, moving=moving, liver=ORGAN_LABELS["liver"])

    def averaged_over_a_breath(self) -> tuple[np.ndarray, np.ndarray]:
        """Return activity [g/mL] and attenuation [1/mm] as the scan sees them, shape (X, Y, Z)."""
        motion = self._motion()
        return self.breathing.averaged(self.activity, motion), self.breathing.averaged(self.attenuation, motion)

    def correction_map(self) -> np.ndarray:
        """Return the attenuation map [1/mm] that the scan is corrected with, shape (X, Y, Z)."""
        return self.breathing.correction_map(self.attenuation, self._motion())

    def coarser(self, factor: int) -> Phantom:
        """Return the same patient on voxels `factor` times larger."""
        lesions = self.lesions.copy()
        for axis, size in zip("xyz", self.voxel_size, strict=True):
            lesions[axis] -= (factor - 1) / 2 * size
        x, y, z = self.voxel_size
        return replace(
            self,
            activity=block_mean(self.activity, factor),
            attenuation=block_mean(self.attenuation, factor),
            labels=majority_labels(self.labels, factor),
            lesion_labels=reduce_lesion_labels(self.lesion_labels, factor),
            lesions=lesions,
            voxel_size=(x * factor, y * factor, z * factor),
        )

    def slices(self, part: slice) -> Phantom:
        """Return a part of the patient along Z; a lesion that the ends cut through is part of the tissue there."""
        start, stop, _ = part.indices(self.labels.shape[2])
        cut = np.union1d(self.lesion_labels[:, :, :start], self.lesion_labels[:, :, stop:])
        lesion_labels = self.lesion_labels[:, :, start:stop].copy()
        lesion_labels[np.isin(lesion_labels, cut)] = 0
        lesions = self.lesions[~self.lesions["id"].isin(cut)].reset_index(drop=True)
        lesions["z"] -= start * self.voxel_size[2]
        return replace(
            self,
            activity=np.ascontiguousarray(self.activity[:, :, start:stop]),
            attenuation=np.ascontiguousarray(self.attenuation[:, :, start:stop]),
            labels=np.ascontiguousarray(self.labels[:, :, start:stop]),
            lesion_labels=lesion_labels,
            lesions=lesions,
        )


def make_phantom(
    rng: np.random.Generator,
    *,
    shape: tuple[int, int, int],
    voxel_size: tuple[float, float, float],
    n_lesions: int | None = None,
    tracer: Tracer = FDG,
) -> Phantom:
    """Make a patient.

    The vertex lies just below the upper end of the field of view; what does not fit below is cut off.
    About 6 s for 192 x 192 x 384 voxels.

    The same state of `rng` gives the same patient. `voxel_size` is in mm. `n_lesions` is how many lesions to place,
    None to draw the number; 30 makes a lesion-rich patient for training.

    Raises
    ------
    PETError
        If the number of lesions is negative or a size is not positive.
    """
    if n_lesions is not None and n_lesions < 0:
        raise PETError(f"n_lesions is {n_lesions}, expected 0 or more, or None to draw it")
    if len(shape) != 3 or min(shape) < 8 or len(voxel_size) != 3 or min(voxel_size) <= 0:
        raise PETError(
            f"phantom of shape {shape} and voxel size {voxel_size} mm, expected 3 sizes, at least 8 voxels each"
        )
    physique = draw_physique(
        rng, sexes=tracer.sexes, field_of_view=min(shape[0] * voxel_size[0], shape[1] * voxel_size[1])
    )
    findings = draw_findings(rng, sex=physique.sex, tracer=tracer.name)
    suv = draw_uptake(rng, tracer.organs)
    canvas = Canvas(shape, voxel_size, rng, physique)
    shift = float(rng.uniform(-10, 10))
    body = paint_body(canvas, suv, findings=findings)
    inside = body.inside
    paint_vessels(canvas, suv)
    paint_skull(canvas, suv)
    paint_head(canvas, suv)
    paint_chest(canvas, suv, shift=shift, inside=inside, inflamed_aorta="aortic wall" in findings)
    paint_muscles(canvas, suv, inside=inside)
    paint_skeleton(canvas, suv)
    paint_abdomen(canvas, suv, shift=shift, inside=inside, bowel_variation=tracer.bowel_variation, findings=findings)
    paint_pelvis(canvas, suv)
    paint_findings(canvas, suv, findings, arms=body.arm_lines, lung=ORGAN_LABELS["lung"])
    _hold_means(canvas, suv)
    weight = body_mass(canvas.attenuation, voxel_size, height=physique.height)
    held = _share_held(canvas.activity, voxel_size, weight)
    if held > _LARGEST_SHARE_HELD:
        # Organs that are all far above average would hold more than was injected.
        canvas.activity *= np.float32(_LARGEST_SHARE_HELD / held)
        suv = {organ: value * _LARGEST_SHARE_HELD / held for organ, value in suv.items()}
    lesion_labels, lesions = paint_lesions(
        canvas,
        draw_lesion_count(rng) if n_lesions is None else n_lesions,
        tracer=tracer,
        inside=inside,
    )
    paint_metal(canvas, findings)
    return Phantom(
        activity=canvas.activity,
        attenuation=canvas.attenuation,
        labels=canvas.labels,
        lesion_labels=lesion_labels,
        lesions=lesions,
        voxel_size=voxel_size,
        tracer=tracer,
        uptake=suv,
        body_weight=weight,
        arms=body.arms,
        physique=physique,
        findings=findings,
        breathing=draw_breathing(rng),
    )


def _hold_means(canvas: Canvas, suv: dict[str, float]) -> None:
    """Give organs whose vessels and texture may have moved it the mean that was drawn for them."""
    boxes = ndimage.find_objects(canvas.labels)
    for organ in _MEAN_HELD:
        label = ORGAN_LABELS[organ]
        if label <= len(boxes) and boxes[label - 1] is not None:
            canvas.hold_mean(label, suv[organ], boxes[label - 1])


def _share_held(activity: np.ndarray, voxel_size: tuple[float, float, float], body_weight: float) -> float:
    """Return the share of the injected activity in the field of view: the integral of SUV over volume, per mass."""
    return float(activity.sum(dtype=np.float64)) * float(np.prod(voxel_size)) * 1e-6 / body_weight


def _offsets(volume: np.ndarray, factor: int) -> list[np.ndarray]:
    """Return the factor^3 interleaved sub-volumes, as views."""
    steps = range(factor)
    return [volume[i::factor, j::factor, k::factor] for i in steps for j in steps for k in steps]


def block_mean(volume: np.ndarray, factor: int) -> np.ndarray:
    """Average over blocks of factor^3 voxels. Shape (X, Y, Z) to (X/f, Y/f, Z/f), float32."""
    parts = _offsets(volume, factor)
    total = np.zeros(parts[0].shape, dtype=np.float32)
    for part in parts:
        total += part
    return total / np.float32(factor**3)


def majority_labels(labels: np.ndarray, factor: int) -> np.ndarray:
    """Return the most frequent label of each block of factor^3 voxels; the lower label where two are as frequent."""
    best = np.zeros(_offsets(labels, factor)[0].shape, dtype=labels.dtype)
    most = np.zeros(best.shape, dtype=np.uint16)
    for value in np.unique(labels):
        count = sum((part == value).astype(np.uint16) for part in _offsets(labels, factor))
        better = count > most
        best[better] = value
        most[better] = count[better]
    return best


def reduce_lesion_labels(lesion_labels: np.ndarray, factor: int) -> np.ndarray:
    """Return the lesion labels on a grid `factor` times coarser.

    A voxel belongs to a lesion that fills at least half of it; a lesion too small for that keeps the one
    voxel that it fills most, so that none is lost.
    """
    coarse = np.zeros(_offsets(lesion_labels, factor)[0].shape, dtype=lesion_labels.dtype)
    half = factor**3 / 2
    for value in np.unique(lesion_labels)[1:] if lesion_labels.any() else ():
        where = np.nonzero(lesion_labels == value)
        blocks, counts = np.unique(np.stack([axis // factor for axis in where]), axis=1, return_counts=True)
        kept = counts >= half
        if not kept.any():
            kept = np.arange(len(counts)) == counts.argmax()
        coarse[tuple(blocks[:, kept])] = value
    return coarse
