"""One simulated patient: a phantom scanned once, and the same counts at every dose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy import ndimage

from pipeline.errors import PETError
from pipeline.simulation.low_dose import (
    DoseMode,
    at_dose,
    check_dose_mode,
    check_dose_reduction_factors,
    thin_to_dose,
)
from pipeline.simulation.patient.organs import ORGAN_LABELS
from pipeline.simulation.patient.phantom import Phantom, block_mean, majority_labels, make_phantom, reduce_lesion_labels
from pipeline.simulation.patient.tracers import FDG
from pipeline.simulation.patient.uptake import Tracer
from pipeline.simulation.scanner.calibration import calibrated_scale, draw_counts, noise_cov
from pipeline.simulation.scanner.reconstruction import system_model
from pipeline.simulation.scanner.scanner import Scanner

__all__ = ["DEFAULT_DOSE_REDUCTION_FACTORS", "SimulatedSubject", "simulate_subject"]

DEFAULT_DOSE_REDUCTION_FACTORS = (4.0, 10.0, 20.0, 50.0, 100.0)
"""Doses that a subject is reconstructed at, besides the full one."""

_LIVER_MARGIN = 8.0  # [mm] from the liver's surface, so that only liver is measured
_FEWEST_LIVER_VOXELS = 30


@dataclass(frozen=True)
class SimulatedSubject:
    """Images of one patient on the scanner's grid: SUVbw [g/mL], float32, shape (X, Y, Z), RAS+."""

    seed: int
    """Gives the same bytes again, with the same scanner, tracer and doses."""
    scanner: Scanner
    """What the patient was scanned with."""
    tracer: Tracer
    """What the patient was given."""
    dose_mode: DoseMode
    """How the dose was reduced."""
    truth: np.ndarray
    """True uptake, averaged over each voxel."""
    noise_free: np.ndarray
    """Reconstruction of the expected counts."""
    full_dose: np.ndarray
    """Reconstruction of the full counts."""
    full_dose_repeat: np.ndarray
    """Reconstruction of an independent draw of full counts."""
    low_dose: dict[float, np.ndarray]
    """Reconstructions of thinned full counts, by dose reduction factor."""
    labels: np.ndarray
    """Organ labels, see `ORGAN_LABELS`, uint8."""
    lesion_labels: np.ndarray
    """0 outside, k in the k-th lesion, uint16."""
    lesions: pd.DataFrame
    """One row per lesion; centres in scanner coordinates [mm]."""
    attenuation: np.ndarray
    """At 511 keV [1/mm], float32."""
    affine: np.ndarray
    """Voxel to RAS+ mm, shape (4, 4)."""
    sex: str
    """"F" or "M", empty if not known."""
    height: float | None
    """[m], None if not known."""
    body_weight: float
    """[kg]; of a procedural patient, estimated from the attenuation."""
    n_lesions_requested: int | None
    """As asked for; None if the number was drawn. The table has the lesions that found a place."""
    parameters: dict[str, object]
    """What was drawn for this subject, ready for JSON."""


def _liver(labels: np.ndarray, lesion_labels: np.ndarray, voxel_size: tuple[float, float, float]) -> np.ndarray:
    """Liver without lesions and surface; with its surface where the voxels are too coarse to do without."""
    liver = (labels == ORGAN_LABELS["liver"]) & (lesion_labels == 0)
    if not liver.any():
        raise PETError("no voxel of the liver lies in the field of view, expected it there to set the counts by")
    core = liver & (ndimage.distance_transform_edt(liver, sampling=voxel_size) > _LIVER_MARGIN)
    return core if core.sum() >= _FEWEST_LIVER_VOXELS else liver


def _patient(
    phantom: Phantom | None,
    rng: np.random.Generator,
    *,
    scanner: Scanner,
    n_lesions: int | None,
    tracer: Tracer | None,
) -> Phantom:
    """Patient given, checked; else a procedural one."""
    if phantom is None:
        return make_phantom(
            rng,
            shape=scanner.object_shape,
            voxel_size=scanner.object_voxel_size,
            n_lesions=n_lesions,
            tracer=tracer or FDG,
        )
    if n_lesions is not None or tracer is not None:
        raise PETError("a phantom was given with a number of lesions or a tracer, expected the phantom alone")
    if phantom.activity.shape != scanner.object_shape or not np.allclose(
        phantom.voxel_size, scanner.object_voxel_size, rtol=1e-3
    ):
        raise PETError(
            f"phantom of {phantom.activity.shape} voxels of {phantom.voxel_size} mm, expected "
            f"{scanner.object_shape} of {scanner.object_voxel_size} mm for scanner {scanner.name}"
        )
    return phantom


