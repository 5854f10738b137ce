"""Whether fine-tuned weights may take the place of the old ones: both on scans that neither was trained on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.comparison import (
    MEASURED_LESION_COLUMNS,
    MEASURED_SCAN_COLUMNS,
    Measurements,
    evaluate_scan,
    lesions_in_class,
)
from pipeline.comparison.measure import Method
from pipeline.data import Store
from pipeline.evaluation import Interval, bootstrap_mean
from pipeline.files import write_json
from pipeline.tables import write_table

__all__ = ["AFTER", "BEFORE", "Criterion", "Verdict", "gains_of", "judge", "measured"]

BEFORE, AFTER, INPUT = "before", "after", "input"
"""Names of the methods in the measurements."""

LEAST_GAIN = 0.05
"""Mean gain of PSNR that new weights must have [dB]; less is within what the choice of the epoch gives by chance."""
LEAST_GAIN_OF_ONE = 0.10
"""The same where a single scan was cut in two."""
_LOSS_AT_A_DOSE = 0.05  # [dB] in the mean of the scans
_MORE_BIAS = 0.2  # of SUV in a region, mean of its absolute value [percentage points]
_MORE_LESION_ERROR = 1.0  # of SUVmean in regions of 10 mm or more, mean of its absolute value [percentage points]
_MORE_HOT_SPOTS = 0.5  # a scan


@dataclass(frozen=True)
class Criterion:
    """One demand on the new weights."""

    what: str
    before: float
    """Of the old weights; NaN for a difference of the two."""
    after: float
    demand: str
    met: bool


@dataclass(frozen=True)
class Verdict:
    """Whether the new weights are kept, and why."""

    criteria: tuple[Criterion, ...]
    gain: float
    """Mean gain of PSNR against full dose over scans and doses [dB]."""
    interval: Interval | None
    """Of the gain, from a bootstrap over scans; None for a single one."""

    @property
    def is_kept(self) -> bool:
        """Whether every criterion is met; if not, the old weights stay."""
        return all(criterion.met for criterion in self.criteria)


def measured(
    store: Store,
    methods: Mapping[str, Method],
    folder: Path,
    *,
    on_scan: Callable[[int, int], object] = lambda done, total: None,
) -> Measurements:
    """Measure the input and the methods on the test subjects of a store, against their full dose.

    Each subject's tables are kept in `folder`, which is for these methods alone; those that are there are not made
    again. `on_scan` is told how many subjects are done, and of how many.
    """
    folder.mkdir(parents=True, exist_ok=True)
    subjects = store.of_split("test")
    for done, subject in enumerate(subjects, start=1):
        if not (folder / f"{subject.id}.json").is_file():
            low = {factor: store.series(subject.id, name) for factor, name in subject.doses.items() if factor > 1}
            found = evaluate_scan(
                store.series(subject.id),
                low,
                {INPUT: lambda series: series, **methods},
                competitors=None,
                subject=subject.id.removesuffix("-second"),
            )
            of_lesions, of_scans = folder / f"{subject.id}_lesions.tsv", folder / f"{subject.id}_scans.tsv"
            write_table(found.lesions, of_lesions, columns=MEASURED_LESION_COLUMNS)
            write_table(found.scans, of_scans, columns=MEASURED_SCAN_COLUMNS)
            write_json(folder / f"{subject.id}.json", {"regions": found.regions})  # last: all are there
        on_scan(done, len(subjects))
    tables = {kind: [_read(folder / f"{s.id}_{kind}.tsv") for s in subjects] for kind in ("scans", "lesions")}
    filled = [table for table in tables["lesions"] if len(table)] or tables["lesions"][:1]
    regions = pd.read_json(folder / f"{subjects[0].id}.json", typ="series")["regions"]
    scans, lesions = pd.concat(tables["scans"], ignore_index=True), pd.concat(filled, ignore_index=True)
    return Measurements(scans, lesions, "full", str(regions))


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", na_values="n/a", dtype={"subject": str, "method": str})


def gains_of(measurements: Measurements) -> pd.DataFrame:
    """Return PSNR against full dose after less before [dB]: a row per scan, a column per dose reduction factor."""
    index = ["subject", "dose_reduction_factor"]
    psnr = measurements.scans.set_index([*index, "method"])["psnr_full"].unstack("method")
    return (psnr[AFTER] - psnr[BEFORE]).unstack("dose_reduction_factor")


def judge(measurements: Measurements, *, is_one_scan: bool = False) -> Verdict:
    """Hold the new weights against the old ones: a gain that is sure, and nothing lost."""
    scans, gains = measurements.scans, gains_of(measurements)
    of_scans, gain = gains.mean(axis=1), float(gains.to_numpy().mean())
    interval = bootstrap_mean(of_scans) if np.isfinite(of_scans).sum() > 1 else None
    least = LEAST_GAIN_OF_ONE if is_one_scan else LEAST_GAIN
    worst = float(gains.mean(axis=0).min())
    criteria = [
        Criterion("gain of PSNR, mean of scans and doses [dB]", np.nan, gain, f">= {least:g}", gain >= least),
        Criterion(
            "gain of PSNR at the worst dose [dB]", np.nan, worst, f">= -{_LOSS_AT_A_DOSE:g}", worst >= -_LOSS_AT_A_DOSE
        ),
    ]
    if len(of_scans) > 2 and interval is not None:
        criteria.append(Criterion("lower end of its 95 % interval [dB]", np.nan, interval.low, "> 0", interval.low > 0))
    elif len(of_scans) > 1:
        least_of_scans = float(of_scans.min())
        criteria.append(Criterion("gain of the worst scan [dB]", np.nan, least_of_scans, "> 0", least_of_scans > 0))
    for column in (name for name in scans.columns if name.endswith("_bias_percent")):
        name = column.removesuffix("_bias_percent").replace("_", " ")
        # What the noisy scan has already is not the denoiser's to mend.
        criteria += _no_worse(scans, column, f"absolute bias of SUV, {name} [%]", _MORE_BIAS, or_than=INPUT)
    for column in (name for name in scans.columns if name.startswith("change_percent ")):
        region = column.removeprefix("change_percent ")
        criteria += _no_worse(scans, column, f"absolute change of SUV from the noisy scan, {region} [%]", _MORE_BIAS)
    large = lesions_in_class(measurements.lesions, diameter_from=10, diameter_below=np.inf)
    what = "absolute error of SUVmean, regions from 10 mm [%]"
    criteria += _no_worse(large, "suv_mean_error_percent", what, _MORE_LESION_ERROR)
    criteria += _no_worse(scans, "n_false_hot_spots", "false hot spots a scan", _MORE_HOT_SPOTS)
    return Verdict(tuple(criteria), gain, interval)


def _no_worse(rows: pd.DataFrame, column: str, what: str, allowed: float, *, or_than: str = BEFORE) -> list[Criterion]:
    """Compare the mean of the absolute values with that before, or of another method if that is larger."""
    means = rows.assign(value=rows[column].abs()).groupby("method")["value"].mean()
    before, after, other = (float(means.get(method, np.nan)) for method in (BEFORE, AFTER, or_than))
    if np.isnan(before) and np.isnan(after):
        return []
    demand = f"<= before {'' if or_than == BEFORE else f'or {or_than} '}+ {allowed:g}"
    return [Criterion(what, before, after, demand, bool(after <= np.fmax(before, other) + allowed))]
