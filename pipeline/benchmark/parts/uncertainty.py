"""The part on uncertainty: how often stated intervals hold the truth, per tissue and for means of lesions.

Every method gets intervals from what it took away: the local root mean square of noisy minus denoised. A method that
can be drawn from, or an ensemble, gets intervals from its draws as well. Factors that mend both are fitted on other
subjects. The truth is the noise-free reconstruction.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from pipeline.benchmark.definition import Uncertainty
from pipeline.benchmark.work import Piece, Tables, Work
from pipeline.comparison import Case, Method, check_other_cases, state_of, with_dose
from pipeline.comparison.reference import Reference, reference_of
from pipeline.errors import PETError, UndefinedMeasureError
from pipeline.evaluation import (
    NOMINAL_LEVELS,
    coverage,
    half_width,
    mean_and_sd,
    miscalibration_area,
    region_means,
    scale_factor,
    standardised_errors,
)
from pipeline.images import gaussian_filter_mm
from pipeline.inference import Denoiser, SamplingInferer
from pipeline.inference.streaming.inferer import InfererAround
from pipeline.pet import PETSeries
from pipeline.pet.volumes import read_labels_on
from pipeline.simulation import ORGAN_LABELS

__all__ = ["INTERVALS", "Draws", "Ensemble", "draws_of", "uncertainty"]

INTERVALS = ("as stated", "one factor", "factor of the region", "quantiles of the region")
"""What is made of a stated SD: nothing; times one factor, fitted to all of the body; times that of the region; times a
factor for every nominal level, which is conformal prediction."""

_TISSUES = {"liver": "liver", "lung": "lung", "muscle": "soft_tissue", "bone": "bone", "brain": "brain"}
_FWHM = 12.0  # [mm] of the Gaussian that averages squares: some hundred voxels
_N_KEPT = 400  # evenly ranked errors of a region's voxels: coverage to a quarter of a percent
_N_RANKED = 20_000  # voxels of a region that correlations are taken of
_LEVELS = tuple(sorted({*NOMINAL_LEVELS, *np.linspace(0.05, 0.95, 19).round(2).tolist()}))
"""Of the calibration curve."""


@runtime_checkable
class Draws(Protocol):
    """A method whose result is the mean of draws."""

    def draws(self, series: PETSeries) -> Sequence[PETSeries]:
        """Return at least two draws of what the full dose may have been."""


@dataclass(frozen=True)
class Ensemble:
    """Methods of one kind with other seeds: their mean, and how far they lie apart."""

    members: tuple[Method, ...]

    def __post_init__(self) -> None:
        if len(self.members) < 2:
            raise ValueError(f"an ensemble of {len(self.members)}, expected at least 2 members")

    def draws(self, series: PETSeries) -> Sequence[PETSeries]:
        """Return what each member makes of a scan."""
        return [member(series) for member in self.members]

    def __call__(self, series: PETSeries) -> PETSeries:
        """Return the mean of the members' results."""
        mean, _ = mean_and_sd([drawn.suv for drawn in self.draws(series)])
        return series.with_suv(mean.astype(np.float32))

    def at_dose(self, factor: float) -> "Ensemble":
        """Return the ensemble of the members for scans of a dose reduction factor."""
        return Ensemble(tuple(with_dose(member, factor) for member in self.members))


def draws_of(method: Method, series: PETSeries, *, n_draws: int) -> list[PETSeries]:
    """Return independent draws of a method for a scan, none if it cannot be drawn from.

    An ensemble has as many as members, whatever `n_draws` is. A denoiser whose inferer samples is run once for each
    seed 0, 1, ..., with one sample each and conservation around it, so that means of regions can be taken of each.
    """
    if isinstance(method, Draws):
        return list(method.draws(series))
    if not isinstance(method, Denoiser) or (first := _seeded(method.inferer, 0)) is None or n_draws < 2:
        return []
    inferers = [first, *(_seeded(method.inferer, seed) for seed in range(1, n_draws))]
    return [replace(method, inferer=inferer)(series) for inferer in inferers]


def _seeded(inferer: Any, seed: int) -> Any:
    """Return an inferer that takes one sample of this seed; None if it does not sample."""
    changed = copy(inferer)
    if isinstance(inferer, SamplingInferer):
        changed.seed, changed.n_samples = seed, 1
        return changed
    if isinstance(inferer, InfererAround) and (inner := _seeded(inferer.inferer, seed)) is not None:
        changed.inferer = inner
        return changed
    return None


