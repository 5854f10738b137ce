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
    nested_doses,
)
from pipeline.simulation.patient.organs import ORGAN_LABELS
from pipeline.simulation.patient.phantom import Phantom, make_phantom
from pipeline.simulation.patient.tracers.fdg import FDG
from pipeline.simulation.patient.uptake import Tracer
from pipeline.simulation.scanner.acquisition import Acquisition
from pipeline.simulation.scanner.calibration import calibrated_scale, draw_counts, noise_cov
from pipeline.simulation.scanner.reconstruction import SystemModel, system_model
from pipeline.simulation.scanner.scanner import Scanner

__all__ = ["DEFAULT_DOSE_REDUCTION_FACTORS", "SimulatedSubject", "measured_liver", "simulate_subject"]

DEFAULT_DOSE_REDUCTION_FACTORS = (4.0, 10.0, 20.0, 50.0, 100.0)
"""Doses that a subject is reconstructed at, besides the full one."""

_LIVER_MARGIN = 8.0  # [mm] from the liver's surface, so that only liver is measured
_FEWEST_LIVER_VOXELS = 30
_NO_LIVER = "no voxel of the liver lies in the field of view, expected it there to set the counts by"
_LIVER_FROM_END = 60.0  # [mm] of the liver's middle from the ends of a scan of a part of the body


@dataclass(frozen=True)
class SimulatedSubject:
    """Images of one patient on the scanner's grid: SUVbw [g/mL], float32, shape (X, Y, Z), RAS+."""

    seed: int
    """Gives the same bytes again, with the same scanner, tracer and doses."""
    scanner: Scanner
    """What the patient was scanned with; its matrix is that of the images."""
    axial_extent: float | None
    """Part of the body that was asked for [mm]; None is all of it."""
    dose_mode: DoseMode
    """How the dose was reduced."""
    truth: Phantom
    """The patient, averaged over each voxel."""
    noise_free: np.ndarray | None
    """Reconstruction of the expected counts; None without references."""
    full_dose: np.ndarray
    """Reconstruction of the full counts."""
    full_dose_repeat: np.ndarray | None
    """Reconstruction of an independent draw of full counts; None without references."""
    low_dose: dict[float, np.ndarray]
    """Reconstructions of thinned full counts, by dose reduction factor."""
    n_lesions_requested: int | None
    """As asked for; None if the number was drawn. The table has the lesions that found a place."""
    parameters: dict[str, object]
    """What was drawn for this subject, ready for JSON."""

    @property
    def has_references(self) -> bool:
        """Whether what training does not need was made, too."""
        return self.full_dose_repeat is not None

    @property
    def lesions(self) -> pd.DataFrame:
        """One row per lesion, as in `Phantom.lesions`, with centres in scanner coordinates [mm]."""
        table = self.truth.lesions.copy()
        for axis, first in zip("xyz", self.scanner.affine[:3, 3], strict=True):
            table[axis] += first
        return table


def measured_liver(patient: Phantom) -> np.ndarray:
    """Return the liver without lesions and surface; with its surface where the voxels are too coarse to do without."""
    liver = (patient.labels == ORGAN_LABELS["liver"]) & (patient.lesion_labels == 0)
    if not liver.any():
        raise PETError(_NO_LIVER)
    core = liver & (ndimage.distance_transform_edt(liver, sampling=patient.voxel_size) > _LIVER_MARGIN)
    return core if core.sum() >= _FEWEST_LIVER_VOXELS else liver


def _part_with_liver(patient: Phantom, scanner: Scanner, rng: np.random.Generator) -> slice:
    """Draw which slices of the patient a scanner sees, with the middle of the liver well inside."""
    n, factor = scanner.matrix[2], scanner.supersampling
    of_liver = np.flatnonzero((patient.labels == ORGAN_LABELS["liver"]).any(axis=(0, 1)))
    highest = patient.labels.shape[2] // factor - n
    if not len(of_liver):
        raise PETError(_NO_LIVER)
    middle, margin = of_liver.mean() / factor, min(_LIVER_FROM_END / scanner.voxel_size[2], n / 2)
    first, last = (int(np.clip(round(v), 0, highest)) for v in (middle - n + margin, middle - margin))
    start = int(rng.integers(first, last + 1)) * factor
    return slice(start, start + n * factor)


def _patient(
    rng: np.random.Generator,
    place: np.random.Generator,
    *,
    scanner: Scanner,
    whole: Scanner,
    n_lesions: int | None,
    tracer: Tracer,
) -> Phantom:
    """Make the patient that `whole` sees, and keep the part that `scanner` scans."""
    patient = make_phantom(
        rng, shape=whole.object_shape, voxel_size=whole.object_voxel_size, n_lesions=n_lesions, tracer=tracer
    )
    if scanner.matrix == whole.matrix:
        return patient
    return patient.slices(_part_with_liver(patient, scanner, place))


