"""Denoise every scan of a cohort, once, and remember each; killed at any moment, the next run goes on."""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from pipeline.cohort.plan import CohortPlan, plan_of
from pipeline.cohort.scans import Scans
from pipeline.cohort.status import CohortStatus, cohort_status, index_of, states_of, write_index
from pipeline.cohort.summary import write_summary
from pipeline.engine import Failure, Workers, run_tasks
from pipeline.errors import PETError, one_line
from pipeline.files import locked_folder
from pipeline.inference import Denoiser, DenoiserRecipe
from pipeline.pet.derived_files import bids_stem
from pipeline.workflow.places import Layout, places_in
from pipeline.workflow.scan_state import STATES
from pipeline.workflow.scan_task import DenoiseOptions, ScanOutcome, ScanTask, identity_of

__all__ = ["CohortRun", "Part", "check_all_denoised"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """One of several parts of a cohort, such as of a job array.

    Raises
    ------
    PETError
        The number is not one of 1 to how many there are.
    """

    number: int
    """1 to `of`."""
    of: int
    """How many parts there are; of the scans in the order of their names each takes every `of`-th."""

    whole: ClassVar["Part"]

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise PETError(f"part {self.number}/{self.of}, expected such as 1/4 to 4/4")

    @classmethod
    def read(cls, text: str) -> "Part":
        """Return the part that a text such as ``2/4`` names; raise PETError if it names none."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if found is None:
            raise PETError(f"part {text!r}, expected such as 1/4 to 4/4")
        return cls(int(found[1]), int(found[2]))


Part.whole = Part(1, 1)


@dataclass(frozen=True, kw_only=True)
class _Ready:
    """A denoiser that was made already, for runs in this process."""

    denoiser: Denoiser

    def __call__(self) -> Denoiser:
        return self.denoiser


class CohortRun:
    """Denoise every scan as `denoise_scan` does, into a folder of its own, ``OUTPUT/NAME``, or into one BIDS data set.

    In a data set the files of a scan lie in ``OUTPUT/sub-*/[ses-*/]pet``, and all of their names begin with the scan's.
    What is there already is kept if source, method, weights and options are the same, and made anew otherwise, so that
    an interrupted run goes on. A scan that cannot be denoised does not stop the others. A scan whose name belongs to
    another scan is named apart by a digest of its voxels.

    Parameters
    ----------
    scans
        The scans, and where the results go.
    denoiser
        The method, or how it is made: that can be sent to workers.
    series
        What of each scan :func:`pipeline.read_pet` reads.
    options
        The same for every scan.
    layout
        ``"folders"`` or ``"bids"``.
    where
        Workers; one job runs in this process.
    part
        Which of the scans are denoised, where several processes or machines share them.
    retry_failed
        Whether scans that failed are tried again although nothing of theirs has changed.
    has_summary
        Whether tables and page of all scans are written when none is left.
    shared
        Whether other runs may work in the folder at the same time, as those of a BIDS app do, a participant each: then
        each scan is locked alone.
    on_step
        Is told each step of each scan as it starts, where all runs in this process.
    """

    def __init__(
        self,
        scans: Scans,
        denoiser: Denoiser | DenoiserRecipe,
        *,
        series: str | int | None = None,
        options: DenoiseOptions | None = None,
        layout: Layout = "folders",
        where: Workers | int = 1,
        part: Part = Part.whole,
        retry_failed: bool = False,
        has_summary: bool = True,
        shared: bool = False,
        on_step: Callable[[Path, str], None] | None = None,
    ) -> None:
        self.scans = scans
        self.denoiser = denoiser
        self.output_dir = scans.output_dir
        self.places = places_in(scans.output_dir, layout)
        self.series = series
        self.options = options or DenoiseOptions()
        self.layout: Layout = layout
        self.where = Workers.of(where)
        if isinstance(denoiser, Denoiser) and (self.where.jobs > 1 or self.where.elsewhere):
            raise ValueError("workers need a DenoiserRecipe, for they make the denoiser themselves")
        self.part = part
        self.retry_failed = retry_failed
        self.has_summary = has_summary
        self.shared = shared
        self.on_step = on_step

    def run(self) -> None:
        """Denoise what is not there yet, and log what becomes of each scan.

        Raises
        ------
        PETError
            If there is no scan, the output cannot be used, or, in the end, if scans were left out.
        """
        refused, n = [], 0
        for outcome in self.outcomes():
            n += 1
            name = one_line(str(outcome.scan.path))
            if outcome.files is None:
                refused.append(outcome.refusal)
                logger.warning("left out: %s", outcome.refusal)
            elif outcome.status == "there":
                logger.info("%s: is there already", name)
            else:
                for warning in outcome.files.record()["warnings"]:
                    logger.warning("%s: %s", name, warning)
                logger.info("%s: %s in %s", name, outcome.status, outcome.files.folder.relative_to(self.output_dir))
        check_all_denoised(refused, n)

    @property
    def n_scans(self) -> int:
        """Return how many scans the part has."""
        return len(self._part_of(self._tasks))

    def plan(self) -> tuple[list[ScanOutcome], CohortPlan]:
        """Return what is known already, and what the other scans need; nothing is done.

        Raises
        ------
        PETError
            If there is no scan, the output cannot be used, or disk or memory do not suffice.
        """
        self.places.check()
        known, pending = self._known()
        scans = [task.scan for task in pending]
        return known, plan_of(scans, self.output_dir, options=self.options, where=self.where)

    def outcomes(self) -> Iterator[ScanOutcome]:
        """Denoise what is not there yet, and yield what became of each scan of the part: first what is known already.

        Raises
        ------
        PETError
            If there is no scan, the output cannot be used, disk or memory do not suffice, or another run is at it.
        """
        tasks = self._tasks  # which may be refused, before anything is written
        self.places.check()
        with self._locked():
            index = index_of([task.scan for task in tasks], made=self._made, layout=self.layout, facts=self._facts)
            if self.has_summary:
                write_index(self.output_dir, index)
            known, pending = self._known()
            yield from known
            scans = [task.scan for task in pending]
            plan = plan_of(scans, self.output_dir, options=self.options, where=self.where)
            yield from self._denoised(pending, plan.workers)
            if self.has_summary and (self.part == Part.whole or not _is_going_on(self.output_dir)):
                write_summary(self.output_dir)

    def summarise(self) -> CohortStatus:
        """Write tables and page of what is done of the scans, denoise nothing, and return how far the cohort is.

        Raises
        ------
        PETError
            If there is no scan, the output cannot be used, or nothing is done by this method with these options.
        """
        scans = [task.scan for task in self._tasks]
        self.places.check()
        index = index_of(scans, made=self._made, layout=self.layout, facts=self._facts)
        if not any(states_of(self.output_dir, index).values()):
            raise PETError(f"{self.output_dir}: holds no result of {self._ready.method} for these {len(scans)} scans")
        write_index(self.output_dir, index)
        write_summary(self.output_dir)
        return cohort_status(self.output_dir)

    def _denoised(self, tasks: Sequence[ScanTask], workers: Workers) -> Iterator[ScanOutcome]:
        left = len(tasks)
        for index, found in run_tasks(tasks, where=workers, keep_going=True):
            outcome = tasks[index].fail(found.reason) if isinstance(found, Failure) else found
            if outcome.status == "no room":
                expected = "expected room, and the same command again"
                raise PETError(f"{outcome.refusal}, {left} scans are left, {expected}")
            left -= 1
            yield outcome

    @cached_property
    def _ready(self) -> Denoiser:
        return self.denoiser() if isinstance(self.denoiser, DenoiserRecipe) else self.denoiser

    @cached_property
    def _made(self) -> str:
        return identity_of(self._ready, self.options)

    @property
    def _facts(self) -> dict[str, object]:
        return self._ready.identity | {"options": self.options.record()}

    @cached_property
    def _tasks(self) -> list[ScanTask]:
        """The tasks of all scans; of those of one name the first may take it."""
        named: set[str] = set()
        tasks = []
        denoiser = self.denoiser if isinstance(self.denoiser, DenoiserRecipe) else _Ready(denoiser=self.denoiser)
        for scan in self.scans:
            stem = bids_stem(scan.path)
            tasks.append(
                ScanTask(
                    scan=scan,
                    output_dir=self.output_dir,
                    layout=self.layout,
                    denoiser=denoiser,
                    options=self.options,
                    made=self._made,
                    series=self.series,
                    takes_name=stem not in named,
                )
            )
            named |= {stem} - {""}
        return tasks

    def _part_of(self, tasks: list[ScanTask]) -> list[ScanTask]:
        if self.part == Part.whole:
            return tasks
        return sorted(tasks, key=lambda task: task.scan.name)[self.part.number - 1 :: self.part.of]

    def _known(self) -> tuple[list[ScanOutcome], list[ScanTask]]:
        """Return what is known of the scans of this part, and the tasks of the others."""
        tasks = self._part_of(self._tasks)
        found = {task.scan.key: task.known(retry_failed=self.retry_failed) for task in tasks}
        known = [outcome for outcome in found.values() if outcome is not None]
        alone = self.where.jobs == 1 and not self.where.elsewhere
        left = [task for task in tasks if found[task.scan.key] is None]
        return known, [replace(task, on_step=self.on_step if alone else None) for task in left]

    def _locked(self) -> AbstractContextManager[object]:
        if self.shared:
            return nullcontext()
        if self.part == Part.whole:
            return locked_folder(self.output_dir, "denoising into it")
        part = f"part-{self.part.number}-of-{self.part.of}"
        return locked_folder(self.output_dir / STATES / part, "denoising this part")


def _is_going_on(output_dir: Path) -> bool:
    status = cohort_status(output_dir)
    return status.running + status.pending > 0


def check_all_denoised(refused: Sequence[str], n_scans: int) -> None:
    """Raise a `PETError` if scans were left out, which says how many, and why the first."""
    if refused:
        raise PETError(f"{len(refused)} of {n_scans} scans were left out, the first because of: {refused[0]}")