def uncertainty(name: str, method: Method, work: Work) -> Tables:
    """Measure the coverage of a method's intervals.

    The table ``coverage`` has a row per subject, dose, region, origin of the SD (residual, draws) and one of
    `INTERVALS`: number of voxels or lesions ``n``, ``coverage_50`` and so on, and ``half_width_95`` [g/mL], the mean
    half width of the intervals of 95 %. Those as stated have also ``rank_correlation``, Spearman's, of SD and absolute
    error.
    The table ``calibration`` has a row per dose (None for all), region, origin and intervals, all subjects together,
    each with the same weight: the calibration curve from ``coverage_5`` to ``coverage_95``, ``miscalibration_area``
    and the ``factor``. ``summary`` is a part of it: body, liver and lesions over all doses, before and after a factor,
    of draws where there are any.
    """
    settings = work.definition.uncertainty
    if settings is None:
        return {}
    fitting, testing = work.cases(settings.fitting), work.cases(settings.testing)
    check_other_cases(testing, fitting)
    of = partial(_errors, name, method, work, settings)
    fitted, tested = of(fitting, "fitting"), of(testing, "testing")
    factors = _factors(fitted, _pooled(tested))
    rows = [row for found in tested for row in _rows_of_scan(found, factors)]
    calibration = _calibration(tested, factors)
    return {"coverage": rows, "calibration": calibration, "summary": _shortened(calibration)}


def _errors(
    name: str, method: Method, work: Work, settings: Uncertainty, cases: Sequence[Case], purpose: str
) -> list[dict[str, Any]]:
    """Return what `_errors_of_scan` finds in every scan of the subjects."""
    pieces = {
        f"uncertainty_{purpose}_{case.name}_drf{factor:g}": Piece(
            depends=[*state_of(case), settings.n_draws],
            make=partial(_errors_of_scan, method, case, factor, n_draws=settings.n_draws),
        )
        for case in cases
        for factor in case.doses
    }
    return work.tables(name, pieces, code=("benchmark/parts/uncertainty",)).get("errors", [])


def _errors_of_scan(method: Method, case: Case, factor: float, *, n_draws: int) -> Tables:
    """Return a row per region and origin of the SD, with errors in units of the SD.

    Errors of voxels are evenly ranked ones of all, those of lesions are one for each.
    """
    reference, low = reference_of(case), case.read(case.doses[factor])
    if reference.truth != "noise_free":
        raise PETError(f"{case.name}: has no noise-free image, expected one to judge intervals by")
    told = with_dose(method, factor)
    drawn = [draw.suv for draw in draws_of(told, low, n_draws=n_draws)]
    mean, sd = mean_and_sd(drawn) if drawn else (np.asarray(told(low).suv, dtype=np.float64), None)
    local = np.sqrt(gaussian_filter_mm((low.suv - mean) ** 2, fwhm=_FWHM, voxel_size=low.voxel_size))
    truth = reference.images["noise_free"].suv
    regions = _regions(case, reference)
    maps = {"residual": local} | ({} if sd is None else {"draws": sd})
    rows = []
    for origin, deviation in maps.items():
        n = len(drawn) if origin == "draws" else None
        which = {"subject": case.name, "dose_reduction_factor": factor, "origin": origin, "n_draws": n}
        for region, mask in regions.items():
            inside = mean[mask], deviation[mask], truth[mask]
            rows.append({**which, "region": region, **_summary(*inside, kept=_N_KEPT)})
        if reference.lesions.any():
            labels = _numbered(reference.lesions)
            # The SD of a mean is that of the draws' means. Without draws the mean SD stands for it, which is too large
            # by as much as noise averages out: the fitted factor says by how much.
            means = region_means(mean, labels), region_means(deviation, labels)
            if origin == "draws":
                means = mean_and_sd([region_means(draw, labels) for draw in drawn])
            found = _summary(*means, region_means(truth, labels), kept=None)
            rows.append({**which, "region": "lesions", **found})
    return {"errors": rows}


