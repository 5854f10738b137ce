"""The part on the phantom: contrast recovery of the NEMA spheres by diameter and dose, beside the limits of EARL."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

from pipeline.benchmark.definition import study_from
from pipeline.benchmark.work import Piece, Tables, Work
from pipeline.comparison import Method, noisy_input, with_dose
from pipeline.errors import PETError
from pipeline.images import gaussian_filter_mm
from pipeline.pet import read_pet
from pipeline.simulation import nema_quality
from pipeline.simulation.patient.earl import EARL1_MAX, EARL1_MEAN, EARL_RATIO, earl_recovery, harmonising_filter
from pipeline.simulation.patient.nema import SPHERE_DIAMETERS, background_mean
from pipeline.simulation.phantom_scans import PhantomScans, PhantomStudy, simulate_phantom

__all__ = ["measured_phantom", "phantom", "phantom_rows", "phantom_study_of"]

_CODE = ("benchmark/parts/phantom", "simulation/patient/earl", "simulation/patient/nema")


def phantom_study_of(settings: Mapping[str, Any]) -> PhantomStudy:
    """Return the study that settings of a benchmark describe; what they leave out is as in `PhantomStudy`.

    Raises
    ------
    PETError
        If a setting is not known or of the wrong kind.
    """
    study = study_from(PhantomStudy, settings, part="phantom")
    if study.n_repeats < 1 or not study.ratios:
        raise PETError("phantom: no scan is left, expected one ratio and n_repeats 1 at least")
    return study


def phantom(name: str, method: Method, work: Work) -> Tables:
    """Measure the spheres of the phantom in a method's images; what is missing of the scans is simulated.

    The tables ``spheres`` and ``earl`` are those of `phantom_rows`. The noisy input has rows of full dose, too.
    """
    if work.definition.phantom is None:
        return {}
    study = phantom_study_of(work.definition.phantom)
    pieces = {}
    for scans in simulate_phantom(work.simulated_root / "phantom", study, jobs=work.jobs):
        make = partial(measured_phantom, scans, method, study)
        files = [(path.name, stat.st_size, stat.st_mtime_ns) for path in scans.files() if (stat := path.stat())]
        pieces[f"phantom_{scans.folder.name}"] = Piece(depends=[study.request(scans.ratio), files], make=make)
    measured = work.tables(name, pieces, code=_CODE)
    return phantom_rows(measured["spheres"])


def measured_phantom(scans: PhantomScans, method: Method, study: PhantomStudy) -> Tables:
    """Apply a method to every scan of the phantom at one ratio, and measure it.

    The table ``spheres`` has a row for each scan and sphere: ratio, dose_reduction_factor, repeat, diameter [mm],
    contrast_recovery and background_variability as in NEMA NU 2-2018, background (its mean, true is SUV 1) and
    lung_residual. At a ratio of 10 there are recovery_mean, recovery_max and within_earl1, too, after the filter
    earl_filter [mm] that brings this scanner within EARL's limits, see `harmonising_filter`: what a method adds to it
    shows. Without the filter a method that loses contrast would come closer to the limits.
    """
    scanner = study.field_of_view
    factors = (*((1.0,) if method is noisy_input else ()), *study.dose_reduction_factors)
    at_earl = scans.ratio == EARL_RATIO
    fwhm = harmonising_filter(read_pet(scans.noise_free).suv, scanner) if at_earl else 0.0
    rows = []
    for factor in factors:
        told = method if factor == 1 else with_dose(method, factor)
        for repeat in range(study.n_repeats):
            image = told(read_pet(scans.scan(factor, repeat))).suv
            quality = nema_quality(image, scanner, ratio=scans.ratio)
            columns = {
                "contrast_recovery": quality.contrast_recovery,
                "background_variability": quality.background_variability,
            }
            whole = {"background": background_mean(image, scanner), "lung_residual": quality.lung_residual}
            if at_earl:
                smooth = gaussian_filter_mm(image, fwhm=fwhm, voxel_size=scanner.voxel_size)
                found = earl_recovery(smooth, scanner, ratio=scans.ratio)
                columns |= {"recovery_mean": found.mean, "recovery_max": found.maximum}
                columns |= {"within_earl1": found.within_earl1}
                whole |= {"earl_filter": fwhm}
            which = {"ratio": scans.ratio, "dose_reduction_factor": float(factor), "repeat": repeat}
            for i, diameter in enumerate(SPHERE_DIAMETERS):
                figures = {name: float(values[i]) for name, values in columns.items()}
                rows.append({**which, "diameter": diameter, **figures, **whole})
    return {"spheres": rows}


def phantom_rows(measured: Sequence[Mapping[str, Any]]) -> Tables:
    """Return the means over repeats of what `measured_phantom` measured, in percent but for the filter [mm].

    ``spheres`` has a row for each ratio, dose and diameter [mm]: contrast_recovery with its SD over repeats,
    background_variability, background_bias and lung_residual. ``earl`` has a row for each dose and diameter at a ratio
    of 10: earl_filter, the recovery of the mean and of the maximum, the limits of EARL's first standard, and
    within_earl1, how many of the repeats lie within both.
    """
    frame = pd.DataFrame(measured)
    spheres, earl = [], []
    for (ratio, factor, diameter), rows in frame.groupby(["ratio", "dose_reduction_factor", "diameter"], sort=False):
        mean = rows.mean(numeric_only=True)
        which = {"ratio": float(ratio), "dose_reduction_factor": float(factor), "diameter": float(diameter)}
        spread = {"contrast_recovery_sd": 100 * float(rows["contrast_recovery"].std(ddof=1))} if len(rows) > 1 else {}
        spheres.append(
            {
                **which,
                "contrast_recovery": 100 * float(mean["contrast_recovery"]),
                **spread,
                "background_variability": 100 * float(mean["background_variability"]),
                "background_bias": 100 * float(mean["background"] - 1),
                "lung_residual": 100 * float(mean["lung_residual"]),
            }
        )
        if ratio == EARL_RATIO:
            row = {**which, "earl_filter": float(mean["earl_filter"])}
            for what, limits in (("mean", EARL1_MEAN), ("max", EARL1_MAX)):
                low, high = limits[float(diameter)]
                row |= {f"recovery_{what}": 100 * float(mean[f"recovery_{what}"])}
                row |= {f"earl1_{what}_from": 100 * low, f"earl1_{what}_to": 100 * high}
            earl.append({**row, "within_earl1": 100 * float(mean["within_earl1"])})
    return {"spheres": spheres, **({"earl": earl} if earl else {})}
