"""Every method on every scan: one row per subject, dose and method, and one per lesion of each."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pandas as pd

from pipeline.comparison.baselines import Competitors, Setting
from pipeline.comparison.cases import Case, scanner_of
from pipeline.comparison.figures import figures_of_scan, lesions_of_scan
from pipeline.comparison.kept import KeptResults
from pipeline.comparison.methods import Method, filtered, with_dose
from pipeline.comparison.reference import Reference, full_dose_reference, reference_of
from pipeline.engine import Workers, run_tasks
from pipeline.errors import PETError
from pipeline.evaluation import LESION_BIAS_COLUMNS, weighted_over_doses
from pipeline.pet import PETSeries
from pipeline.pet.grid import check_same_grid

__all__ = [
    "MEASURED_LESION_COLUMNS",
    "MEASURED_SCAN_COLUMNS",
    "Measurements",
    "evaluate_methods",
    "evaluate_scan",
    "lesions_in_class",
    "summarise",
    "udpet_composite",
]


_WHICH = {
    "subject": "name of the subject, preceded by that of its data set where there are several",
    "dose_reduction_factor": "full dose over the dose of the scan",
    "method": "what the scan was denoised with; input is the scan as it is",
}
_TRUTH = "truth (noise-free in simulation, full dose of a real scan)"

MEASURED_SCAN_COLUMNS: dict[str, str] = _WHICH | {
    "scanner": "manufacturer, model and voxels of the scan",
    "setting": "of a filter: width [mm] of the Gaussian, strength in units of the scan's noise of the others",
    "chosen_on": "what the setting of a filter was chosen on: this scan, or other subjects of its scanner",
    "psnr_*": "peak signal-to-noise ratio against the image *, peak 20 SUV, over the whole volume [dB]",
    "psnr_full_peak_maximum": "PSNR against full dose, peak its highest SUV, another one for every subject [dB]",
    "psnr_full_body_box": "PSNR against full dose, peak 20 SUV, in the bounding box of the body [dB]",
    "nrmse_*": "root mean square of the error against the image *, over the root mean square of that",
    "ssim_full": "structural similarity with full dose, range 20 SUV",
    "local_variance_ratio_*": "local variance over that of the image *, median of its stylized region",
    "udpet_score": "composite score of one dose, our reading of that of the UDPET challenge",
    "liver_bias_percent": f"SUVmean of the liver against the {_TRUTH} [%]",
    "liver_error_sd": f"standard deviation of the error in the liver against the {_TRUTH} [g/mL]",
    "liver_error_frequency": "mean frequency of the error in the liver; noise is grainy, blotches are low [1/mm]",
    "noise_power *": "power of the error in the liver at frequencies from * to 0.02 / mm more [(g/mL)^2 mm^3]",
    "n_false_hot_spots": f"local maxima that the {_TRUTH} does not explain",
    "n_false_hot_spots *": "those of n_false_hot_spots that lie so from the nearer end of the scan: *",
    "change_percent *": "change of the mean SUV of the region * from that of the noisy scan [%]",
    "spheres_rms_percent": "root mean square of the changes of the means of 50 mm spheres from the noisy scan [%]",
    "spheres_largest_percent": "largest of the changes of the means of 50 mm spheres from the noisy scan [%]",
    "n_lesions": "true lesions",
    "n_lesions_full": "true lesions that are seen at full dose",
    "n_lesions_seen": "true lesions that are seen in this image",
    "n_lesions_both": "true lesions that are seen in both",
    "n_spots_full": "spots that are seen at full dose and are no lesion",
    "n_spots_seen": "spots that are seen in this image and are no lesion",
    "n_spots_both": "spots of this image that are seen at full dose within 10 mm",
}
"""Meaning and unit of the columns of `Measurements.scans`; a ``*`` stands for an image, a region or a class."""

MEASURED_LESION_COLUMNS: dict[str, str] = _WHICH | {
    "region": "number of the lesion in its subject",
    "diameter_mm": "diameter of the sphere of its volume [mm]",
    **{
        f"{quantity}_{end}": f"{meaning}{text}"
        for quantity, meaning, unit in (
            ("suv_max", "highest voxel", "g/mL"),
            ("suv_peak", "highest mean of a 1 mL sphere", "g/mL"),
            ("suv_mean", "mean of the lesion", "g/mL"),
            ("mtv", "metabolic tumor volume, 41 % of the highest voxel of each image", "mL"),
            ("tlg", "total lesion glycolysis, mean of that volume x volume", "g"),
        )
        for end, text in (
            ("pred", f", in this image [{unit}]"),
            ("reference", f", in the {_TRUTH} [{unit}]"),
            ("error_percent", ": this image against the truth [%]"),
        )
    },
}
"""Meaning and unit of the columns of `Measurements.lesions`."""


@dataclass(frozen=True)
class Measurements:
    """What was measured; both tables begin with subject, dose_reduction_factor and method."""

    scans: pd.DataFrame
    """One row per subject, dose and method, see `MEASURED_SCAN_COLUMNS`: image quality against every reference image
    (the composite and the counts are those of :class:`pipeline.evaluation.CompositeReference` and
    :class:`pipeline.evaluation.Concordance`), errors against the truth, changes from the noisy scan."""
    lesions: pd.DataFrame
    """One row per subject, dose, method and lesion, see `MEASURED_LESION_COLUMNS`, as
    :func:`pipeline.evaluation.lesion_bias` gives them against the truth."""
    truth: str
    """What is taken for the truth: ``noise_free`` in simulation, ``full`` on a real scan."""
    regions: str = "lesions"
    """What `lesions` are: labelled lesions, or regions that were found in the full-dose image."""

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return int(self.scans["subject"].nunique())


def summarise(rows: pd.DataFrame, *, measure: str = "psnr_full") -> pd.DataFrame:
    """Return the mean of a column over subjects: a row per method in the order measured, a column per dose.

    Rows are :attr:`Measurements.scans`, or lesions of it; missing values are left out.
    """
    table = rows.pivot_table(
        index="method", columns="dose_reduction_factor", values=measure, aggfunc="mean", dropna=False
    )
    return table.reindex(rows["method"].unique())


def lesions_in_class(lesions: pd.DataFrame, *, diameter_from: float, diameter_below: float) -> pd.DataFrame:
    """Return the rows of :attr:`Measurements.lesions` with a diameter [mm] from one value and below another."""
    return lesions[(lesions["diameter_mm"] >= diameter_from) & (lesions["diameter_mm"] < diameter_below)]


def udpet_composite(scans: pd.DataFrame) -> pd.Series:
    """Return the composite score of each method over the doses of the UDPET challenge, in our reading.

    `scans` are those of :class:`Measurements`. The mean over subjects of ``udpet_score`` at DRF 4, 10, 20, 50 and 100,
    weighted by :data:`pipeline.evaluation.DOSE_WEIGHTS`; NaN where one of these doses is missing.
    """
    table = summarise(scans, measure="udpet_score")
    return pd.Series({str(name): weighted_over_doses(row.dropna().to_dict()) for name, row in table.iterrows()})


def evaluate_methods(
    cases: Sequence[Case],
    methods: Mapping[str, Method],
    *,
    competitors: Competitors | None,
    kept: KeptResults | None = None,
    jobs: Workers | int = 1,
    on_case: Callable[[str], None] = lambda case: None,
) -> Measurements:
    """Measure the input, the filters and every method on every subject and low dose.

    `cases` are subjects that no method was trained on, from :func:`~pipeline.comparison.cases_of`; `methods` maps names
    to methods, such as a :class:`pipeline.inference.Denoiser`; one that can be told the dose is told it. `competitors`
    are the filters, with settings of :func:`~pipeline.comparison.tune_competitors` or without; None measures the
    methods alone. `kept` holds results of earlier runs and gets the new ones, subject by subject. `jobs` is the number
    of processes, which share the subjects; methods must then be picklable. `on_case` is told the name of each subject
    when it is done.

    Raises
    ------
    PETError
        If an image cannot be read, or is on another grid than the others of its subject.
    """
    having = [case for case in cases if case.doses]
    tasks = [partial(_measured_case, case, dict(methods), competitors, kept) for case in having]
    found: dict[int, list[dict[str, Any]]] = {}
    # No process is begun for what is kept already.
    is_kept = [
        kept is not None and all(kept.has(case, name) for name in _names(methods, competitors)) for case in having
    ]
    done = [i for i, known in enumerate(is_kept) if known]
    new = [i for i, known in enumerate(is_kept) if not known]
    for i in done:
        found[i] = tasks[i]()
        on_case(having[i].name)
    for place, results in run_tasks([tasks[i] for i in new], where=jobs):
        index = new[place]
        found[index] = results
        on_case(having[index].name)
    return _gathered([result for index in sorted(found) for result in found[index]])


def evaluate_scan(
    full: PETSeries,
    low: Mapping[float, PETSeries],
    methods: Mapping[str, Method],
    *,
    competitors: Competitors | None,
    subject: str = "scan",
    on_method: Callable[[str], None] = lambda method: None,
) -> Measurements:
    """Measure on a real scan and its low-dose versions, as ``unipet insert-noise`` writes them.

    The full-dose image takes the place of the truth: see :func:`~pipeline.comparison.full_dose_reference`. `low` maps
    dose reduction factors to scans on the same grid; `on_method` is told each method when it is done; the other
    arguments are those of `evaluate_methods`.

    Raises
    ------
    PETError
        If a scan is on another grid than the full dose.
    """
    reference = full_dose_reference(full, subject=subject)
    readers = {factor: partial(_same, series) for factor, series in low.items()}
    scans = _Scans(subject, partial(_same, reference), readers)
    results = []
    for name in _names(methods, competitors):
        results.append(_measured_method(scans, name, methods, competitors))
        on_method(name)
    return _gathered(results)


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class _Scans:
    """A subject's scans, read when they are needed."""

    subject: str
    make_reference: Callable[[], Reference]
    readers: Mapping[float, Callable[[], PETSeries]]
    """Dose reduction factor -> reads the scan."""

    @cached_property
    def reference(self) -> Reference:
        return self.make_reference()

    def read(self, factor: float) -> PETSeries:
        """Read a scan, which must lie on the grid of the others."""
        low = self.readers[factor]()
        for name, image in self.reference.images.items():
            named = f"{self.subject}: the scan of DRF {factor:g}"
            check_same_grid({f"the {name.replace('_', '-')} image": image.grid, named: low.grid})
        return low


