"""The tables of a benchmark: one with a row for each method, and the figures by dose behind it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from pipeline.benchmark.reporting.findings import LARGE, Findings
from pipeline.comparison import (
    COMPARED,
    CONCORDANCE,
    Interval,
    Measurements,
    ResultTable,
    lesion_agreement,
    lesion_concordance,
    paired_difference,
    summarise,
)

__all__ = ["all_tables", "difference_frame", "summary_frame", "summary_table"]

_LONGEST = 400  # rows of a table that is shown; longer ones are for the TSV files
_LESIONS = f">= {LARGE:g} mm"
_BY_DOSE = {
    "psnr_noise_free": ("PSNR against noise-free [dB], peak 20 SUV", 2),
    "psnr_full": ("PSNR against full dose [dB], peak 20 SUV", 2),
    "psnr_full_peak_maximum": ("PSNR against full dose [dB], peak its highest SUV, as others print it", 2),
    "psnr_full_body_box": ("PSNR against full dose [dB], peak 20 SUV, in the body's box", 2),
    "ssim_full": ("SSIM against full dose, range 20 SUV", 4),
    "liver_bias_percent": ("SUVmean bias of the liver [%]", 2),
    "local_variance_ratio_full": ("Local variance over that of full dose", 2),
    "liver_error_sd": ("SD of the error in the liver [g/mL]", 3),
    "liver_error_frequency": ("Mean frequency of the error in the liver [1/mm], low is blotchy", 4),
    "n_false_hot_spots": ("False hot spots per scan", 1),
    "udpet_score": ("Composite score of one dose, our reading of UDPET's", 3),
}
_LESION_MEASURES = {
    "suv_mean_error_percent": (f"SUVmean bias of lesions {_LESIONS} [%]", 1),
    "suv_peak_error_percent": (f"SUVpeak bias of lesions {_LESIONS} [%]", 1),
    "suv_max_error_percent": (f"SUVmax bias of lesions {_LESIONS} [%]", 1),
    "tlg_error_percent": (f"TLG bias of lesions {_LESIONS} [%]", 1),
}
_SUMMARY: Mapping[str, tuple[str, int]] = {
    "psnr_noise_free": ("PSNR, noise-free [dB]", 2),
    "psnr_full": ("PSNR, full dose [dB]", 2),
    "ssim_full": ("SSIM", 4),
    "suv_mean_error_percent": ("lesion SUVmean bias [%]", 1),
    "suv_peak_error_percent": ("lesion SUVpeak bias [%]", 1),
    "lost_of_full": ("lost per 100", 1),
    "invented_per_true": ("invented per 100", 1),
    "auc": ("detection AUC", 3),
    "sphere": ("recovery, 10 mm, 4 to 1 [%]", 1),
    "seconds": ("s a scan", 1),
    "ratio": ("time over {reference}'s", 2),
    "peak_memory_mib": ("peak memory [MiB]", 0),
    "million_parameters": ("parameters [10^6]", 2),
    "multiply_adds": ("multiply-adds a voxel [10^3]", 1),
    "hours": ("training [h]", 2),
    "thousand_patches": ("patches seen [10^3]", 1),
}
"""Column of the summary -> its name and decimals."""


def summary_frame(findings: Findings) -> pd.DataFrame:
    """Return one row for each row of the benchmark: means over subjects and doses, cost, and budget; NaN if missing."""
    frame = pd.DataFrame(index=findings.rows.index)
    frame["label"] = findings.rows["label"]
    if (found := findings.images) is not None:
        for measure in _SUMMARY:
            if measure in found.scans:
                frame[measure] = _mean_over_doses(found.scans, measure)
            elif measure in found.lesions:
                frame[measure] = _mean_over_doses(findings.large_lesions(found), measure)
        counts = lesion_concordance(found.scans)
        for figure in ("lost_of_full", "invented_per_true"):
            of_figure = counts[counts["figure"] == figure]
            if not of_figure.empty:
                frame[figure] = _mean_over_doses(of_figure, "per_100")
    if "auc" in findings.detection:
        frame["auc"] = _mean_over_doses(findings.detection, "auc")
    spheres = findings.table("phantom", "spheres")
    if not spheres.empty:
        small = (spheres["diameter"] == 10) & (spheres["ratio"] == 4) & (spheres["dose_reduction_factor"] > 1)
        frame["sphere"] = _mean_over_doses(spheres[small], "contrast_recovery")
    costs = findings.table("cost", "cost")
    if not costs.empty:
        costs = costs.set_index("method")
        frame["seconds"] = costs["seconds"]
        frame["ratio"] = costs["seconds"] / costs["seconds_of_reference"]
        frame["peak_memory_mib"] = costs["peak_memory_mib"]
        if "multiply_adds_per_pass" in costs:
            frame["multiply_adds"] = costs["multiply_adds_per_pass"] * costs["n_passes"] / 1e3
    facts = findings.rows["facts"]
    frame["million_parameters"] = facts.map(lambda f: f.get("n_parameters", np.nan)) / 1e6
    frame["hours"] = facts.map(lambda f: f.get("training", {}).get("hours", np.nan))
    frame["thousand_patches"] = facts.map(lambda f: f.get("training", {}).get("n_patches", np.nan)) / 1e3
    named = [name for name in _SUMMARY if name in frame and frame[name].notna().any()]
    return frame.loc[findings.rows["kind"] != "ensemble", ["label", *named]]


def _mean_over_doses(rows: pd.DataFrame, measure: str) -> pd.Series:
    """Return the mean of the means at each dose, which count alike, for every method."""
    return summarise(rows, measure=measure).mean(axis=1)


def summary_table(findings: Findings) -> ResultTable:
    """Return the one table of the benchmark."""
    frame = summary_frame(findings)
    columns = [name for name in _SUMMARY if name in frame]
    reference = findings.label(findings.definition.reference)
    header = ("method", *(_SUMMARY[name][0].format(reference=reference) for name in columns))
    rows = tuple(
        (str(row["label"]), *(_figure(row[name], _SUMMARY[name][1]) for name in columns)) for _, row in frame.iterrows()
    )
    found = findings.images
    n = 0 if found is None else found.n_subjects
    doses = [] if found is None else sorted(found.scans["dose_reduction_factor"].unique())
    title = f"Means over {n} subjects and DRF {', '.join(f'{factor:g}' for factor in doses)}"
    return ResultTable(title, header, rows)


def all_tables(findings: Findings) -> list[ResultTable]:
    """Return every table, in the order of reading."""
    tables = [summary_table(findings), *_differences(findings)]
    for part in ("images", "unseen", "real"):
        conditions = findings.table(part, "scans")
        for condition in [] if conditions.empty else conditions["condition"].unique():
            found = findings.measurements(part, [condition])
            if found is not None:
                prefix = "" if part == "images" else f"{part.capitalize()}, {condition.replace('_', ' ')}: "
                tables += [_of_regions(table, found.regions) for table in _by_dose(findings, found, prefix)]
    tables += _of_detection(findings)
    tables += _of_phantom(findings)
    tables += _of_part(findings, "uncertainty", only=("summary",))
    tables += _settings(findings)
    return [table for table in tables if table.rows]


def _of_regions(table: ResultTable, regions: str) -> ResultTable:
    """Return a table whose title says what stands for lesions, where nobody labelled them."""
    if regions == "lesions" or "esions" not in table.title:
        return table
    named = table.title.replace("true lesions", "hot regions").replace("lesions", "hot regions")
    return replace(table, title=named.replace("Lesions", "Hot regions"))


def _by_dose(findings: Findings, found: Measurements, prefix: str) -> Iterator[ResultTable]:
    for rows, measures in ((found.scans, _BY_DOSE), (findings.large_lesions(found), _LESION_MEASURES)):
        for measure, (title, digits) in measures.items():
            if measure in rows and rows[measure].notna().any():
                yield _dose_table(findings, rows, measure, prefix + title, digits)
    counts = lesion_concordance(found.scans).rename(columns={"low": "per_100_low", "high": "per_100_high"})
    for figure, rows in counts.groupby("figure", sort=False):
        title = f"{prefix}Lesions: {CONCORDANCE[str(figure)][0]}"
        yield _dose_table(findings, rows, "per_100", title, 1, with_interval=True)
    agreement = lesion_agreement(found.lesions) if "suv_max_error_percent" in found.lesions else pd.DataFrame()
    for quantity in () if agreement.empty else ("suv_mean", "suv_peak"):
        rows = agreement[agreement["quantity"] == quantity]
        for limit in ("lower", "upper"):
            title = f"{prefix}{quantity.replace('suv_', 'SUV')} of lesions {_LESIONS}: {limit} limit of agreement [%]"
            yield _dose_table(findings, rows, limit, title, 1, with_interval=True)


def _dose_table(
    findings: Findings, rows: pd.DataFrame, measure: str, title: str, digits: int, *, with_interval: bool = False
) -> ResultTable:
    columns = {"": measure} | ({"low": f"{measure}_low", "high": f"{measure}_high"} if with_interval else {})
    means = {kind: summarise(rows, measure=column) for kind, column in columns.items() if column in rows}
    header = ("method", *(f"DRF {factor:g}" for factor in means[""].columns))
    body = []
    for name in means[""].index:
        of_method = [means[kind].loc[name] for kind in means]
        cells = [tuple(_figure(value, digits) for value in values) for values in zip(*of_method, strict=True)]
        texts = (f"{cell[0]} ({cell[1]} to {cell[2]})" if len(cell) == 3 else cell[0] for cell in cells)
        body.append((findings.label(str(name)), *texts))
    return ResultTable(title, header, tuple(body))


def difference_frame(findings: Findings) -> pd.DataFrame:
    """Return every row minus the reference over all doses: method, measure, mean, low, high and verdict."""
    found, reference = findings.images, findings.definition.reference
    rows = []
    if found is not None and reference in set(found.scans["method"]):
        for name in found.scans["method"].unique():
            for measure, (_, more_is_better) in COMPARED.items():
                interval = None if name == reference else paired_difference(found, measure, name, reference)
                if interval is not None:
                    verdict = _verdict(interval, more_is_better=more_is_better)
                    figures = {"mean": interval.mean, "low": interval.low, "high": interval.high}
                    rows.append({"method": name, "measure": measure, **figures, "verdict": verdict})
    return pd.DataFrame(rows, columns=["method", "measure", "mean", "low", "high", "verdict"])


def _verdict(interval: Interval, *, more_is_better: bool) -> str:
    if not interval.excludes_zero:
        return "tie"
    return "better" if (interval.mean > 0) == more_is_better else "worse"


def _differences(findings: Findings) -> Iterator[ResultTable]:
    frame = difference_frame(findings)
    reference = findings.label(findings.definition.reference)
    for measure, group in frame.groupby("measure", sort=False):
        digits = 4 if "ssim" in str(measure) or "nrmse" in str(measure) else 2
        rows = tuple(
            (
                findings.label(row["method"]),
                row["verdict"],
                f"{row['mean']:+.{digits}f}",
                f"{row['low']:+.{digits}f} to {row['high']:+.{digits}f}",
            )
            for _, row in group.iterrows()
        )
        title = f"Minus {reference}, all doses, paired bootstrap over subjects: {COMPARED[str(measure)][0]}"
        yield ResultTable(title, ("method", "verdict", "difference", "95 % interval"), rows, 2)


def _of_phantom(findings: Findings) -> Iterator[ResultTable]:
    """Return the spheres of the phantom, a table for each figure, ratio and dose, diameters side by side."""
    figures = (
        ("spheres", "contrast_recovery", "contrast recovery of the spheres (NEMA NU 2)"),
        ("spheres", "background_variability", "background variability (NEMA NU 2)"),
        ("earl", "recovery_mean", "recovery of the mean in the 50 % isocontour after the filter of EARL"),
        ("earl", "recovery_max", "recovery of the maximum after the filter of EARL"),
        ("earl", "within_earl1", "scans within both limits of EARL's first standard after its filter"),
    )
    for table, figure, what in figures:
        rows = findings.table("phantom", table)
        for (ratio, factor), at in [] if figure not in rows else rows.groupby(["ratio", "dose_reduction_factor"]):
            wide = at.pivot_table(index="method", columns="diameter", values=figure, sort=False)
            header = ("method", *(f"{diameter:g} mm" for diameter in wide.columns))
            body = tuple((findings.label(str(n)), *(_figure(v, 1) for v in row)) for n, row in wide.iterrows())
            dose = "full dose" if factor == 1 else f"DRF {factor:g}"
            yield ResultTable(f"Phantom, {ratio:g} to 1, {dose}: {what} [%]", header, body)


def _of_detection(findings: Findings) -> Iterator[ResultTable]:
    """Return the areas under the ROC of all lesions and of each size, and what they gain on the noisy input."""
    frame = findings.table("detection", "detection")
    if frame.empty:
        return
    what = "Detection at a known place, area under the ROC of a channelized Hotelling observer"
    yield _dose_table(findings, findings.detection, "auc", what, 3, with_interval=True)
    if "gain" in frame:
        yield _dose_table(
            findings, findings.detection, "gain", f"{what}: less that in the noisy input", 3, with_interval=True
        )
    if not (differences := findings.detection_differences).empty:
        title = f"{what}: less that of {findings.label(findings.definition.reference)}, paired by patient"
        yield _dose_table(findings, differences, "difference", title, 3, with_interval=True)
    of_sizes = frame[(frame["diameter"] != "all") & (frame["level"] == "all") & (frame["site"] == "all")]
    for diameter, rows in of_sizes.groupby("diameter"):
        yield _dose_table(findings, rows, "auc", f"{what}: lesions of {diameter:g} mm", 3)


def _settings(findings: Findings) -> Iterator[ResultTable]:
    """Return the settings of the filters by scanner and dose."""
    rows = [
        {"filter": findings.label(str(name)), **setting}
        for name, facts in findings.rows["facts"].items()
        for setting in facts.get("settings", ())
    ]
    if rows:
        wide = pd.DataFrame(rows).pivot_table(
            index=["filter", "scanner"], columns="dose_reduction_factor", values="setting", sort=False
        )
        wide = wide[sorted(wide.columns)]
        body = tuple((*map(str, names), *(_figure(v, 2) for v in row)) for names, row in wide.iterrows())
        title = "Settings of the filters: width [mm], or strength in units of the scan's noise"
        yield ResultTable(title, ("filter", "tuned on", *(f"DRF {factor:g}" for factor in wide.columns)), body, 2)


def _of_part(findings: Findings, part: str, *, only: Sequence[str] | None = None) -> Iterator[ResultTable]:
    """Return the tables of a part whose rows are figures already, one for each table that it stored, or some."""
    names = {name for stored in findings.results if stored.part == part for name in stored.tables}
    for name in sorted(names if only is None else names & set(only)):
        frame = findings.table(part, name)
        if frame.empty or len(frame) > _LONGEST:
            continue
        figures = [column for column in frame if is_numeric_dtype(frame[column])]
        texts = [column for column in frame if column not in figures]
        named = frame.assign(method=frame["method"].map(findings.label))
        rows = tuple(
            (*(str(row[c]) for c in texts), *(_figure(row[c], 3) for c in figures)) for _, row in named.iterrows()
        )
        title = part.capitalize() if name == part else f"{part.capitalize()}, {name.replace('_', ' ')}"
        yield ResultTable(title, tuple(c.replace("_", " ") for c in (*texts, *figures)), rows, len(texts))


def _figure(value: object, digits: int) -> str:
    number = float(value)  # type: ignore[arg-type]
    return f"{number:.{digits}f}" if np.isfinite(number) else "–"
