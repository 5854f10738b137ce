"""Every method on every scan: one row per subject, dose and method, and one per lesion of each."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.comparison.baselines import Competitors
from pipeline.comparison.cases import Case
from pipeline.comparison.reference import Reference, full_dose_reference, reference_of
from pipeline.errors import PETError, UndefinedMeasureError
from pipeline.evaluation import (
    PEAK_SUV,
    bias,
    false_hot_spots,
    lesion_bias,
    local_variance_ratio,
    nrmse,
    psnr,
    ssim,
)
from pipeline.pet import PETSeries
from pipeline.pet.grid import check_same_grid

__all__ = ["Measurements", "Method", "evaluate_methods", "evaluate_scan", "lesions_in_class", "summarise"]

logger = logging.getLogger(__name__)

Method = Callable[[PETSeries], PETSeries]
"""A denoised series of a noisy one, on its grid."""


@dataclass(frozen=True)
class Measurements:
    """What was measured; both tables begin with subject, dose_reduction_factor and method."""

    scans: pd.DataFrame
    """One row per subject, dose and method. For every reference image NAME: ``psnr_NAME`` [dB] over the whole volume
    at a peak of 20 SUV and ``nrmse_NAME``; ``ssim_full``; ``local_variance_ratio_full`` and that to the truth. Against
    the truth: ``liver_bias_percent`` of SUVmean in the liver and ``n_false_hot_spots``."""
    lesions: pd.DataFrame
    """One row per subject, dose, method and lesion: the columns of :func:`pipeline.evaluation.lesion_bias`, against
    the truth."""
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


def evaluate_methods(
    cases: Iterable[Case],
    methods: Mapping[str, Method],
    *,
    competitors: Competitors | None,
    on_scan: Callable[[str], None] = lambda scan: None,
) -> Measurements:
    """Measure the input, the tuned filters and every method on every subject and low dose.

    `cases` are subjects that no method was trained or tuned on, from :func:`~pipeline.comparison.cases_of`; `methods`
    maps names to methods, such as a :class:`pipeline.inference.Denoiser`. `competitors` are from
    :func:`~pipeline.comparison.tune_competitors` on other subjects; None measures the methods alone. `on_scan` is told
    the name of each scan when it is done.

    Raises
    ------
    PETError
        If an image cannot be read, or is on another grid than the others of its subject.
    """

    def scans() -> Iterator[tuple[Reference, float, PETSeries]]:
        for case in cases:
            if not case.doses:
                continue
            reference = reference_of(case)
            for factor, image in case.doses.items():
                yield reference, factor, case.read(image)
                on_scan(f"{case.name} DRF {factor:g}")

    return _measured(scans(), methods, competitors)


def evaluate_scan(
    full: PETSeries,
    low: Mapping[float, PETSeries],
    methods: Mapping[str, Method],
    *,
    competitors: Competitors | None,
    subject: str = "scan",
    on_scan: Callable[[str], None] = lambda scan: None,
) -> Measurements:
    """Measure on a real scan and its low-dose versions, as ``unipet insert-noise`` writes them.

    The full-dose image takes the place of the truth: see :func:`~pipeline.comparison.full_dose_reference`. `low` maps
    dose reduction factors to scans on the same grid; the other arguments are those of `evaluate_methods`.

    Raises
    ------
    PETError
        If a scan is on another grid than the full dose.
    """
    reference = full_dose_reference(full, subject=subject)

    def scans() -> Iterator[tuple[Reference, float, PETSeries]]:
        for factor, series in sorted(low.items()):
            yield reference, factor, series
            on_scan(f"{subject} DRF {factor:g}")

    return _measured(scans(), methods, competitors)


def _measured(
    scans: Iterable[tuple[Reference, float, PETSeries]],
    methods: Mapping[str, Method],
    competitors: Competitors | None,
) -> Measurements:
    rows, lesion_tables, truth, regions = [], [], "full", dict[str, None]()
    for reference, factor, low in scans:
        truth = reference.truth
        regions[reference.regions] = None
        _check_grid(low, reference, factor)
        for name, method in {**(competitors.at(factor) if competitors else {}), **methods}.items():
            which = {"subject": reference.subject, "dose_reduction_factor": factor, "method": name}
            pred = method(low)
            rows.append({**which, **_measure(pred, reference)})
            lesions = lesion_bias(pred.suv, reference.images[truth].suv, reference.lesions, voxel_size=pred.voxel_size)
            lesion_tables.append(pd.DataFrame(which, index=lesions.index).join(lesions))
    if not rows:
        raise PETError("nothing was measured, expected at least one scan of a lower dose")
    filled = [table for table in lesion_tables if len(table)]
    lesions = pd.concat(filled or lesion_tables[:1], ignore_index=True)
    return Measurements(pd.DataFrame(rows), lesions, truth, " and ".join(regions))


def _check_grid(low: PETSeries, reference: Reference, factor: float) -> None:
    for name, image in reference.images.items():
        named = f"{reference.subject}: the scan of DRF {factor:g}"
        check_same_grid({f"the {name.replace('_', '-')} image": image.grid, named: low.grid})


def _measure(pred: PETSeries, reference: Reference) -> dict[str, float]:
    values = {}
    for name, image in reference.images.items():
        values[f"psnr_{name}"] = psnr(pred.suv, image.suv, data_range=PEAK_SUV)
        values[f"nrmse_{name}"] = _or_nan(nrmse, pred.suv, image.suv)
    values["ssim_full"] = _or_nan(ssim, pred.suv, reference.images["full"].suv, data_range=PEAK_SUV)
    for name in dict.fromkeys(("full", reference.truth)):
        values[f"local_variance_ratio_{name}"] = _or_nan(local_variance_ratio, pred.suv, reference.images[name].suv)
    true = reference.images[reference.truth].suv
    values["liver_bias_percent"] = (
        np.nan if reference.liver is None else _or_nan(bias, pred.suv, true, mask=reference.liver)
    )
    spots = false_hot_spots(pred.suv, true, voxel_size=pred.voxel_size, mask=reference.body)
    values["n_false_hot_spots"] = float(len(spots))
    return values


def _or_nan(measure: Callable[..., float], *images: NDArray[np.floating], **options: Any) -> float:
    """Return a measure, or NaN where it is not defined for the scan; the log says why."""
    try:
        return measure(*images, **options)
    except UndefinedMeasureError as error:
        logger.warning("%s is missing: %s", measure.__name__, error)
        return np.nan
