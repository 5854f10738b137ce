"""Cohorts of simulated patients on disk: BIDS-like folders that are either complete or not there."""

from __future__ import annotations

import gzip
import json
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from pipeline import __version__
from pipeline.pet import PETError, PETHeader, PETSeries, write_nifti
from pipeline.pet.atomic import new_folder
from pipeline.pet.nuclides import HALF_LIFE
from pipeline.simulation.organs import ORGAN_LABELS
from pipeline.simulation.scanner import GENERIC, Scanner
from pipeline.simulation.subject import (
    DEFAULT_DOSE_REDUCTION_FACTORS,
    SimulatedSubject,
    check_dose_reduction_factors,
    simulate_subject,
)

__all__ = ["simulate_cohort", "subject_seed", "write_subject"]

logger = logging.getLogger(__name__)

_INJECTED_PER_KG = 3.5e6  # [Bq/kg], a usual FDG prescription
_UPTAKE_TIME = 3600.0  # [s]
_FULL_FRAME_DURATION = 150.0  # [s] per bed position at full dose
_REQUEST = "request"
_GENERATOR = 1
"""Goes up when the same seed gives other images, so that cohorts of two kinds are never mixed."""


def subject_seed(seed: int, index: int) -> int:
    """Seed of the index-th subject (from 0) of a cohort: a longer cohort begins with the shorter one."""
    return int(np.random.SeedSequence(seed, spawn_key=(index,)).generate_state(1, np.uint32)[0])


def _request(
    *, seed: int, scanner: Scanner, dose_reduction_factors: Sequence[float], n_lesions: int | None
) -> dict[str, Any]:
    """What fixes a subject's bytes, as JSON reads it back."""
    request = {
        "generator": _GENERATOR,
        "tracer": "FDG",
        "seed": seed,
        "scanner": asdict(scanner),
        "dose_reduction_factors": [float(f) for f in sorted(dose_reduction_factors)],
        "n_lesions": n_lesions,
    }
    return json.loads(json.dumps(request))


def _header(subject: SimulatedSubject, dose_reduction_factor: float) -> PETHeader:
    """Attributes of a scan of this patient; less dose is a shorter scan of the same injection."""
    scanner, physique = subject.scanner, subject.physique
    weight = round(subject.body_weight, 1)
    psf = " with PSF" if scanner.models_psf else ""
    tof = " and time of flight" if scanner.tof_fwhm is not None else ""
    return PETHeader(
        units="GML",
        decay_correction="START",
        patient_weight=weight,
        patient_height=round(physique.height, 2),
        patient_sex=physique.sex,
        radionuclide="F-18",
        radiopharmaceutical="FDG",
        radionuclide_half_life=HALF_LIFE["F-18"],
        injected_dose=_INJECTED_PER_KG * weight,
        administration_time=-_UPTAKE_TIME,
        reference_time=0.0,
        frame_duration=round(_FULL_FRAME_DURATION / dose_reduction_factor, 3),
        manufacturer="simulated",
        model_name=scanner.name,
        reconstruction_method=(
            f"OSEM {scanner.n_iterations}i{scanner.n_subsets}s{psf}{tof}, {scanner.post_filter:g} mm Gaussian"
        ),
    )


def _write_labels(labels: np.ndarray, affine: np.ndarray, path: Path) -> None:
    """Write integer labels; no name and no time in the gzip header, so that equal labels are equal files."""
    image = nib.Nifti1Image(labels, affine)
    image.header.set_xyzt_units("mm", "sec")
    with path.open("wb") as file, gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0) as out:
        image.to_stream(out)


def _drf_entity(factor: float) -> str:
    if factor != int(factor):
        raise PETError(f"dose reduction factor {factor:g} cannot be part of a file name, expected a whole number")
    return f"drf{int(factor):03d}"


