"""What the page shows of the findings: curves, quality against cost, and images."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from pipeline.benchmark.parts.images import SAMPLE_WINDOW, grey_image
from pipeline.benchmark.reporting.findings import LARGE, Findings
from pipeline.benchmark.reporting.tables import summary_frame
from pipeline.comparison import mean_interval
from pipeline.report import Curve, MontageRow, PageFigure, Point, curves_figure, montage_figure, points_figure

__all__ = ["cost_figures", "curve_figures", "phantom_figures", "sample_figures"]

_A_ROW = 7  # panels
_CLASSICAL = "Input and filters"
_BAND = "Bands are 95 % bootstrap intervals over subjects; dashed lines are trainings from other seeds."


def curve_figures(findings: Findings) -> list[PageFigure]:
    """Return the curves against the dose: PSNR, its difference to the reference, bias of lesions, detection."""
    return [
        PageFigure(name=name, title=title, caption=caption, png=curves_figure(curves, y_label=label, zero_line=zero))
        for name, title, caption, label, zero, curves in _curves(findings)
        if curves
    ]


def _curves(findings: Findings) -> Iterator[tuple[str, str, str, str, bool, list[Curve]]]:
    found, reference = findings.images, findings.definition.reference
    if found is not None:
        scans, lesions = found.scans, findings.large_lesions(found)
        for measure, against in (("psnr_noise_free", "noise-free"), ("psnr_full", "full dose")):
            if measure not in scans:
                continue
            what = f"PSNR against {against}"
            yield measure, what, f"Peak 20 SUV. {_BAND}", "PSNR [dB]", False, _curves_of(findings, scans, measure)
            # The noisy input lies so far below that nothing else could be told apart.
            beside = _minus_reference(scans[scans["method"] != "input"], measure, reference)
            title, label = f"{what}, minus {findings.label(reference)}", "difference [dB]"
            curves = _curves_of(findings, beside, measure) if set(beside["method"]) - {reference} else []
            yield f"{measure}_difference", title, f"Paired, scan by scan. {_BAND}", label, True, curves
        for measure, name in (("suv_mean_error_percent", "SUVmean"), ("suv_peak_error_percent", "SUVpeak")):
            if measure in lesions and lesions[measure].notna().any():
                title = f"Bias of lesion {name}"
                caption = f"Lesions of {LARGE:g} mm and more, against the truth. {_BAND}"
                yield measure, title, caption, "bias [%]", True, _curves_of(findings, lesions, measure)
    if "auc" in findings.detection:
        title, bands = "Detection of lesions at a known place", "bands are 95 % intervals of a jackknife over patients"
        caption = f"Area under the ROC of a channelized Hotelling observer, sizes and contrasts together; {bands}."
        yield "auc", title, caption, "AUC", False, _curves_of(findings, findings.detection, "auc")
        title, caption = f"{title}, less that in the noisy input", f"Paired, patient by patient; {bands}."
        yield "gain", title, caption, "difference of AUC", True, _curves_of(findings, findings.detection, "gain")


def _minus_reference(scans: pd.DataFrame, measure: str, reference: str) -> pd.DataFrame:
    """Return the rows with a measure less that of the reference on the same scan."""
    key = ["subject", "dose_reduction_factor"]
    own = scans[scans["method"] == reference].set_index(key)[measure].rename("reference")
    joined = scans.join(own, on=key)
    return joined.assign(**{measure: joined[measure] - joined["reference"]}).dropna(subset=[measure])


def _curves_of(findings: Findings, rows: pd.DataFrame, measure: str) -> list[Curve]:
    curves = []
    for name in (name for name in findings.rows.index if name in set(rows["method"])):
        own = rows[rows["method"] == name].dropna(subset=[measure])
        factors = sorted(float(factor) for factor in own["dose_reduction_factor"].unique())
        bands = [_band(own[own["dose_reduction_factor"] == factor], measure) for factor in factors]
        curves.append(
            Curve(
                name=findings.label(name),
                group=_group(findings, name),
                factors=factors,
                mean=[mean for mean, _, _ in bands],
                low=[low for _, low, _ in bands],
                high=[high for _, _, high in bands],
                is_repeat=int(findings.rows.loc[name, "seed"]) > 0,
            )
        )
    return curves


def _band(rows: pd.DataFrame, measure: str) -> tuple[float, float, float]:
    """Return the mean of the rows of one dose and its interval: the stored one, or that over subjects."""
    mean = float(rows[measure].mean())
    if f"{measure}_low" in rows:
        return mean, float(rows[f"{measure}_low"].mean()), float(rows[f"{measure}_high"].mean())
    interval = mean_interval(rows[measure], groups=list(rows["subject"]))
    return (mean, np.nan, np.nan) if interval is None else (mean, interval.low, interval.high)


def _group(findings: Findings, name: str) -> str:
    entry = findings.definition.methods.get(str(findings.rows.loc[name, "entry"]))
    return _CLASSICAL if entry is None else entry.group


def phantom_figures(findings: Findings) -> list[PageFigure]:
    """Return the contrast recovery of the phantom's spheres by diameter, a figure for each ratio and dose."""
    frame = findings.table("phantom", "spheres")
    figures = []
    for (ratio, factor), rows in [] if frame.empty else frame.groupby(["ratio", "dose_reduction_factor"]):
        if factor == 1:
            continue
        curves = [_recovery_of(findings, name, rows[rows["method"] == name]) for name in rows["method"].unique()]
        title = f"Contrast recovery of the NEMA phantom's spheres, {ratio:g} to 1, DRF {factor:g}"
        caption = "NEMA NU 2; bands are one SD over repeated scans."
        drawn = curves_figure(curves, y_label="recovery [%]", x_label="diameter [mm]")
        figures.append(PageFigure(name=f"phantom_{ratio:g}_{factor:g}", title=title, caption=caption, png=drawn))
    return figures


