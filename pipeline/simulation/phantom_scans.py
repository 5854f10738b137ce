"""Scans of the NEMA phantom at several doses, on disk, for studies of contrast recovery."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from pipeline import __version__
from pipeline.engine import Workers, run_tasks
from pipeline.files import locked_folder, new_folder, remove_unfinished, write_json
from pipeline.pet import PETHeader, PETSeries, write_nifti
from pipeline.simulation.low_dose import check_dose_reduction_factors, dose_entity, nested_doses
from pipeline.simulation.patient.nema import NEMAPhantom, nema_phantom
from pipeline.simulation.scanner.calibration import calibrated_scale, draw_counts
from pipeline.simulation.scanner.presets import scanner_preset
from pipeline.simulation.scanner.reconstruction import system_model
from pipeline.simulation.scanner.scanner import Scanner
from pipeline.simulation.subject_folder import is_complete, subject_record

__all__ = ["PhantomScans", "PhantomStudy", "simulate_phantom"]

_ACROSS, _LENGTH = 340.0, 200.0  # [mm] of the field of view that is simulated: the phantom has 294
_FROM_SURFACES = 15.0  # [mm] of the background that the noise is set in
_GENERATOR = 1  # goes up when the same seed gives other images


@dataclass(frozen=True)
class PhantomStudy:
    """What to simulate: the phantom at each ratio, and its scans at each dose."""

    scanner: str = "mct"
    """Name of a preset; its field of view is cut to that of the phantom."""
    ratios: tuple[float, ...] = (4.0, 10.0)
    """Activity of the spheres over that of the background, which is SUV 1: 4 in NEMA NU 2-2018, 10 at EARL."""
    dose_reduction_factors: tuple[float, ...] = (4.0, 20.0, 100.0)
    n_repeats: int = 4
    """Scans at each dose, each of its own counts."""
    background_cov: float = 0.10
    """Coefficient of variation of the background's voxels at full dose: that of the liver of a patient."""
    seed: int = 70000

    @property
    def field_of_view(self) -> Scanner:
        """The scanner, as far as it sees the phantom."""
        whole = scanner_preset(self.scanner)
        across = min(2 * int(np.ceil(_ACROSS / whole.voxel_size[0] / 2)), whole.matrix[0])
        n_slices = min(int(np.ceil(_LENGTH / whole.voxel_size[2])), whole.matrix[2])
        return replace(whole, matrix=(across, across, n_slices))

    def request(self, ratio: float) -> dict[str, Any]:
        """Return what fixes the bytes of the scans at a ratio, as JSON reads it back."""
        request = {
            "generator": _GENERATOR,
            "phantom": "NEMA image quality",
            "ratio": float(ratio),
            "scanner": asdict(self.field_of_view),
            "dose_reduction_factors": check_dose_reduction_factors(self.dose_reduction_factors),
            "n_repeats": self.n_repeats,
            "background_cov": self.background_cov,
            "seed": self.seed,
        }
        return json.loads(json.dumps(request))


@dataclass(frozen=True)
class PhantomScans:
    """The scans of the phantom with one ratio on disk."""

    folder: Path
    ratio: float

    def scan(self, factor: float, repeat: int) -> Path:
        """Return the path of a scan at a dose reduction factor, 1 for full dose; repeats count from 0."""
        entity = "full" if factor == 1 else dose_entity(factor)
        return self.folder / "pet" / f"{self.folder.name}_run-{repeat + 1}_rec-{entity}_pet.nii.gz"

    @property
    def noise_free(self) -> Path:
        """Path of the reconstruction of the expected counts."""
        return self.folder / "pet" / f"{self.folder.name}_rec-noisefree_pet.nii.gz"

    def files(self) -> list[Path]:
        """Return the paths of all that was written, sorted."""
        return sorted((self.folder / "pet").iterdir())


def simulate_phantom(folder: str | Path, study: PhantomStudy, *, jobs: Workers | int = 1) -> list[PhantomScans]:
    """Simulate the scans of a study, one folder for each ratio; what is already there is kept.

    `jobs` is the number of processes.

    Raises
    ------
    PETError
        If something is there that was made otherwise, another run is writing, or an argument is out of range.
    """
    folder = Path(folder)
    made = [PhantomScans(folder / f"nema-{ratio:g}to1".replace(".", "p"), float(ratio)) for ratio in study.ratios]
    with locked_folder(folder, "simulating into it"):
        remove_unfinished(folder)
        missing = [scans for scans in made if not is_complete(scans.folder, study.request(scans.ratio))]
        for _ in run_tasks([partial(_write_scans, scans, study) for scans in missing], where=jobs):
            pass
    return made


def _write_scans(scans: PhantomScans, study: PhantomStudy) -> None:
    """Simulate the phantom at one ratio and write its scans at every dose."""
    scanner = study.field_of_view
    model = system_model(scanner)
    phantom = nema_phantom(scanner, ratio=scans.ratio)
    acquisition = model.acquire(phantom.activity, phantom.attenuation)
    for_trial, *for_repeats = np.random.SeedSequence(study.seed).spawn(1 + study.n_repeats)
    rng = np.random.default_rng(for_trial)
    background = _background(phantom, scanner)
    scale = calibrated_scale(model, acquisition, background, liver_cov=study.background_cov, rng=rng)
    factors = check_dose_reduction_factors(study.dose_reduction_factors)
    with new_folder(scans.folder) as temporary:
        pet = temporary / "pet"
        pet.mkdir()
        expected = [acquisition.expected(k) * np.float32(scale) for k in range(scanner.n_subsets)]
        noise_free = model.reconstruct(expected, acquisition, scale=scale)
        _write_scan(pet / scans.noise_free.name, noise_free, scanner, 1.0)
        for repeat, seeds in enumerate(for_repeats):
            for_counts, *for_doses = (np.random.default_rng(s) for s in seeds.spawn(1 + len(factors)))
            counts = draw_counts(acquisition, scale, for_counts)
            thinned = nested_doses(counts, acquisition, dict(zip(factors, for_doses, strict=True)))
            for factor, drawn in [(1.0, counts), *thinned]:
                image = model.reconstruct(drawn, acquisition, scale=scale / factor)
                _write_scan(pet / scans.scan(factor, repeat).name, image, scanner, factor)
        said = {"counts_per_suv_mm": scale}
        record = subject_record(study.request(scans.ratio), said, pet)
        write_json(pet / f"{scans.folder.name}_simulation.json", record)


def _write_scan(path: Path, suv: np.ndarray, scanner: Scanner, factor: float) -> None:
    header = PETHeader(
        units="GML",
        decay_correction="START",
        radionuclide="F-18",
        manufacturer="simulated",
        model_name=scanner.name,
    )
    note = f"Simulated NEMA image quality phantom, scanner {scanner.name}, unipet_3d {__version__}."
    series = PETSeries(suv=suv, affine=scanner.affine, header=header, provenance=(note,))
    write_nifti(series, path, extra={"Description": f"dose reduced by {factor:g}", "DoseReductionFactor": factor})


def _background(phantom: NEMAPhantom, scanner: Scanner) -> np.ndarray:
    """Return the voxels of the background away from all surfaces, on the scanner's grid."""
    f = scanner.supersampling
    blocks: Sequence[int] = [side for n in scanner.matrix for side in (n, f)]
    uniform = (np.abs(phantom.activity - 1) < 1e-3).reshape(blocks).all(axis=(1, 3, 5))
    return ndimage.distance_transform_edt(uniform, sampling=scanner.voxel_size) > _FROM_SURFACES
