"""One simulated patient: a phantom scanned once, and the same counts at every dose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy import ndimage

from pipeline.pet import PETError
from pipeline.simulation.low_dose import thin
from pipeline.simulation.organs import ORGAN_LABELS
from pipeline.simulation.phantom import block_mean, majority_labels, make_phantom, reduce_lesion_labels
from pipeline.simulation.physique import Physique
from pipeline.simulation.reconstruction import Acquisition, SystemModel, system_model
from pipeline.simulation.scanner import Scanner

__all__ = ["DEFAULT_DOSE_REDUCTION_FACTORS", "SimulatedSubject", "check_dose_reduction_factors", "simulate_subject"]

DEFAULT_DOSE_REDUCTION_FACTORS = (4.0, 10.0, 20.0, 50.0, 100.0)
"""Doses that a subject is reconstructed at, besides the full one."""

LARGEST_FACTOR = 1000.0
"""Beyond this a scan of usual counts has too few to reconstruct anything from."""

_TRIAL_PROMPTS_PER_MM = 2.5e5
_TRIAL_SLICES = 32
_LIVER_MARGIN = 8.0  # [mm] from the liver's surface, so that only liver is measured
_FEWEST_LIVER_VOXELS = 30


@dataclass(frozen=True)
class SimulatedSubject:
    """Images of one patient on the scanner's grid: SUVbw [g/mL], float32, shape (X, Y, Z), RAS+."""

    seed: int
    """Gives the same bytes again, with the same scanner and doses."""
    scanner: Scanner
    """What it was scanned with."""
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
    """[1/mm]."""
    affine: np.ndarray
    """Voxel to RAS+ mm, shape (4, 4)."""
    physique: Physique
    """Build of the patient."""
    body_weight: float
    """Estimated from the phantom's attenuation [kg]."""
    n_lesions_requested: int | None
    """As asked for; None if the number was drawn. The table has the lesions that found a place."""
    parameters: dict[str, object]
    """What was drawn for this subject, ready for JSON."""


def check_dose_reduction_factors(factors: Sequence[float]) -> tuple[float, ...]:
    """Sort the factors; all must be above 1, at most `LARGEST_FACTOR`, and different.

    Raises
    ------
    PETError
        If one is not.
    """
    ordered = tuple(sorted(float(f) for f in factors))
    if not all(1 < f <= LARGEST_FACTOR for f in ordered) or len(set(ordered)) != len(ordered):
        raise PETError(
            f"dose reduction factors {tuple(factors)}, expected different numbers above 1 and up to {LARGEST_FACTOR:g}"
        )
    return ordered


def _liver(labels: np.ndarray, lesion_labels: np.ndarray, voxel_size: tuple[float, float, float]) -> np.ndarray:
    """Liver without lesions and surface; with its surface where the voxels are too coarse to do without."""
    liver = (labels == ORGAN_LABELS["liver"]) & (lesion_labels == 0)
    if not liver.any():
        raise PETError("no voxel of the liver lies in the field of view, expected it there to set the counts by")
    core = liver & (ndimage.distance_transform_edt(liver, sampling=voxel_size) > _LIVER_MARGIN)
    return core if core.sum() >= _FEWEST_LIVER_VOXELS else liver