def _recovery_of(findings: Findings, name: str, rows: pd.DataFrame) -> Curve:
    rows = rows.sort_values("diameter")
    mean = rows["contrast_recovery"]
    spread = rows["contrast_recovery_sd"] if "contrast_recovery_sd" in rows else mean * np.nan
    return Curve(
        name=findings.label(name),
        group=_group(findings, name),
        factors=list(rows["diameter"]),
        mean=list(mean),
        low=list(mean - spread),
        high=list(mean + spread),
        is_repeat=int(findings.rows.loc[name, "seed"]) > 0,
    )


def cost_figures(findings: Findings) -> list[PageFigure]:
    """Return quality against seconds and against multiply-adds, where they were measured."""
    frame = summary_frame(findings)
    reference = findings.label(findings.definition.reference)
    figures = []
    for column, title, label in (
        ("ratio", "Quality against time", f"time of a scan over that of {reference}"),
        ("multiply_adds", "Quality against multiply-adds", "thousand multiply-adds a voxel"),
    ):
        if column not in frame or "psnr_noise_free" not in frame:
            continue
        kept = frame.dropna(subset=[column, "psnr_noise_free"])
        points = [
            Point(
                name=row["label"],
                group=_group(findings, str(name)),
                cost=float(row[column]),
                quality=float(row["psnr_noise_free"]),
            )
            for name, row in kept[kept[column] > 0].iterrows()
        ]
        if points:
            caption = "Mean PSNR against noise-free over subjects and doses; logarithmic axis."
            drawn = points_figure(points, x_label=label, y_label="PSNR [dB]")
            figures.append(PageFigure(name=f"cost_{column}", title=title, caption=caption, png=drawn))
    return figures


def sample_figures(findings: Findings) -> list[PageFigure]:
    """Return one scan by every method at one scale: coronal projections, and one coronal plane."""
    frame = findings.table("samples", "samples")
    if frame.empty:
        return []
    first = {"input": 0, "full dose": 1, "noise-free": 2}
    frame = frame.assign(place=frame["image"].map(first).fillna(3)).sort_values("place", kind="stable")
    figures = []
    for view in frame["view"].unique():
        rows = frame[frame["view"] == view]
        panels = [(findings.label(str(row["image"])), grey_image(row)) for _, row in rows.iterrows()]
        one = rows.iloc[0]
        aspect = float(one["pixel_height_mm"]) / float(one["pixel_width_mm"])
        lines = [
            MontageRow(name="", panels=tuple(panels[start : start + _A_ROW]), aspect=aspect)
            for start in range(0, len(panels), _A_ROW)
        ]
        low, high = SAMPLE_WINDOW
        caption = (
            f"Subject {one['subject']} at DRF {one['dose_reduction_factor']:g}; in every panel white is SUV {low:g}, "
            f"black SUV {high:g} and above."
        )
        drawn = montage_figure(lines, suv_window=SAMPLE_WINDOW)
        title = f"One scan by every method, coronal {view}"
        figures.append(PageFigure(name=f"samples_{view}", title=title, caption=caption, png=drawn))
    return figures
