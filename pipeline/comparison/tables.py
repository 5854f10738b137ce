"""The tables of a comparison, as text for a terminal or a document."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.comparison.baselines import COMPETITORS
from pipeline.comparison.differences import COMPARED, compare_methods, gains_by_scanner
from pipeline.comparison.lesions import CONCORDANCE, lesion_agreement, lesion_concordance
from pipeline.comparison.measure import Measurements, lesions_in_class, summarise, udpet_composite
from pipeline.evaluation import END_CLASSES, READING_RULE, SEGMENTATION_RULE

__all__ = ["LESION_CLASSES", "ResultTable", "as_markdown", "result_tables", "scanner_tables", "summarise_lesions"]

_MEASURES = {
    "psnr_full": ("PSNR against full dose [dB], peak 20 SUV", 2),
    "psnr_full_peak_maximum": (
        "PSNR against full dose [dB], peak its highest SUV: another one for every subject, a hot bladder flatters",
        2,
    ),
    "psnr_full_body_box": ("PSNR against full dose [dB], peak 20 SUV, in the body's bounding box", 2),
    "psnr_repeat": ("PSNR against an independent full-dose scan [dB]", 2),
    "psnr_noise_free": ("PSNR against the noise-free reconstruction [dB]", 2),
    "ssim_full": ("SSIM against full dose, range 20 SUV", 4),
    "nrmse_full": ("NRMSE against full dose, relative to its root mean square", 4),
    "nrmse_noise_free": ("NRMSE against noise-free, relative to its root mean square", 4),
    "local_variance_ratio_full": ("Local variance over that of full dose, median of its stylized region", 2),
    "local_variance_ratio_noise_free": ("Local variance over that of noise-free, median of its stylized region", 2),
    "liver_bias_percent": ("SUVmean bias of the liver against {truth} [%]", 2),
    "liver_error_sd": ("SD of the error in the liver against {truth} [g/mL]", 3),
    "liver_error_frequency": ("Mean frequency of the error in the liver against {truth} [1/mm], low is blotchy", 4),
    "n_false_hot_spots": ("False hot spots per scan against {truth}", 1),
    "spheres_rms_percent": ("50 mm spheres all over the body, change of their mean from the input, RMS [%]", 2),
    "udpet_score": ("Composite score of one dose, our reading of UDPET's, not comparable with those of others", 3),
    "spheres_largest_percent": ("50 mm spheres all over the body, largest change of a mean from the input [%]", 1),
}
_BY_SCANNER = ("psnr_full", "psnr_repeat", "psnr_noise_free")
_SETTINGS = "Settings of the filters, mean over scans: width [mm]; strength in units of the scan's noise"
LESION_CLASSES: dict[str, tuple[float, float]] = {
    "all >= 10 mm": (10.0, np.inf),
    ">= 15 mm": (15.0, np.inf),
    "10 to 15 mm": (10.0, 15.0),
    "15 to 25 mm": (15.0, 25.0),
    ">= 25 mm": (25.0, np.inf),
}
"""Diameters of the classes that lesions are reported in, from and below [mm]."""

_QUANTITIES = {
    **{"suv_max": "SUVmax", "suv_peak": "SUVpeak", "suv_mean": "SUVmean"},
    **{"mtv": f"MTV ({SEGMENTATION_RULE})", "tlg": f"TLG ({SEGMENTATION_RULE})"},
}


def summarise_lesions(lesions: pd.DataFrame, *, quantity: str) -> dict[str, tuple[int, pd.DataFrame]]:
    """Return the number of different lesions of each class, and the mean error of a quantity over them [%].

    The quantity is ``suv_max``, ``suv_peak``, ``suv_mean``, ``mtv`` or ``tlg``. Classes without lesions are left out.
    """
    summaries = {}
    for name, (low, high) in LESION_CLASSES.items():
        members = lesions_in_class(lesions, diameter_from=low, diameter_below=high)
        if len(members):
            n_lesions = len(members[["subject", "region"]].drop_duplicates())
            summaries[name] = (n_lesions, summarise(members, measure=f"{quantity}_error_percent"))
    return summaries


@dataclass(frozen=True)
class ResultTable:
    """A table of texts, as it is shown."""

    title: str
    """What the figures are, with unit."""
    header: tuple[str, ...]
    """Names of the columns."""
    rows: tuple[tuple[str, ...], ...]
    """Cells, as many as columns."""
    n_text_columns: int = 1
    """Columns from the left that hold words and not figures."""


def result_tables(
    measurements: Measurements, methods: Sequence[str], *, style_swaps: Mapping[str, pd.DataFrame] | None = None
) -> list[ResultTable]:
    """Return every table of a comparison, in the order of reading.

    The first of the methods is compared with the competitors, and the others with it as well. `style_swaps` maps
    methods to what :func:`~pipeline.comparison.measure_style_swap` found.
    """
    truth = "noise-free" if measurements.truth == "noise_free" else "full dose"
    tables = []
    for measure, (title, digits) in _MEASURES.items():
        if measure in measurements.scans:
            summary = summarise(measurements.scans, measure=measure)
            header = ("method", *(f"DRF {factor:g}" for factor in summary.columns))
            rows = tuple((str(name), *_figures(row, digits)) for name, row in summary.iterrows())
            tables.append(ResultTable(title.format(truth=truth), header, rows))
    tables.append(_conservation_table(measurements.scans))
    tables.append(_ends_table(measurements.scans, truth))
    tables.extend(_lesion_table(measurements, quantity, truth) for quantity in _QUANTITIES)
    tables.append(_agreement_table(measurements, truth))
    tables += [_concordance_table(measurements.scans), _composite_table(measurements.scans)]
    tables.extend(scanner_tables(measurements.scans, methods))
    tables.extend(_difference_tables(measurements, methods))
    tables.extend(_swap_table(name, swap) for name, swap in (style_swaps or {}).items())
    return [table for table in tables if table.rows]


def scanner_tables(scans: pd.DataFrame, methods: Sequence[str]) -> Iterator[ResultTable]:
    """Yield PSNR and gain over the best competitor for each scanner, where there are several, and filter settings."""
    scanners = list(scans["scanner"].unique())
    if len(scanners) > 1:
        for measure in (name for name in _BY_SCANNER if name in scans):
            title = _MEASURES[measure][0]
            groups = {name: summarise(scans[scans["scanner"] == name], measure=measure) for name in scanners}
            yield _grouped_table(f"{title}, by scanner", "scanner", groups, 2)
            for method in methods:
                gains = gains_by_scanner(scans, measure, method, COMPETITORS)
                table = gains.pivot_table(index="scanner", columns="dose_reduction_factor", values="gain", sort=False)
                table = table[sorted(table.columns)]
                table.loc["mean over scanners"] = table.mean()
                rows = tuple((str(name), *_figures(row, 2)) for name, row in table.iterrows())
                header = ("scanner", *(f"DRF {factor:g}" for factor in table.columns))
                yield ResultTable(
                    f"{method} minus the best of input and filters on each scanner: {title}", header, rows
                )
    if "setting" in scans and scans["setting"].notna().any():
        filters = scans[scans["setting"].notna()]
        groups = {
            n: summarise(filters[filters["scanner"] == n], measure="setting") for n in filters["scanner"].unique()
        }
        yield _grouped_table(_SETTINGS, "scanner", groups, 2)


def _conservation_table(scans: pd.DataFrame) -> ResultTable:
    """Mean over subjects of the absolute change: gains and losses do not cancel."""
    names = [str(name) for name in scans if str(name).startswith("change_percent ")]
    rest = scans[scans["method"] != "input"]  # which is no change by definition
    groups = {
        name.removeprefix("change_percent "): summarise(rest.assign(**{name: rest[name].abs()}), measure=name)
        for name in names
        if len(rest)
    }
    title = "Change of the mean SUV of regions from the input's, absolute, mean over subjects [%]"
    return _grouped_table(title, "region", groups, 2)


def _ends_table(scans: pd.DataFrame, truth: str) -> ResultTable:
    groups = {name: summarise(scans, measure=f"n_false_hot_spots {name}") for name in END_CLASSES}
    return _grouped_table(f"False hot spots per scan against {truth}, by place", "place", groups, 1)


def _grouped_table(title: str, kind: str, groups: Mapping[str, pd.DataFrame], digits: int) -> ResultTable:
    """Return a table of methods by dose for each group, under the group's name."""
    factors = sorted({factor for summary in groups.values() for factor in summary.columns})
    rows = [
        (group if i == 0 else "", str(name), *_figures(row.reindex(factors), digits))
        for group, summary in groups.items()
        for i, (name, row) in enumerate(summary.iterrows())
    ]
    return ResultTable(title, (kind, "method", *(f"DRF {factor:g}" for factor in factors)), tuple(rows), 2)