def _names(methods: Mapping[str, Method], competitors: Competitors | None) -> list[str]:
    return [*(() if competitors is None else ("input", *competitors.filters)), *methods]


def _measured_case(
    case: Case, methods: Mapping[str, Method], competitors: Competitors | None, kept: KeptResults | None
) -> list[dict[str, Any]]:
    """Return what `_measured_method` found of each method on one subject."""
    readers = {factor: partial(case.read, image) for factor, image in case.doses.items()}
    scans = _Scans(case.name, partial(reference_of, case), readers)
    results = []
    for name in _names(methods, competitors):
        make = partial(_measured_method, scans, name, methods, competitors)
        results.append(make() if kept is None else kept.of(case, name, make))
    return results


def _measured_method(
    scans: _Scans, name: str, methods: Mapping[str, Method], competitors: Competitors | None
) -> dict[str, Any]:
    """Return the rows of one method on every dose of one subject, as JSON holds them."""
    rows, lesions = [], []
    setting: Setting | None = None
    reference = scans.reference
    for factor in sorted(scans.readers):
        low = scans.read(factor)
        which = {"subject": scans.subject, "dose_reduction_factor": float(factor), "method": name}
        details: dict[str, Any] = {"scanner": scanner_of(low)}
        if name in methods:
            pred = with_dose(methods[name], factor)(low)
        elif competitors is None or name == "input":
            pred = low
        else:
            near = None if setting is None else setting.value
            setting = competitors.setting(name, factor, low, reference.images["full"], near=near)
            details |= {"setting": setting.value, "chosen_on": setting.chosen_on}
            pred = filtered(low, name, setting.value)
        rows.append({**which, **details, **figures_of_scan(pred, low, reference)})
        found = lesions_of_scan(pred, reference).to_dict("records")
        lesions += [{**which, **{str(key): float(value) for key, value in row.items()}} for row in found]
    return {"scans": rows, "lesions": lesions, "truth": reference.truth, "regions": reference.regions}


def _gathered(results: Iterable[Mapping[str, Any]]) -> Measurements:
    found = list(results)
    if not any(result["scans"] for result in found):
        raise PETError("nothing was measured, expected at least one scan of a lower dose")
    scans = pd.DataFrame([row for result in found for row in result["scans"]])
    columns = ["subject", "dose_reduction_factor", "method", *LESION_BIAS_COLUMNS]
    lesions = pd.DataFrame([row for result in found for row in result["lesions"]], columns=columns)
    regions = " and ".join(dict.fromkeys(result["regions"] for result in found))
    return Measurements(scans, lesions.astype({"region": int}), found[-1]["truth"], regions)