def _summary(
    mean: NDArray[np.floating], sd: NDArray[np.floating], truth: NDArray[np.floating], *, kept: int | None
) -> dict[str, Any]:
    errors = np.sort(standardised_errors(mean, sd, truth))
    n = errors.size
    if kept is not None and n > kept:
        errors = errors[((np.arange(kept) + 0.5) / kept * n).astype(int)]
    step = max(1, n // _N_RANKED)
    ranked = np.asarray(sd)[::step], np.abs(mean - truth)[::step]
    is_ranked = n > 2 and all(np.ptp(values) > 0 for values in ranked)
    return {
        "n": n,
        "mean_sd": float(np.mean(sd)),
        "rms_error": float(np.sqrt(np.mean((mean - truth) ** 2))),
        "rank_correlation": float(spearmanr(*ranked).statistic) if is_ranked else None,
        # JSON has no infinity.
        "errors": [float(f"{min(error, 1e6):.5g}") for error in errors],
    }


def _regions(case: Case, reference: Reference) -> dict[str, NDArray[np.bool_]]:
    """Return where voxels are looked at, by name: the body, and tissues without lesions."""
    regions = {"body": reference.body}
    if case.subject.organs is not None:
        labels = read_labels_on(case.root / case.subject.organs.path, reference.images["full"].grid)
        outside = reference.lesions == 0
        regions |= {name: (labels == ORGAN_LABELS[label]) & outside for name, label in _TISSUES.items()}
    return {name: mask for name, mask in regions.items() if mask.any()}


def _numbered(lesions: NDArray[np.integer]) -> NDArray[np.intp]:
    """Return labels 1..n in which none is missing: a lesion may lie outside of what was scanned."""
    _, numbers = np.unique(lesions, return_inverse=True)
    return numbers.reshape(lesions.shape) + (0 if (lesions == 0).any() else 1)


Key = tuple[str, str]
"""Origin of the SD, and region."""

Factors = dict[tuple[Key, str], dict[float, float]]
"""What an SD is multiplied by, for every nominal level, by key and kind of intervals."""


def _pooled(found: Sequence[Mapping[str, Any]]) -> dict[Key, tuple[NDArray[np.float64], int | None]]:
    """Return the errors of all scans by origin and region, and the number of draws."""
    keys = dict.fromkeys((row["origin"], row["region"]) for row in found)
    rows = {key: [row for row in found if (row["origin"], row["region"]) == key] for key in keys}
    return {key: (np.concatenate([row["errors"] for row in of]), of[0]["n_draws"]) for key, of in rows.items()}


def _factors(fitted: Sequence[Mapping[str, Any]], keys: Iterable[Key]) -> Factors:
    """Return what the SD is multiplied by; kinds of intervals that cannot be fitted are left out."""
    pooled = _pooled(fitted)
    factors: Factors = {}
    for key in keys:
        factors[key, INTERVALS[0]] = dict.fromkeys(_LEVELS, 1.0)
        # A region may be in no subject that is fitted on, or have too few lesions there for the level.
        with suppress(UndefinedMeasureError, KeyError):
            errors, n_draws = pooled[key[0], "body"]
            factors[key, INTERVALS[1]] = dict.fromkeys(_LEVELS, scale_factor(errors, n_draws=n_draws))
            errors, n_draws = pooled[key]
            factors[key, INTERVALS[2]] = dict.fromkeys(_LEVELS, scale_factor(errors, n_draws=n_draws))
            factors[key, INTERVALS[3]] = {p: scale_factor(errors, level=p, n_draws=n_draws) for p in _LEVELS}
    return factors


def _rows_of_scan(found: Mapping[str, Any], factors: Factors) -> list[dict[str, Any]]:
    key, errors, n_draws = (found["origin"], found["region"]), np.array(found["errors"]), found["n_draws"]
    rows = []
    for intervals in INTERVALS:
        of_level = factors.get((key, intervals))
        if of_level is None:
            continue
        row = {k: v for k, v in found.items() if k not in ("errors", "rank_correlation")} | {"intervals": intervals}
        row |= _covered(errors, of_level, n_draws, NOMINAL_LEVELS)
        row["half_width_95"] = _half_width_95(found["mean_sd"], of_level, n_draws)
        if intervals == INTERVALS[0]:
            row["rank_correlation"] = found["rank_correlation"]
        rows.append(row)
    return rows


def _covered(
    errors: NDArray[np.float64], factors: Mapping[float, float], n_draws: int | None, levels: Iterable[float]
) -> dict[str, float]:
    """Return the part of the intervals of each level that hold the truth, as columns of a table."""
    return {f"coverage_{round(100 * p)}": coverage(errors, [p], factor=factors[p], n_draws=n_draws)[p] for p in levels}


def _half_width_95(sd: float, factors: Mapping[float, float], n_draws: int | None) -> float:
    return factors[0.95] * sd * float(half_width(0.95, n_draws=n_draws))


def _calibration(tested: Sequence[Mapping[str, Any]], factors: Factors) -> list[dict[str, Any]]:
    doses = sorted({row["dose_reduction_factor"] for row in tested})
    rows = []
    for dose in (None, *doses):
        chosen = [row for row in tested if dose in (None, row["dose_reduction_factor"])]
        for key, (errors, n_draws) in _pooled(chosen).items():
            for intervals in INTERVALS:
                of_level = factors.get((key, intervals))
                if of_level is None:
                    continue
                row = {"dose_reduction_factor": dose, "origin": key[0], "region": key[1], "intervals": intervals}
                row |= {"n_errors": errors.size, **_covered(errors, of_level, n_draws, _LEVELS)}
                sds = [found["mean_sd"] for found in chosen if (found["origin"], found["region"]) == key]
                row["half_width_95"] = _half_width_95(float(np.mean(sds)), of_level, n_draws)
                if intervals != INTERVALS[3]:
                    row["factor"] = of_level[0.68]
                    row["miscalibration_area"] = miscalibration_area(errors, factor=of_level[0.68], n_draws=n_draws)
                rows.append(row)
    return rows


def _shortened(calibration: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what a reader asks first of `_calibration`."""
    origin = "draws" if any(row["origin"] == "draws" for row in calibration) else "residual"
    shown = (
        "origin",
        "region",
        "intervals",
        "coverage_68",
        "coverage_95",
        "half_width_95",
        "miscalibration_area",
        "factor",
    )
    return [
        {name: row[name] for name in shown}
        for row in calibration
        if row["dose_reduction_factor"] is None
        and row["origin"] == origin
        and row["region"] in ("body", "liver", "lesions")
        and row["intervals"] in (INTERVALS[0], INTERVALS[2])
    ]