def as_markdown(tables: Sequence[ResultTable], *, preface: str = "") -> str:
    """Return the tables in Markdown, each under its title in bold, figures to the right."""
    parts = [preface.strip()] if preface.strip() else []
    for table in tables:
        rule = ["---"] * table.n_text_columns + ["---:"] * (len(table.header) - table.n_text_columns)
        lines = [_line(table.header), _line(rule, pad=False), *(_line(row) for row in table.rows)]
        parts.append(f"**{table.title}**\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _line(cells: Sequence[str], *, pad: bool = True) -> str:
    space = " " if pad else ""
    return "|" + "|".join(f"{space}{cell.replace('|', chr(92) + '|')}{space}" for cell in cells) + "|"


def _figures(values: Sequence[float] | pd.Series, digits: int) -> tuple[str, ...]:
    return tuple("n/a" if pd.isna(value) else f"{value:.{digits}f}" for value in values)


def _lesion_table(measurements: Measurements, quantity: str, truth: str) -> ResultTable:
    factors = sorted(measurements.scans["dose_reduction_factor"].unique())
    rows = []
    if len(measurements.lesions):
        for size, (n_lesions, summary) in summarise_lesions(measurements.lesions, quantity=quantity).items():
            for i, (name, row) in enumerate(summary.iterrows()):
                label = f"{size} (n = {n_lesions})" if i == 0 else ""
                rows.append((label, str(name), *_figures(row.reindex(factors), 1)))
    header = ("diameter", "method", *(f"DRF {factor:g}" for factor in factors))
    title = f"{_QUANTITIES[quantity]} bias of {measurements.regions} against {truth} [%]"
    return ResultTable(title, header, tuple(rows), 2)


def _agreement_table(measurements: Measurements, truth: str) -> ResultTable:
    found = lesion_agreement(measurements.lesions)
    rows, last = [], ("", "")
    for row in found.sort_values(["quantity", "method", "dose_reduction_factor"]).to_dict("records"):
        labels = (_QUANTITIES[row["quantity"]], str(row["method"]))
        shown = ("", "") if labels == last else labels if labels[0] != last[0] else ("", labels[1])
        limits = (_with_interval(row[n], row[f"{n}_low"], row[f"{n}_high"]) for n in ("bias", "lower", "upper"))
        rows.append((*shown, f"DRF {row['dose_reduction_factor']:g}", str(row["n_lesions"]), *limits))
        last = labels
    header = ("quantity", "method", "dose", "n", "bias", "bias - 1.96 SD", "bias + 1.96 SD")
    title = f"Limits of agreement of {measurements.regions} >= 10 mm with {truth} [%], 95 % intervals over subjects"
    return ResultTable(title, header, tuple(rows), 3)


def _concordance_table(scans: pd.DataFrame) -> ResultTable:
    found = lesion_concordance(scans)
    factors = sorted(found["dose_reduction_factor"].unique())
    rows = []
    for name, (label, *_) in CONCORDANCE.items():
        figures = found[found["figure"] == name]
        for i, method in enumerate(figures["method"].unique()):
            of_method = figures[figures["method"] == method].set_index("dose_reduction_factor").reindex(factors)
            cells = (_with_interval(row["per_100"], row["low"], row["high"]) for _, row in of_method.iterrows())
            rows.append((label if i == 0 else "", str(method), *cells))
    header = ("per 100", "method", *(f"DRF {factor:g}" for factor in factors))
    return ResultTable(f"Lost and invented lesions ({READING_RULE}), 95 % intervals", header, tuple(rows), 2)


def _composite_table(scans: pd.DataFrame) -> ResultTable:
    composite = udpet_composite(scans).dropna() if "udpet_score" in scans else pd.Series(dtype=float)
    rows = tuple((str(name), *_figures([value], 3)) for name, value in composite.items())
    title = "Composite score over DRF 4, 10, 20, 50, 100, our reading of UDPET's, not comparable with those of others"
    return ResultTable(title, ("method", "score"), rows)


def _with_interval(value: float, low: float, high: float) -> str:
    """Return a figure and its interval, where there is one."""
    if pd.isna(value):
        return "n/a"
    return f"{value:.1f}" if pd.isna(low) else f"{value:.1f} ({low:.1f} to {high:.1f})"


def _difference_tables(measurements: Measurements, methods: Sequence[str]) -> Iterator[ResultTable]:
    for method in methods:
        yield _difference_table(measurements, method, COMPETITORS, f"{method} minus the best of input and filters")
    for method in methods[1:]:
        yield _difference_table(measurements, method, methods[:1], f"{method} minus {methods[0]}")


def _difference_table(measurements: Measurements, method: str, others: Sequence[str], title: str) -> ResultTable:
    rows, last = [], ""
    for difference in compare_methods(measurements, method, others):
        label, interval = COMPARED[difference.measure][0], difference.interval
        digits = 4 if "SSIM" in label or "NRMSE" in label else 2
        mean, low, high = (f"{value:+.{digits}f}" for value in (interval.mean, interval.low, interval.high))
        dose = f"DRF {difference.dose_reduction_factor:g}"
        rows.append(
            ("" if label == last else label, dose, difference.other, difference.verdict, mean, f"{low} to {high}")
        )
        last = label
    header = ("measure", "dose", "against", "verdict", "difference", "95 % interval")
    n_subjects = measurements.n_subjects
    return ResultTable(f"{title}, paired bootstrap over {n_subjects} subjects", header, tuple(rows), 4)


def _swap_table(method: str, swap: pd.DataFrame) -> ResultTable:
    rows = []
    for (factor, style_of), group in swap.groupby(["dose_reduction_factor", "style_of"]):
        means = group[["psnr_own_style", "psnr_other_style", "change"]].mean()
        own, other = _figures(means.iloc[:2], 2)
        rows.append((f"DRF {factor:g}", f"DRF {style_of:g}", own, other, f"{means['change']:+.2f}"))
    header = ("scan", "style of", "own style", "other style", "change")
    return ResultTable(f"Style swap of {method}: PSNR against full dose [dB]", header, tuple(rows), 2)
