"""How much better one method is than another, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from pipeline.comparison.bootstrap import Interval, paired_bootstrap
from pipeline.comparison.measure import Measurements
from pipeline.comparison.summary import lesions_in_class, summarise

__all__ = ["COMPARED", "Difference", "compare_methods"]

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
    """The dose."""
    method: str
    """The method."""
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
    """Method minus the best of the others, for every measure and dose that two subjects or more were measured at.

    The best is the one with the best mean at that dose, found on the same subjects: this favours the others.

    Parameters
    ----------
    measurements
        What was measured.
    method
        Name of the method.
    others
        Names of the methods to compare with; one for a plain comparison of two.
    seed
        Of the bootstrap.
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