def simulate_subject(
    seed: int,
    *,
    scanner: Scanner,
    dose_reduction_factors: Sequence[float] = DEFAULT_DOSE_REDUCTION_FACTORS,
    dose_mode: DoseMode = "shorter_scan",
    n_lesions: int | None = None,
    tracer: Tracer = FDG,
    axial_extent: float | None = None,
    references: bool = True,
    device: str | None = None,
) -> SimulatedSubject:
    """Simulate one patient: phantom, expected data, Poisson counts, thinning, reconstructions.

    The counts at a dose reduction factor are a part of the counts of every lower factor. The patient
    breathes. The reconstruction knows scatter and randoms exactly and attenuation as a map of another moment says it;
    planes are coupled by an axial blur only.

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
        What the patient is given.
    axial_extent
        Scan only so much of the body [mm], at a place drawn around the liver; None scans all that the scanner sees.
    references
        Whether to reconstruct also the expected counts and an independent draw, which training does not need.
    device
        Where reconstructions run: None is numpy, else a device of torch, as in "cuda". Counts are always drawn and
        calibrated by numpy, so a seed means the same patient and the same counts everywhere; images on torch
        equal numpy's to rounding, not bytes.

    Raises
    ------
    PETError
        If a dose reduction factor is not above 1, or the liver is out of the field of view.
    """
    whole, scanner = scanner, scanner.covering(axial_extent)
    factors = check_dose_reduction_factors(dose_reduction_factors)
    check_dose_mode(dose_mode)
    streams = np.random.SeedSequence(seed).spawn(7)
    for_phantom, for_level, for_trial, for_full, for_repeat, _, for_place = (np.random.default_rng(s) for s in streams)
    patient = _patient(for_phantom, for_place, scanner=scanner, whole=whole, n_lesions=n_lesions, tracer=tracer)
    reference, model = system_model(scanner), system_model(scanner, device)
    truth = patient.coarser(scanner.supersampling)
    acquisition = reference.acquire(*patient.averaged_over_a_breath(), correction_map=truth.correction_map())
    del patient

    target = float(for_level.uniform(*scanner.liver_cov))
    liver = measured_liver(truth)
    scale = calibrated_scale(reference, acquisition, liver, liver_cov=target, rng=for_trial)
    noise_free = repeat = None
    if references:
        expected = [acquisition.expected(k) * np.float32(scale) for k in range(scanner.n_subsets)]
        noise_free = model.reconstruct(expected, acquisition, scale=scale)
        del expected
        repeat = model.reconstruct(draw_counts(acquisition, scale, for_repeat), acquisition, scale=scale)
    counts = draw_counts(acquisition, scale, for_full)
    full = model.reconstruct(counts, acquisition, scale=scale)
    thinning = [np.random.default_rng(s) for s in streams[5].spawn(len(factors))]
    low_dose, prompts = _low_doses(model, acquisition, counts, factors, scale=scale, mode=dose_mode, rngs=thinning)
    parameters = {
        **_drawn(truth),
        "dose_mode": dose_mode,
        "liver_cov_target": round(target, 5),
        "liver_cov_full_dose": None if repeat is None else round(noise_cov(full, repeat, liver), 5),
        "prompts_full_dose": prompts[0],
        "prompts_low_dose": prompts[1:],
        "counts_per_suv_mm": scale,
        "reconstructed_on": device or "numpy",
    }
    return SimulatedSubject(
        seed=seed,
        scanner=scanner,
        axial_extent=axial_extent,
        dose_mode=dose_mode,
        truth=truth,
        noise_free=noise_free,
        full_dose=full,
        full_dose_repeat=repeat,
        low_dose=low_dose,
        n_lesions_requested=n_lesions,
        parameters=parameters,
    )


def _low_doses(
    model: SystemModel,
    acquisition: Acquisition,
    counts: list[np.ndarray],
    factors: Sequence[float],
    *,
    scale: float,
    mode: DoseMode,
    rngs: Sequence[np.random.Generator],
) -> tuple[dict[float, np.ndarray], list[int]]:
    """Return the images of thinned counts by rising factor, and the number of counts of full dose and of each."""
    images, prompts = {}, [_sum(counts)]
    for factor, thinned in nested_doses(counts, acquisition, dict(zip(factors, rngs, strict=True)), mode=mode):
        prompts.append(_sum(thinned))
        images[factor] = model.reconstruct(thinned, at_dose(acquisition, factor, mode=mode), scale=scale / factor)
    return images, prompts


def _sum(counts: list[np.ndarray]) -> int:
    """Return the number of all counts of a scan."""
    return sum(int(c.sum(dtype=np.int64)) for c in counts)


def _drawn(patient: Phantom) -> dict[str, object]:
    """Return what was drawn of a patient, ready for JSON."""
    return {
        "tracer": patient.tracer.name,
        "physique": asdict(patient.physique),
        "sex": patient.physique.sex,
        "height": round(patient.physique.height, 4),
        "body_weight": round(patient.body_weight, 2),
        "arms": patient.arms,
        "findings": sorted(patient.findings),
        "breathing": asdict(patient.breathing),
        "organ_uptake": {organ: round(suv, 4) for organ, suv in patient.uptake.items()},
    }
