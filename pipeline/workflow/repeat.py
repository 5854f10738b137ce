"""The scan repeated by physics on its way through the main job: how often, where, and what is written of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PETError, line_for_user
from pipeline.pet import PETSeries
from pipeline.pet.nifti import write_nifti
from pipeline.simulation import GENERIC, Scanner
from pipeline.simulation.ct import attenuation_of_series
from pipeline.tables import write_scan_table
from pipeline.trust import REPEAT_COLUMNS, Repeats, burden_changes, repeat_scan, repeatable_scan
from pipeline.workflow.places import ResultFiles
from pipeline.workflow.region_rule import ScanRegions

if TYPE_CHECKING:
    from pipeline.inference import Denoiser

__all__ = ["RepeatRule", "repeats_of", "write_repeats"]


@dataclass(frozen=True, kw_only=True)
class RepeatRule:
    """How a scan is repeated.

    Raises
    ------
    PETError
        If there are fewer than two repeats, or more than 1000.
    """

    n: int
    """Number of repeats."""
    seed: int = 0
    """The same seed, scan and method give the same repeats."""
    scanner: Scanner = field(default_factory=lambda: GENERIC)
    """What the scan was made with, or what is nearest."""
    ct: Path | None = None
    """CT of the examination, for the attenuation; without it the body counts as water."""
    maps: bool = False
    """Whether volumes of the voxels' corrected value, SD and limits are written."""
    device: str | None = None
    """Where reconstructions run: None is numpy, otherwise a torch device."""

    def __post_init__(self) -> None:
        if not 2 <= self.n <= 1000:
            raise PETError(f"{self.n} repeats, expected 2 to 1000")

    def attenuation_of(self, scan: PETSeries) -> NDArray[np.floating] | None:
        """Return the attenuation that the CT says [1/mm], of the scan's shape (X, Y, Z); None without a CT.

        Raises
        ------
        PETError
            The CT cannot be read or does not fit.
        """
        return None if self.ct is None else attenuation_of_series(self.ct, scan)

    def record(self, *, repeated: bool) -> dict[str, Any]:
        """Return what a run record has to say of the repeats."""
        by = {"n": self.n if repeated else 0, "seed": self.seed, "scanner": self.scanner.name}
        return {"repeats": by | {"attenuation": "water in the body" if self.ct is None else "CT"}}


def repeats_of(
    before: PETSeries,
    after: PETSeries,
    denoiser: "Denoiser",
    rule: RepeatRule,
    drawn: ScanRegions,
    *,
    attenuation: NDArray[np.floating] | None = None,
    on_step: Callable[[str], None],
) -> tuple[Repeats | None, str]:
    """Return the repeats of a scan, or None and in one line why it could not be repeated.

    `after` is the scan `before` as the denoiser made it, and `drawn` are the regions of both. Where a rule drew them,
    it draws anew in every repeat: `Repeats.changes` are those of the burden, see `burden_changes`. `attenuation` is
    what `RepeatRule.attenuation_of` says; None takes the body for water. `on_step` is told how far it is and how long
    it takes.

    Raises
    ------
    PETError
        The denoiser refuses a repeat.
    """
    on_step("fitting a scanner to the scan")
    try:
        scan = repeatable_scan(
            before, after, seed=rule.seed, preset=rule.scanner, attenuation=attenuation, device=rule.device
        )
    except PETError as error:
        return None, line_for_user(error) or str(error)
    begun = time.monotonic()

    def told(done: int) -> None:
        left = (time.monotonic() - begun) / done * (rule.n - done)
        on_step(f"repeated {done} of {rule.n} times, {left:.0f} s left")

    def change(noisy: NDArray[np.floating], again: NDArray[np.floating]) -> tuple[float, float, float]:
        return burden_changes(noisy, again, rule=drawn.rule, regions=drawn.regions, voxel_size=before.voxel_size)

    on_step(f"repeated 0 of {rule.n} times")
    repeats = repeat_scan(
        scan,
        rule.n,
        seed=rule.seed,
        denoise=denoiser,
        labels=drawn.regions.labels if drawn.regions.n_regions else None,
        outline=drawn.outline,
        change=change,
        on_repeat=told,
    )
    return repeats, ""


def write_repeats(repeats: Repeats, files: ResultFiles, *, after: PETSeries, maps: bool) -> None:
    """Write ``repeats.tsv``, a row per region and quantity, and, if asked, volumes of what each voxel is worth.

    These are ``NAME_desc-corrected_pet.nii.gz``, the denoised scan less its bias, ``NAME_desc-repeatsd_pet.nii.gz``,
    the standard deviation of the denoised repeats, and ``NAME_desc-lower95_pet.nii.gz`` and ``...-upper95_...``.

    Raises
    ------
    PETError
        If a file cannot be written.
    """
    if repeats.regions is not None:
        table = repeats.regions.table()
        write_scan_table(table, files.file("repeats.tsv"), scan=files.scan, columns=REPEAT_COLUMNS)
    if not maps or repeats.denoised is None:
        return
    voxels = repeats.denoised
    lower, upper = voxels.limits()
    of_repeats = f"of {voxels.n} simulated repeats of the scan"
    for part, image, meaning in (
        ("corrected", voxels.corrected, f"Denoised PET less its bias, the mean {of_repeats}"),
        ("repeatsd", voxels.sd, f"Standard deviation {of_repeats}, denoised"),
        ("lower95", lower, f"Lower 95 % limit of the denoised PET by the spread {of_repeats}"),
        ("upper95", upper, f"Upper 95 % limit of the denoised PET by the spread {of_repeats}"),
    ):
        series = after.with_suv(image, note=f"{meaning}.")
        write_nifti(series, files.volume(part), extra={"Description": meaning, "SkullStripped": False})