def simulate_subject(
    seed: int,
    *,
    scanner: Scanner,
    dose_reduction_factors: Sequence[float] = DEFAULT_DOSE_REDUCTION_FACTORS,
    dose_mode: DoseMode = "shorter_scan",
    n_lesions: int | None = None,
    tracer: Tracer | None = None,
    phantom: Phantom | None = None,
    device: str | None = None,
) -> SimulatedSubject:
    """Simulate one patient: phantom, expected data, Poisson counts, thinning, reconstructions.

    The counts at a dose reduction factor are a part of the counts of every lower factor. The reconstruction
    knows scatter, randoms and attenuation exactly, and planes are coupled by an axial blur only.

    Parameters
    ----------
    seed
        With all else the same: same bytes, on numpy.
    scanner
        Scanner and reconstruction; `scanner_presets` states the CPU time of each.
    dose_reduction_factors
        Different numbers above 1 and up to 200.
    dose_mode
        "shorter_scan": scatter and randoms shrink with the trues; "less_activity": randoms with the square.
    n_lesions
        None draws the number; about 30 makes a lesion-rich patient for training.
    tracer
        What the patient is given; FDG by default.
    phantom
        A patient of one's own instead of a procedural one, of the scanner's `object_shape` and
        `object_voxel_size`; it brings its lesions and its tracer.
    device
        Where reconstructions run: None is numpy, else a device of torch, as in "cuda". Counts are always drawn and
        calibrated by numpy, so a seed means the same patient and the same counts everywhere; images on torch
        equal numpy's to rounding, not bytes.

    Returns
    -------
    SimulatedSubject
        Truth, reconstructions and labels.

    Raises
    ------
    PETError
        If a dose reduction factor is not above 1, the phantom does not fit the scanner, or the liver is out of
        the field of view.
    """
    factors = check_dose_reduction_factors(dose_reduction_factors)
    check_dose_mode(dose_mode)
    streams = np.random.SeedSequence(seed).spawn(6)
    for_phantom, for_level, for_trial, for_full, for_repeat = (np.random.default_rng(s) for s in streams[:5])
    patient = _patient(phantom, for_phantom, scanner=scanner, n_lesions=n_lesions, tracer=tracer)
    reference, model = system_model(scanner), system_model(scanner, device)
    f = scanner.supersampling
    acquisition = reference.acquire(patient.activity, patient.attenuation)
    truth = block_mean(patient.activity, f)
    attenuation = block_mean(patient.attenuation, f)
    labels = majority_labels(patient.labels, f)
    lesion_labels = reduce_lesion_labels(patient.lesion_labels, f)

    target = float(for_level.uniform(*scanner.liver_cov))
    liver = _liver(labels, lesion_labels, scanner.voxel_size)
    scale = calibrated_scale(reference, acquisition, liver, liver_cov=target, rng=for_trial)
    expected = [acquisition.expected(k) * np.float32(scale) for k in range(scanner.n_subsets)]
    noise_free = model.reconstruct(expected, acquisition, scale=scale)
    del expected
    repeat = model.reconstruct(draw_counts(acquisition, scale, for_repeat), acquisition, scale=scale)
    counts = draw_counts(acquisition, scale, for_full)
    prompts = [_sum(counts)]
    full = model.reconstruct(counts, acquisition, scale=scale)
    low_dose, previous = {}, 1.0
    for factor, stream in zip(factors, streams[5].spawn(len(factors)), strict=True):
        rng = np.random.default_rng(stream)
        counts = thin_to_dose(counts, acquisition, previous=previous, factor=factor, mode=dose_mode, rng=rng)
        previous = factor
        prompts.append(_sum(counts))
        low_dose[factor] = model.reconstruct(counts, at_dose(acquisition, factor, mode=dose_mode), scale=scale / factor)

    lesions = patient.lesions.copy()
    # From the centre of the first fine voxel to the scanner's coordinates.
    for axis, k in (("x", 0), ("y", 1), ("z", 2)):
        lesions[axis] = lesions[axis] + scanner.affine[k, 3] - (f - 1) / 2 * scanner.object_voxel_size[k]
    parameters: dict[str, object] = {
        "tracer": patient.tracer.name,
        "physique": None if patient.physique is None else asdict(patient.physique),
        "sex": patient.sex,
        "height": None if patient.height is None else round(patient.height, 4),
        "body_weight": round(patient.body_weight, 2),
        "arms": patient.arms,
        "organ_uptake": {organ: round(suv, 4) for organ, suv in patient.uptake.items()},
        "dose_mode": dose_mode,
        "liver_cov_target": round(target, 5),
        "liver_cov_full_dose": round(noise_cov(full, repeat, liver), 5),
        "prompts_full_dose": prompts[0],
        "prompts_low_dose": prompts[1:],
        "counts_per_suv_mm": scale,
        "reconstructed_on": device or "numpy",
    }
    return SimulatedSubject(
        seed=seed,
        scanner=scanner,
        tracer=patient.tracer,
        dose_mode=dose_mode,
        truth=truth,
        noise_free=noise_free,
        full_dose=full,
        full_dose_repeat=repeat,
        low_dose=low_dose,
        labels=labels,
        lesion_labels=lesion_labels,
        lesions=lesions,
        attenuation=attenuation,
        affine=scanner.affine,
        sex=patient.sex,
        height=patient.height,
        body_weight=patient.body_weight,
        n_lesions_requested=n_lesions,
        parameters=parameters,
    )


def _sum(counts: list[np.ndarray]) -> int:
    """All counts of a scan."""
    return sum(int(c.sum(dtype=np.int64)) for c in counts)