def _draw(acquisition: Acquisition, scale: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Poisson counts, one int32 array per subset."""
    subsets = range(len(acquisition.trues))
    return [rng.poisson(acquisition.expected(k) * np.float32(scale)).astype(np.int32) for k in subsets]


def _noise(first: np.ndarray, second: np.ndarray, region: np.ndarray) -> float:
    """Coefficient of variation in a region from two independent scans: noise alone, no texture."""
    difference = (first[region] - second[region]).std(dtype=np.float64) / np.sqrt(2)
    return float(difference / ((first[region] + second[region]) / 2).mean(dtype=np.float64))


def _calibrate(
    model: SystemModel, acquisition: Acquisition, liver: np.ndarray, target: float, rng: np.random.Generator
) -> float:
    """Scale [counts / (SUV mm)] at which the liver's coefficient of variation is `target`.

    A few slices through the liver are reconstructed from two independent trial draws; the coefficient
    of variation goes with one over the square root of the counts.
    """
    nz = liver.shape[2]
    center = round(float(np.average(np.arange(nz), weights=liver.sum(axis=(0, 1)))))
    first = int(np.clip(center - _TRIAL_SLICES // 2, 0, max(0, nz - _TRIAL_SLICES)))
    part = slice(first, first + _TRIAL_SLICES)
    slab = acquisition.slices(part)
    trial = _TRIAL_PROMPTS_PER_MM * nz * model.scanner.voxel_size[2] / acquisition.total
    images = []
    for _ in range(2):
        image = np.zeros(liver.shape, dtype=np.float32)
        image[:, :, part] = model.osem(_draw(slab, trial, rng), slab, scale=trial)
        images.append(model.post_filter(image))
    # The post-filter mixes in the zeros outside the slab: keep away from its ends.
    margin = int(np.ceil(model.scanner.post_filter / model.scanner.voxel_size[2]))
    inner = np.zeros_like(liver)
    stop = min(first + _TRIAL_SLICES, nz)
    inner[:, :, min(first + margin, center) : max(stop - margin, center + 1)] = True
    return trial * (_noise(images[0], images[1], liver & inner) / target) ** 2


def simulate_subject(
    seed: int,
    *,
    scanner: Scanner,
    dose_reduction_factors: Sequence[float] = DEFAULT_DOSE_REDUCTION_FACTORS,
    n_lesions: int | None = None,
) -> SimulatedSubject:
    """Simulate one patient: phantom, expected data, Poisson counts, thinning, reconstructions.

    The counts at a dose reduction factor are a part of the counts of every lower factor. Less dose
    means a shorter scan: scatter and randoms shrink with the trues. (Injecting less would shrink randoms
    with the square of the dose; that is not simulated.) The reconstruction knows scatter, randoms and
    attenuation exactly, and planes are coupled by an axial blur only.

    About 28 CPU-s for `GENERIC`, 37 for `GENERIC_TOF` and 84 for `DISCOVERY_ST` with five factors.

    Parameters
    ----------
    seed
        Same seed, scanner, factors and number of lesions: same bytes.
    scanner
        Scanner and reconstruction.
    dose_reduction_factors
        Different numbers above 1.
    n_lesions
        None draws the number; about 30 makes a lesion-rich patient for training.

    Returns
    -------
    SimulatedSubject
        Truth, reconstructions and labels.

    Raises
    ------
    PETError
        If a dose reduction factor is not above 1, or the liver is out of the field of view.
    """
    factors = check_dose_reduction_factors(dose_reduction_factors)
    streams = np.random.SeedSequence(seed).spawn(6)
    for_phantom, for_level, for_trial, for_full, for_repeat = (np.random.default_rng(s) for s in streams[:5])
    model = system_model(scanner)
    f = scanner.supersampling
    fine_shape = (scanner.matrix[0] * f, scanner.matrix[1] * f, scanner.matrix[2] * f)
    fine_voxel = (scanner.voxel_size[0] / f, scanner.voxel_size[1] / f, scanner.voxel_size[2] / f)
    phantom = make_phantom(for_phantom, shape=fine_shape, voxel_size=fine_voxel, n_lesions=n_lesions)
    acquisition = model.acquire(phantom.activity, phantom.attenuation)
    truth = block_mean(phantom.activity, f)
    attenuation = block_mean(phantom.attenuation, f)
    labels = majority_labels(phantom.labels, f)
    lesion_labels = reduce_lesion_labels(phantom.lesion_labels, f)

    target = float(for_level.uniform(*scanner.liver_cov))
    liver = _liver(labels, lesion_labels, scanner.voxel_size)
    scale = _calibrate(model, acquisition, liver, target, for_trial)
    expected = [acquisition.expected(k) * np.float32(scale) for k in range(scanner.n_subsets)]
    noise_free = model.reconstruct(expected, acquisition, scale=scale)
    del expected
    repeat = model.reconstruct(_draw(acquisition, scale, for_repeat), acquisition, scale=scale)
    counts = _draw(acquisition, scale, for_full)
    prompts = int(sum(int(c.sum(dtype=np.int64)) for c in counts))
    full = model.reconstruct(counts, acquisition, scale=scale)
    low_dose, previous = {}, 1.0
    for factor, stream in zip(factors, streams[5].spawn(len(factors)), strict=True):
        rng = np.random.default_rng(stream)
        counts = [thin(c, previous / factor, rng) for c in counts]
        previous = factor
        low_dose[factor] = model.reconstruct(counts, acquisition, scale=scale / factor)

    lesions = phantom.lesions.copy()
    # From the centre of the first fine voxel to the scanner's coordinates.
    for axis, k in (("x", 0), ("y", 1), ("z", 2)):
        lesions[axis] = lesions[axis] + scanner.affine[k, 3] - (f - 1) / 2 * fine_voxel[k]
    parameters: dict[str, object] = {
        "physique": asdict(phantom.physique),
        "body_weight": round(phantom.body_weight, 2),
        "arms": phantom.arms,
        "organ_uptake": {organ: round(suv, 4) for organ, suv in phantom.uptake.items()},
        "liver_cov_target": round(target, 5),
        "liver_cov_full_dose": round(_noise(full, repeat, liver), 5),
        "prompts_full_dose": prompts,
        "counts_per_suv_mm": scale,
    }
    return SimulatedSubject(
        seed=seed,
        scanner=scanner,
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
        physique=phantom.physique,
        body_weight=phantom.body_weight,
        n_lesions_requested=n_lesions,
        parameters=parameters,
    )
