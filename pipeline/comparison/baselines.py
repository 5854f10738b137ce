"""What a network has to beat: the noisy input, and every filter with its best setting for each scanner and dose."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipeline.comparison.cases import Case, doses_of, scanner_of
from pipeline.comparison.filters import FILTERS, root_noise
from pipeline.evaluation import PEAK_SUV
from pipeline.pet import PETSeries

__all__ = ["COMPETITORS", "DEFAULT_FILTERS", "Competitors", "Setting", "best_setting", "tune_competitors"]

COMPETITORS = ("input", *FILTERS)
"""Names of the competitors in the measurements, the noisy input first."""

DEFAULT_FILTERS = ("gaussian", "nonlocal_means")

_N_SLABS = 4
_SLAB = 16  # planes, or a sixteenth of the scan where that is more
_FEWEST_PLANES = 96  # a scan of fewer is taken whole


@dataclass(frozen=True)
class Setting:
    """A filter's setting for one scan."""

    value: float
    """Width [mm] or strength."""
    chosen_on: str
    """``other subjects`` of the same scanner, or ``this scan``, which favours the filter."""


@dataclass(frozen=True, kw_only=True)
class Competitors:
    """Filters, and the settings that were chosen on other subjects, if any."""

    filters: tuple[str, ...] = DEFAULT_FILTERS
    """Names in FILTERS."""
    tuned: Mapping[tuple[str, str, float], float] = field(default_factory=dict)
    """(Filter, scanner and voxels, dose reduction factor) -> setting. What is not in it is chosen for each scan."""

    def setting(self, name: str, factor: float, low: PETSeries, full: PETSeries, *, near: float | None) -> Setting:
        """Return the setting of a filter for a scan.

        Without one from other subjects of the same scanner, voxels and dose it is the best for this very scan against
        its full dose, which can only favour the filter. `near` is where the search begins, such as the best at
        another dose.
        """
        tuned = self.tuned.get((name, scanner_of(low), factor))
        if tuned is not None:
            return Setting(tuned, "other subjects")
        return Setting(best_setting(name, [(low, full)], near=near), "this scan")


def tune_competitors(
    cases: Sequence[Case],
    *,
    filters: Sequence[str] = DEFAULT_FILTERS,
    factors: Sequence[float] | None = None,
    on_dose: Callable[[float], None] = lambda factor: None,
) -> Competitors:
    """Return the settings with the highest mean PSNR against full dose, for each scanner, its voxels, and each dose.

    Give it other subjects than those measured on. `factors` are the dose reduction factors to tune for, by default all
    that a subject has; `on_dose` is told each one when it is done.

    Raises
    ------
    PETError
        If an image cannot be read.
    """
    tuned: dict[tuple[str, str, float], float] = {}
    groups = defaultdict(list)
    for case in cases:
        groups[scanner_of(case.full_dose())].append(case)
    for factor in doses_of(cases) if factors is None else sorted(factors):
        for scanner, members in groups.items():
            having = [case for case in members if factor in case.doses]
            pairs = [(case.read(case.doses[factor]), case.full_dose()) for case in having]
            for name in filters if pairs else ():
                last = max((f for n, s, f in tuned if (n, s) == (name, scanner)), default=None)
                near = None if last is None else tuned[name, scanner, last]
                tuned[name, scanner, factor] = best_setting(name, pairs, near=near)
        on_dose(factor)
    return Competitors(filters=tuple(filters), tuned=tuned)


def best_setting(
    name: str,
    pairs: Sequence[tuple[PETSeries, PETSeries]],
    *,
    near: float | None = None,
    candidates: Sequence[float] | None = None,
) -> float:
    """Return the setting of a filter with the highest mean PSNR over given scans; a tie goes to the weakest.

    `pairs` holds (noisy, reference) of each. A scan of many planes is judged on four slabs of 16 planes or more, one in
    the middle of each fourth, with the noise of the whole scan. The search climbs from `near`, by default the middle of
    the `candidates`, by default the filter's own: the curve has one peak.

    Raises
    ------
    ValueError
        No pairs or no candidates.
    """
    chosen = FILTERS[name]
    settings = sorted(chosen.candidates if candidates is None else candidates)
    if not (pairs and settings):
        raise ValueError("best_setting: no pairs or no candidates to choose from")
    samples = [(_slabs(low.suv), _slabs(full.suv), low.voxel_size) for low, full in pairs]
    noises = [root_noise(low.suv, voxel_size=low.voxel_size) for low, _ in pairs]

    @cache
    def score(i: int) -> float:
        return float(
            np.mean(
                [
                    _psnr([chosen.apply(slab, settings[i], size, noise) for slab in noisy], full)
                    for (noisy, full, size), noise in zip(samples, noises, strict=True)
                ]
            )
        )

    best, previous = len(settings) // 2 if near is None else int(np.searchsorted(settings, near)), -1
    best = min(best, len(settings) - 1)
    while best != previous:
        previous = best
        best = max(range(max(best - 1, 0), min(best + 2, len(settings))), key=score)
    return float(settings[best])


def _slabs(suv: NDArray[np.floating]) -> list[NDArray[np.floating]]:
    """Return slabs of an image (X, Y, Z) that stand for the whole."""
    n_planes = suv.shape[2]
    if n_planes < _FEWEST_PLANES:
        return [suv]
    thick = max(_SLAB, n_planes // 16)
    starts = ((np.arange(_N_SLABS) + 0.5) / _N_SLABS * n_planes - thick / 2).round().astype(int)
    return [suv[..., start : start + thick] for start in starts]


def _psnr(images: Sequence[NDArray[np.floating]], references: Sequence[NDArray[np.floating]]) -> float:
    """Return the PSNR over all of the slabs together [dB]."""
    squares = [np.square(x.astype(np.float64) - y) for x, y in zip(images, references, strict=True)]
    mse = sum(float(s.sum()) for s in squares) / sum(s.size for s in squares)
    return float("inf") if mse == 0 else float(10 * np.log10(PEAK_SUV**2 / mse))
