"""How much better one method is than another, and how sure that is."""

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pipeline.comparison.measure import Measurements, lesions_in_class, summarise
from pipeline.evaluation import Interval, bootstrap_mean, paired_bootstrap

__all__ = [
    "COMPARED",
    "Difference",
    "compare_methods",
    "gains_by_scanner",
    "mean_interval",
    "paired_difference",
]

COMPARED: dict[str, tuple[str, bool]] = {
    "psnr_full": ("PSNR against full dose [dB]", True),
    "psnr_repeat": ("PSNR against an independent full-dose scan [dB]", True),
    "psnr_noise_free": ("PSNR against noise-free [dB]", True),
    "ssim_full": ("SSIM against full dose", True),
    "nrmse_noise_free": ("NRMSE against noise-free", False),
    "suv_mean_error_percent": ("absolute error of lesion SUVmean, >= 10 mm [%]", False),
    "suv_peak_error_percent": ("absolute error of lesion SUVpeak, >= 10 mm [%]", False),
}
"""Measure -> what it is called, and whether more of it is better."""


@dataclass(frozen=True)
class Difference:
    """One measure of one method less that of another, at one dose."""

    measure: str
    """A key of COMPARED."""
    dose_reduction_factor: float
    method: str
    other: str
    """The method that is subtracted."""
    interval: Interval
    """Mean difference and its 95 % bootstrap interval, subjects drawn with their lesions."""

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` where the interval excludes zero, else ``tie``."""
        if not self.interval.excludes_zero:
            return "tie"
        return "better" if (self.interval.mean > 0) == COMPARED[self.measure][1] else "worse"


def compare_methods(
    measurements: Measurements, method: str, others: Sequence[str], *, seed: int = 0
) -> list[Difference]:
    """Return a method minus the best of the others, for every measure and dose measured on two subjects or more.

    The best is the one with the best mean at that dose, found on the same subjects: this favours the others. `seed` is
    that of the bootstrap.
    """
    differences = []
    for measure, (_, more_is_better) in COMPARED.items():
        rows = _rows_of(measurements, measure)
        if rows.empty:
            continue
        means = summarise(rows, measure=measure).reindex([*others])
        for factor in means.columns:
            column = means[factor].dropna()
            if column.empty:
                continue
            best = str(column.idxmax() if more_is_better else column.idxmin())
            interval = _interval(rows[rows["dose_reduction_factor"] == factor], measure, method, best, seed)
            if interval is not None:
                differences.append(Difference(measure, float(factor), method, best, interval))
    return differences


def paired_difference(
    measurements: Measurements,
    measure: str,
    method: str,
    other: str,
    *,
    factors: Collection[float] | None = None,
    seed: int = 0,
) -> Interval | None:
    """Return a measure of one method less that of another over doses, subjects drawn with all their scans and lesions.

    `measure` is a key of COMPARED or another column of the scans; `factors` are the dose reduction factors, by default
    all. None where it was not measured of both on two subjects or more.
    """
    rows = _rows_of(measurements, measure)
    if rows.empty:
        return None
    if factors is not None:
        rows = rows[rows["dose_reduction_factor"].isin(list(factors))]
    pairs = rows["pair"] + " " + rows["dose_reduction_factor"].map("{:g}".format)
    return _interval(rows.assign(pair=pairs), measure, method, other, seed)


def mean_interval(values: ArrayLike, *, groups: Sequence[Hashable], seed: int = 0) -> Interval | None:
    """Return the mean of values and its 95 % bootstrap interval, groups drawn whole; None with fewer than two."""
    numbers = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(numbers)
    if len({group for group, kept in zip(groups, finite, strict=True) if kept}) < 2:
        return None
    return bootstrap_mean(numbers, groups=groups, seed=seed)


def gains_by_scanner(scans: pd.DataFrame, measure: str, method: str, others: Sequence[str]) -> pd.DataFrame:
    """Return how far a method is above the best of the others on each scanner with its voxels, at each dose.

    `scans` are those of :class:`~pipeline.comparison.Measurements`, `measure` one of which more is better. One row per
    scanner and dose: scanner, dose_reduction_factor, own and best (means over the scanner's subjects), other (the name
    of the best), and gain. Empty where the measure, the method or the others are missing.
    """
    rows = []
    measured = scans if measure in scans else scans.iloc[:0]
    for (scanner, factor), group in measured.groupby(["scanner", "dose_reduction_factor"], sort=False):
        means = group.groupby("method")[measure].mean().dropna()
        rivals = means.reindex([*others]).dropna()
        if method in means.index and len(rivals):
            best = {"own": means[method], "other": rivals.idxmax(), "best": rivals.max()}
            rows.append(
                {"scanner": scanner, "dose_reduction_factor": factor, **best, "gain": means[method] - rivals.max()}
            )
    return pd.DataFrame(rows, columns=["scanner", "dose_reduction_factor", "own", "other", "best", "gain"])


def _rows_of(measurements: Measurements, measure: str) -> pd.DataFrame:
    """Subject, dose, method, key of what is paired, and the measure; empty where it was not measured."""
    if measure in measurements.scans:
        return measurements.scans.assign(pair=measurements.scans["subject"])
    if measure not in measurements.lesions:
        return pd.DataFrame()
    large = lesions_in_class(measurements.lesions, diameter_from=10, diameter_below=float("inf"))
    pairs = large["subject"] + " " + large["region"].astype(str)
    return large.assign(pair=pairs, **{measure: large[measure].abs()})


def _interval(rows: pd.DataFrame, measure: str, method: str, other: str, seed: int) -> Interval | None:
    one = rows[rows["method"] == method].set_index("pair")
    two = rows[rows["method"] == other].set_index("pair")[measure].reindex(one.index)
    finite = (one[measure] - two).abs().lt(float("inf"))
    if one.loc[finite, "subject"].nunique() < 2:
        return None
    return paired_bootstrap(one[measure], two, groups=list(one["subject"]), seed=seed)
