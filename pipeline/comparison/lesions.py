"""What happens to lesions, with intervals over subjects: limits of agreement, and how many are lost or invented."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from pipeline.comparison.measure import lesions_in_class
from pipeline.evaluation import bootstrap_ratio, limits_of_agreement

__all__ = ["CONCORDANCE", "lesion_agreement", "lesion_concordance"]

Part = Callable[[pd.DataFrame], pd.Series]


def _lost(rows: pd.DataFrame) -> pd.Series:
    return rows["n_lesions_full"] - rows["n_lesions_both"]


def _invented(rows: pd.DataFrame) -> pd.Series:
    return rows["n_spots_seen"] - rows["n_spots_both"]


def _concordant(rows: pd.DataFrame) -> pd.Series:
    return rows["n_lesions_both"]


def _only_after(rows: pd.DataFrame) -> pd.Series:
    return rows["n_lesions_seen"] - rows["n_lesions_both"] + _invented(rows)


def _either(rows: pd.DataFrame) -> pd.Series:
    return _concordant(rows) + _lost(rows) + _only_after(rows)


CONCORDANCE: dict[str, tuple[str, Part, Part]] = {
    "lost_of_true": ("true lesions lost, per 100 true", _lost, lambda rows: rows["n_lesions"]),
    "lost_of_full": ("true lesions lost, per 100 seen at full dose", _lost, lambda rows: rows["n_lesions_full"]),
    "invented_per_true": ("invented, per 100 true lesions", _invented, lambda rows: rows["n_lesions"]),
    "invented_of_found": (
        "invented, per 100 found after denoising",
        _invented,
        lambda rows: rows["n_lesions_seen"] + rows["n_spots_seen"],
    ),
    "concordant": ("of 100 in either image, in both", _concordant, _either),
    "lost": ("of 100 in either image, at full dose only", _lost, _either),
    "only_after": ("of 100 in either image, after denoising only", _only_after, _either),
}
"""Name -> what it is, what is counted, and of how many.

*Lost* is a true lesion that is seen at full dose and not after denoising; *invented* is what is seen after denoising
only, and is no true lesion. The last three are those that PMC9399218 reports of a commercial product at half the dose
(97.7, 0.8 and 1.5 of 856): *only after* are the invented and the true lesions that full dose does not show. There
readers decided what is a lesion, so that noise of the full dose was none; it is left out here, too.
"""


def lesion_concordance(scans: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Return lost and invented lesions per 100 of each method at each dose, with bootstrap intervals over subjects.

    `scans` are those of :class:`~pipeline.comparison.Measurements`. One row per key of :data:`CONCORDANCE`, dose and
    method: figure, dose_reduction_factor, method, count and of (both summed over subjects), per_100, low and high
    (95 %; NaN of fewer than two subjects, or of nothing).
    """
    columns = ["figure", "dose_reduction_factor", "method", "count", "of", "per_100", "low", "high"]
    found = []
    measured = scans if "n_lesions_both" in scans else scans.iloc[:0]
    for name, (_, part, whole) in CONCORDANCE.items():
        for (factor, method), rows in measured.groupby(["dose_reduction_factor", "method"], sort=False):
            counted, of = part(rows), whole(rows)
            row = [name, float(factor), method, int(counted.sum()), int(of.sum())]
            if not of.sum():
                found.append([*row, np.nan, np.nan, np.nan])
                continue
            ends = [np.nan, np.nan]
            if rows["subject"].nunique() > 1:
                interval = bootstrap_ratio(100 * counted, of, groups=list(rows["subject"]), seed=seed)
                ends = [interval.low, interval.high]
            found.append([*row, 100 * counted.sum() / of.sum(), *ends])
    return pd.DataFrame(found, columns=columns)


def lesion_agreement(
    lesions: pd.DataFrame, *, diameter_from: float = 10.0, diameter_below: float = float("inf"), seed: int = 0
) -> pd.DataFrame:
    """Return the limits of agreement of lesions with the truth [%], each with its bootstrap interval over subjects.

    `lesions` are those of :class:`~pipeline.comparison.Measurements`, from one diameter and below another [mm]. One row
    per quantity (suv_mean, suv_peak, suv_max), dose and method: quantity, dose_reduction_factor, method, n_lesions, and
    for bias, lower and upper the value and its ends NAME_low and NAME_high. Rows of fewer than two subjects are left
    out. See :func:`~pipeline.evaluation.limits_of_agreement`.
    """
    limits = ("bias", "lower", "upper")
    ends = [f"{name}{end}" for name in limits for end in ("", "_low", "_high")]
    found = []
    members = lesions_in_class(lesions, diameter_from=diameter_from, diameter_below=diameter_below)
    for quantity in ("suv_mean", "suv_peak", "suv_max"):
        for (factor, method), rows in members.groupby(["dose_reduction_factor", "method"], sort=False):
            errors = rows[f"{quantity}_error_percent"]
            if rows.loc[np.isfinite(errors), "subject"].nunique() < 2:
                continue
            agreement = limits_of_agreement(errors, groups=list(rows["subject"]), seed=seed)
            intervals = [getattr(agreement, name) for name in limits]
            values = [value for i in intervals for value in (i.mean, i.low, i.high)]
            found.append([quantity, float(factor), method, agreement.n, *values])
    return pd.DataFrame(found, columns=["quantity", "dose_reduction_factor", "method", "n_lesions", *ends])
