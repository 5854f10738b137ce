"""The release gate: what weights must reach before they are shipped, each demand met or missed with its figure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.comparison.differences import gains_by_scanner
from pipeline.comparison.measure import Measurements, lesions_in_class, summarise
from pipeline.data.manifest import validated
from pipeline.files import read_yaml

__all__ = ["GateLine", "ReleaseGate", "check_gate", "read_gate"]

Factor = Annotated[float, Field(gt=1)]
Percent = Annotated[float, Field(gt=0)]
_NAMES = {
    "psnr_full": "PSNR against full dose",
    "psnr_repeat": "PSNR against an independent full-dose scan",
    "psnr_noise_free": "PSNR against noise-free",
    "suv_max": "SUVmax",
    "suv_peak": "SUVpeak",
    "suv_mean": "SUVmean",
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PSNRGain(_Strict):
    """PSNR over that of the best competitor of each scanner, means over its subjects."""

    measures: tuple[Literal["psnr_full", "psnr_repeat", "psnr_noise_free"], ...] = Field(min_length=1)
    """What the PSNR is taken against."""
    competitors: tuple[Literal["input", "gaussian", "nonlocal_means", "bm4d"], ...] = Field(min_length=1)
    """The methods to beat, all of which must have been measured."""
    optional: tuple[Literal["bm4d"], ...] = ()
    """Methods to beat where they were measured."""
    gain_db: dict[Factor, float]
    """Dose reduction factor -> least gain, mean over scanners [dB]."""
    each_scanner_db: dict[Factor, float] = {}
    """Dose reduction factor -> least gain on every scanner with its voxels [dB]."""


class Conservation(_Strict):
    """Mean SUV of regions against that of the noisy scan itself, absolute change, mean over subjects."""

    regions: tuple[Literal["body", "liver", "lung", "muscle", "brain"], ...] = Field(min_length=1)
    change_percent: dict[Factor, Percent]
    """Dose reduction factor -> largest change [%]."""


class LesionBias(_Strict):
    """Mean bias of lesions of a size against the truth."""

    diameter_from_mm: float = Field(ge=0)
    """Smallest diameter [mm]."""
    diameter_below_mm: float | None = None
    """Diameter that is too large already [mm]; None is without end."""
    quantities: tuple[Literal["suv_max", "suv_peak", "suv_mean"], ...] = Field(min_length=1)
    bias_percent: dict[Factor, Percent]
    """Dose reduction factor -> largest bias in either direction [%]."""

    @model_validator(mode="after")
    def _in_order(self) -> "LesionBias":
        if self.diameter_below_mm is not None and self.diameter_below_mm <= self.diameter_from_mm:
            raise ValueError("diameter_below_mm must be larger than diameter_from_mm")
        return self


class ReleaseGate(_Strict):
    """Demands on weights; what is left out is not demanded."""

    psnr_gain: PSNRGain | None = None
    conservation: Conservation | None = None
    lesions: tuple[LesionBias, ...] = ()
    false_hot_spots: dict[Factor, Annotated[float, Field(ge=0)]] = {}
    """Dose reduction factor -> largest mean number per scan."""
    style_swap_db: float | None = Field(default=None, gt=0)
    """Least mean loss of PSNR when the lowest and the highest dose exchange styles, either scan [dB]."""

    @model_validator(mode="after")
    def _demands_something(self) -> "ReleaseGate":
        if not any((self.psnr_gain, self.conservation, self.lesions, self.false_hot_spots, self.style_swap_db)):
            raise ValueError("the gate demands nothing")
        return self


@dataclass(frozen=True)
class GateLine:
    """One demand and whether it is met."""

    met: bool
    """A demand on something that was not measured is missed."""
    demand: str
    found: str
    """The figure."""

    def __str__(self) -> str:
        return f"{'met   ' if self.met else 'MISSED'}  {self.demand}: {self.found}"


def read_gate(path: str | Path) -> ReleaseGate:
    """Read a gate from a YAML file.

    Raises
    ------
    PETError
        If the file is not YAML, or not a gate.
    """
    return validated(ReleaseGate, read_yaml(Path(path)), path, expected="the demands of a release gate")


def check_gate(
    gate: ReleaseGate, measurements: Measurements, method: str, *, style_swap: pd.DataFrame | None = None
) -> list[GateLine]:
    """Return one line per demand on a method; what was not measured is missed.

    `style_swap` is from :func:`~pipeline.comparison.measure_style_swap`, or None where the method has no style.
    """
    scans = measurements.scans
    lines = list(_psnr_lines(gate.psnr_gain, scans, method)) if gate.psnr_gain else []
    lines += _conservation_lines(gate.conservation, scans, method) if gate.conservation else []
    for demand in gate.lesions:
        lines.extend(_lesion_lines(demand, measurements.lesions, method))
    for factor, most in sorted(gate.false_hot_spots.items()):
        spots = _mean(scans, "n_false_hot_spots", method, factor)
        text = f"DRF {factor:g}, false hot spots per scan at most {most:g}"
        lines.append(_not_measured(text) if spots is None else GateLine(spots <= most, text, f"{spots:.3g}"))
    if gate.style_swap_db is not None:
        lines.extend(_style_lines(gate.style_swap_db, style_swap))
    return lines


def _psnr_lines(demand: PSNRGain, scans: pd.DataFrame, method: str) -> Iterator[GateLine]:
    measured = set(scans["method"])
    rivals = [*demand.competitors, *(name for name in demand.optional if name in measured)]
    for measure in demand.measures:
        gains = gains_by_scanner(scans, measure, method, rivals)
        for factor in sorted({*demand.gain_db, *demand.each_scanner_db}):
            rows = gains[gains["dose_reduction_factor"] == factor]
            # Of a demand on every scanner none may be missing, and no competitor.
            complete = len(rows) == scans["scanner"].nunique() and set(rivals) <= measured
            what = f"DRF {factor:g}, {_NAMES[measure]}"
            if (least := demand.gain_db.get(factor)) is not None:
                text = f"{what}, >= {least:g} dB above the best of {', '.join(rivals)}"
                yield _mean_gain(text, least, rows) if complete else _not_measured(text)
            if (least := demand.each_scanner_db.get(factor)) is not None:
                text = f"{what}, >= {least:g} dB above it on every scanner"
                yield _least_gain(text, least, rows) if complete else _not_measured(text)


def _mean_gain(text: str, least: float, rows: pd.DataFrame) -> GateLine:
    gain, own, best = (float(rows[name].mean()) for name in ("gain", "own", "best"))
    others = ", ".join(dict.fromkeys(rows["other"]))
    return GateLine(gain >= least, text, f"{gain:+.2f} dB over {others} ({own:.2f} and {best:.2f})")


def _least_gain(text: str, least: float, rows: pd.DataFrame) -> GateLine:
    worst = rows.loc[rows["gain"].idxmin()]
    n_below = int((rows["gain"] < least).sum())
    found = (
        f"least {worst['gain']:+.2f} dB, over {worst['other']} on {worst['scanner']}; {n_below} of {len(rows)} below"
    )
    return GateLine(n_below == 0, text, found)


def _conservation_lines(demand: Conservation, scans: pd.DataFrame, method: str) -> Iterator[GateLine]:
    for factor, limit in sorted(demand.change_percent.items()):
        for region in demand.regions:
            name = f"change_percent {region}"
            change = _mean(scans.assign(**{name: scans[name].abs()}), name, method, factor) if name in scans else None
            yield _within(f"DRF {factor:g}, mean SUV of {region} against the input's", change, limit)


def _lesion_lines(demand: LesionBias, lesions: pd.DataFrame, method: str) -> Iterator[GateLine]:
    upper = float("inf") if demand.diameter_below_mm is None else demand.diameter_below_mm
    members = lesions_in_class(lesions, diameter_from=demand.diameter_from_mm, diameter_below=upper)
    n_lesions = len(members[["subject", "region"]].drop_duplicates())
    size = f"{demand.diameter_from_mm:g} " + ("mm and more" if upper == float("inf") else f"to {upper:g} mm")
    for factor, limit in sorted(demand.bias_percent.items()):
        for quantity in demand.quantities:
            bias = _mean(members, f"{quantity}_error_percent", method, factor)
            yield _within(f"DRF {factor:g}, lesion {_NAMES[quantity]} bias, {size} (n = {n_lesions})", bias, limit)


def _style_lines(least: float, swap: pd.DataFrame | None) -> Sequence[GateLine]:
    if swap is None:
        return [_not_measured(f"style swap costs >= {least:g} dB")]
    lines = []
    for (factor, style_of), rows in swap.groupby(["dose_reduction_factor", "style_of"]):
        loss = -float(rows["change"].mean())
        demand = f"DRF {factor:g} under the style of DRF {style_of:g} loses >= {least:g} dB"
        lines.append(GateLine(loss >= least, demand, f"{loss:.2f} dB"))
    return lines


def _mean(rows: pd.DataFrame, measure: str, method: str, factor: float) -> float | None:
    """Mean of a measure, None where nothing was measured."""
    if measure not in rows or rows.empty:
        return None
    summary = summarise(rows, measure=measure)
    value: Any = summary.loc[method, factor] if method in summary.index and factor in summary.columns else None
    return None if value is None or pd.isna(value) else float(value)


def _within(demand: str, bias: float | None, limit: float) -> GateLine:
    text = f"{demand} within {limit:g} %"
    return _not_measured(text) if bias is None else GateLine(abs(bias) <= limit, text, f"{bias:+.2f} %")


def _not_measured(demand: str) -> GateLine:
    return GateLine(False, demand, "not measured")
