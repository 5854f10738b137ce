"""Cohorts of simulated patients on disk, in any number of runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.engine import Workers, run_tasks
from pipeline.errors import PETError
from pipeline.files import locked_folder, remove_unfinished
from pipeline.pet.derived_files import describe_dataset
from pipeline.simulation.low_dose import DoseMode, check_dose_mode, check_dose_reduction_factors
from pipeline.simulation.patient.tracers.fdg import FDG
from pipeline.simulation.patient.uptake import Tracer
from pipeline.simulation.scanner.presets import GENERIC
from pipeline.simulation.scanner.scanner import Scanner
from pipeline.simulation.subject import DEFAULT_DOSE_REDUCTION_FACTORS, simulate_subject
from pipeline.simulation.subject_folder import is_complete, subject_request, write_subject

__all__ = ["CohortRequest", "simulate_cohort", "simulate_cohorts", "subject_seed"]

logger = logging.getLogger(__name__)

_NOT_BIDS = (
    *(".lock", "*dicom*", "*_desc-truth_pet.*", "*_desc-lesions_mask.nii.gz", "*_desc-organs_dseg.nii.gz"),
    *("*_desc-attenuation_map.nii.gz", "*_lesions.tsv", "*_lesions.json", "*_simulation.json"),
)
"""Files of a subject that BIDS has no place for in a raw data set."""


def subject_seed(seed: int, index: int) -> int:
    """Return the seed of the index-th subject (from 0) of a cohort: a longer cohort begins with the shorter one."""
    return int(np.random.SeedSequence(seed, spawn_key=(index,)).generate_state(1, np.uint32)[0])


@dataclass(frozen=True)
class CohortRequest:
    """Subjects ``sub-0001``, ``sub-0002``, ... to be simulated into a folder; arguments as in `simulate_subject`."""

    folder: Path
    """Made if need be."""
    n_subjects: int
    """A longer cohort of the same seed begins with the shorter one."""
    seed: int
    scanner: Scanner = GENERIC
    tracer: Tracer = FDG
    dose_reduction_factors: Sequence[float] = DEFAULT_DOSE_REDUCTION_FACTORS
    dose_mode: DoseMode = "shorter_scan"
    n_lesions: int | None = None
    axial_extent: float | None = None
    references: bool = True
    dicom: bool = False
    """Whether each image is also written as a DICOM series."""

    def tasks(self, device: str | None) -> list[_Task]:
        """Return one task for each subject; refuse what cannot be simulated."""
        if self.n_subjects < 1 or self.seed < 0:
            raise PETError(f"n_subjects {self.n_subjects}, seed {self.seed}: expected at least 1 and 0")
        check_dose_mode(self.dose_mode)
        options = {
            "scanner": self.scanner,
            "tracer": self.tracer,
            "dose_reduction_factors": check_dose_reduction_factors(self.dose_reduction_factors),
            "dose_mode": self.dose_mode,
            "n_lesions": self.n_lesions,
            "axial_extent": self.axial_extent,
            "references": self.references,
        }
        return [
            _Task(
                self.folder / f"sub-{index + 1:04d}", subject_seed(self.seed, index), options, self.dicom, device=device
            )
            for index in range(self.n_subjects)
        ]


@dataclass(frozen=True)
class _Task:
    """One subject to simulate; picklable."""

    folder: Path
    seed: int
    options: Mapping[str, Any]
    """What fixes the subject's bytes beside its seed, see `subject_request`."""
    dicom: bool
    device: str | None

    def is_done(self) -> bool:
        """Return whether the subject is there; refuse one that was made otherwise."""
        return is_complete(self.folder, subject_request(seed=self.seed, **self.options), dicom=self.dicom)

    def __call__(self) -> None:
        """Simulate and write the subject."""
        write_subject(simulate_subject(self.seed, **self.options, device=self.device), self.folder, dicom=self.dicom)


def simulate_cohort(
    folder: str | Path,
    *,
    n_subjects: int,
    seed: int,
    scanner: Scanner = GENERIC,
    tracer: Tracer = FDG,
    dose_reduction_factors: Sequence[float] = DEFAULT_DOSE_REDUCTION_FACTORS,
    dose_mode: DoseMode = "shorter_scan",
    n_lesions: int | None = None,
    axial_extent: float | None = None,
    references: bool = True,
    dicom: bool = False,
    jobs: Workers | int = 1,
    device: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> list[Path]:
    """Simulate subjects ``sub-0001``, ``sub-0002``, ... into a folder; those already there are kept.

    An interrupted or killed cohort goes on where it stopped: a subject's folder gets its name once it is complete,
    and the next run removes what is not. Of two runs at once, the second waits for the first.

    The folder is made if need be. A longer cohort of the same seed begins with the shorter one. With `dicom` each image
    is also written as a DICOM series. `jobs` is the number of processes. `progress` is called with the number of
    finished subjects and of all, after each and for those kept. The other arguments are those of `simulate_subject`.
    The result is the subjects' folders.

    Raises
    ------
    PETError
        If an argument is out of range, or a subject is there that was made with other parameters.
    """
    request = CohortRequest(
        Path(folder),
        n_subjects=n_subjects,
        seed=seed,
        scanner=scanner,
        tracer=tracer,
        dose_reduction_factors=dose_reduction_factors,
        dose_mode=dose_mode,
        n_lesions=n_lesions,
        axial_extent=axial_extent,
        references=references,
        dicom=dicom,
    )
    return simulate_cohorts([request], jobs=jobs, device=device, progress=progress)[0]


def simulate_cohorts(
    cohorts: Sequence[CohortRequest],
    *,
    jobs: Workers | int = 1,
    device: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> list[list[Path]]:
    """Simulate what is missing of several cohorts, all of their subjects in the same processes.

    Otherwise as `simulate_cohort`, which is one of them. The result is the subjects' folders of each cohort.
    """
    workers = Workers.of(jobs)
    of_cohorts = [cohort.tasks(device) for cohort in cohorts]
    n_subjects = sum(map(len, of_cohorts))
    with ExitStack() as locks:
        for cohort in sorted(cohorts, key=lambda cohort: cohort.folder):  # or two runs might wait for each other
            locks.enter_context(locked_folder(cohort.folder, "simulating into it", wait=True))
            remove_unfinished(cohort.folder)
            describe_dataset(cohort.folder, name="Simulated whole-body PET", kind="raw", ignored=_NOT_BIDS)
        missing = [task for tasks in of_cohorts for task in tasks if not task.is_done()]
        n_done = n_subjects - len(missing)
        for kept in range(n_done):
            if progress is not None:
                progress(kept + 1, n_subjects)
        if missing:
            logger.info("simulating %d of %d subjects", len(missing), n_subjects)
        for index, _ in run_tasks(missing, where=workers):
            n_done += 1
            logger.info("%s: done, %d of %d subjects", missing[index].folder, n_done, n_subjects)
            if progress is not None:
                progress(n_done, n_subjects)
    return [[task.folder for task in tasks] for tasks in of_cohorts]