def write_subject(subject: SimulatedSubject, folder: str | Path) -> Path:
    """Write a subject as a new folder, whose name begins every file's name.

    Images lie in ``pet/`` as float32 SUVbw with JSON sidecars: ``rec-full``, ``rec-fullrepeat``,
    ``rec-noisefree``, ``rec-drfNNN`` and ``desc-truth``; labels as ``desc-lesions_mask`` and
    ``desc-organs_dseg``; the lesions' true values as ``lesions.tsv``; every parameter as
    ``simulation.json``.

    Parameters
    ----------
    subject
        What to write.
    folder
        New or empty folder, such as ``sub-0001``, in an existing folder.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    PETError
        If the folder holds something, its parent is missing, or a dose reduction factor is not a whole number.
    """
    folder = Path(folder)
    note = f"Simulated FDG PET, seed {subject.seed}, scanner {subject.scanner.name}, unipet_3d {__version__}."
    # Name, image, dose reduction factor (1 for what has no noise), what the sidecar adds.
    images: list[tuple[str, np.ndarray, float, dict[str, Any]]] = [
        ("desc-truth", subject.truth, 1.0, {"Description": "true uptake"}),
        ("rec-noisefree", subject.noise_free, 1.0, {"Description": "reconstruction of the expected counts"}),
        ("rec-full", subject.full_dose, 1.0, {"DoseReductionFactor": 1.0}),
        (
            "rec-fullrepeat",
            subject.full_dose_repeat,
            1.0,
            {"DoseReductionFactor": 1.0, "Description": "independent draw of the full counts"},
        ),
    ]
    for factor, image in subject.low_dose.items():
        images.append((f"rec-{_drf_entity(factor)}", image, factor, {"DoseReductionFactor": factor}))
    with new_folder(folder) as temporary:
        pet = temporary / "pet"
        pet.mkdir()
        stem = pet / folder.name
        for entity, image, factor, extra in images:
            series = PETSeries(suv=image, affine=subject.affine, header=_header(subject, factor), provenance=(note,))
            write_nifti(series, f"{stem}_{entity}_pet.nii.gz", extra=extra)
        _write_labels(subject.lesion_labels, subject.affine, Path(f"{stem}_desc-lesions_mask.nii.gz"))
        _write_labels(subject.labels, subject.affine, Path(f"{stem}_desc-organs_dseg.nii.gz"))
        subject.lesions.to_csv(f"{stem}_lesions.tsv", sep="\t", index=False, float_format="%.4f")
        record = {
            _REQUEST: _request(
                seed=subject.seed,
                scanner=subject.scanner,
                dose_reduction_factors=tuple(subject.low_dose),
                n_lesions=subject.n_lesions_requested,
            ),
            "version": __version__,
            "organ_labels": dict(ORGAN_LABELS),
            **subject.parameters,
        }
        Path(f"{stem}_simulation.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return folder


def _is_complete(folder: Path, request: dict[str, Any]) -> bool:
    """Whether the subject is there, made exactly as requested."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    path = folder / "pet" / f"{folder.name}_simulation.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))[_REQUEST]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PETError(f"{folder}: has no readable {path.name}, expected a simulated subject or nothing") from error
    for key, wanted in request.items():
        if found.get(key) != wanted:
            different = f"{key} {_brief(found.get(key), wanted)}, expected {_brief(wanted, found.get(key))}"
            raise PETError(f"{folder}: was simulated with {different}; choose another folder or remove it")
    return True


def _brief(value: Any, other: Any) -> str:
    """A value in one line; of two dictionaries only what differs."""
    if isinstance(value, dict) and isinstance(other, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items() if other.get(k) != v) or "otherwise the same"
    return str(value)


@dataclass(frozen=True)
class _Task:
    """One subject to simulate; picklable."""

    folder: Path
    seed: int
    scanner: Scanner
    dose_reduction_factors: tuple[float, ...]
    n_lesions: int | None

    def run(self) -> None:
        subject = simulate_subject(
            self.seed,
            scanner=self.scanner,
            dose_reduction_factors=self.dose_reduction_factors,
            n_lesions=self.n_lesions,
        )
        write_subject(subject, self.folder)


def _leave_cleanly() -> None:
    """Let the parent alone answer Ctrl-C, and let a worker that is ended remove what it has half written."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def simulate_cohort(
    folder: str | Path,
    *,
    n_subjects: int,
    seed: int,
    scanner: Scanner = GENERIC,
    dose_reduction_factors: Sequence[float] = DEFAULT_DOSE_REDUCTION_FACTORS,
    n_lesions: int | None = None,
    jobs: int = 1,
    progress: Callable[[int, int], object] | None = None,
) -> list[Path]:
    """Simulate subjects ``sub-0001``, ``sub-0002``, ... into a folder; those already there are kept.

    An interrupted cohort goes on where it stopped: a subject's folder gets its name once it is complete.

    Parameters
    ----------
    folder
        Where the subjects go; made if need be.
    n_subjects
        How many.
    seed
        Same seed, same cohort; a longer cohort begins with the shorter one.
    scanner
        Scanner and reconstruction.
    dose_reduction_factors
        Different whole numbers above 1.
    n_lesions
        Per subject; None draws the number.
    jobs
        Processes.
    progress
        Called with the number of finished subjects and of all subjects after each, also for those kept.

    Returns
    -------
    list of pathlib.Path
        The subjects' folders.

    Raises
    ------
    PETError
        If an argument is out of range, or a subject is there that was made with other parameters.
    """
    if n_subjects < 1 or jobs < 1 or seed < 0:
        raise PETError(f"n_subjects {n_subjects}, jobs {jobs}, seed {seed}: expected at least 1, 1 and 0")
    factors = check_dose_reduction_factors(dose_reduction_factors)
    for factor in factors:
        _drf_entity(factor)
    folder = Path(folder)
    tasks = [
        _Task(folder / f"sub-{index + 1:04d}", subject_seed(seed, index), scanner, factors, n_lesions)
        for index in range(n_subjects)
    ]
    missing = [
        task
        for task in tasks
        if not _is_complete(
            task.folder,
            _request(seed=task.seed, scanner=scanner, dose_reduction_factors=factors, n_lesions=n_lesions),
        )
    ]
    folder.mkdir(parents=True, exist_ok=True)
    n_done = 0

    def advance() -> None:
        nonlocal n_done
        n_done += 1
        if progress is not None:
            progress(n_done, n_subjects)

    for _ in range(n_subjects - len(missing)):
        advance()
    if missing:
        logger.info("%s: simulating %d of %d subjects", folder, len(missing), n_subjects)
    if jobs == 1 or len(missing) < 2:
        for task in missing:
            task.run()
            advance()
            logger.info("%s: %d of %d subjects", folder, n_done, n_subjects)
    else:
        # Fresh processes: forking one that holds BLAS or GPU threads may hang.
        context = get_context("spawn")
        with ProcessPoolExecutor(min(jobs, len(missing)), mp_context=context, initializer=_leave_cleanly) as pool:
            futures = [pool.submit(task.run) for task in missing]
            try:
                for future in as_completed(futures):
                    future.result()
                    advance()
                    logger.info("%s: %d of %d subjects", folder, n_done, n_subjects)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for worker in active_children():
                    worker.terminate()
                raise
    return [task.folder for task in tasks]
