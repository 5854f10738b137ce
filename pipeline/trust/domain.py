"""Whether a scan lies within what the network was trained on, how far outside, what that did; and its dose, from noise.

A network is judged on scans that are like those of its training. What is measured here of a scan was measured of the
training scans, too, as training sees them; and simulated scans were pushed outside in each respect, so that a warning
can say what that did to them, instead of that it may do something.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.constants import STYLE_RANGE
from pipeline.errors import UndefinedMeasureError
from pipeline.images import body_mask, gaussian_filter_mm, smoothed_noise_meter
from pipeline.pet import PETHeader, PETSeries
from pipeline.pet.tracer_names import tracer_in
from pipeline.trust.calibration import DoseRule, OutsideEffect, TrainingDomain, TrustCalibration
from pipeline.trust.unfamiliar import farthest_statistic, style_rows, unfamiliar_noise

__all__ = [
    "Domain",
    "DomainRow",
    "DoseReading",
    "domain_of",
    "outside_of_training",
    "read_dose",
    "scan_measures",
    "tracer_of",
]

SMOOTHING = 8.0
"""Width of the Gaussian after which SUV is called highest or negative [mm]: means over 1 mL, not single voxels."""

_SHORTEST = 40.0  # [mm] of scan that a dose is read from: the noise meter averages over 30 mm

_RESPECTS = {
    "voxel_size": ("voxel size", " mm"),
    "axial_extent": ("axial field of view", " mm"),
    "body_width": ("smaller transaxial extent of the body", " mm"),
    "highest_suv": (f"highest SUV after a Gaussian of {SMOOTHING:g} mm", ""),
    "body_mean": ("mean SUV of the body", ""),
    "negative_part": (f"part of the body below SUV 0 after a Gaussian of {SMOOTHING:g} mm", " %"),
}
"""Of what `scan_measures` measures: name and unit."""


@dataclass(frozen=True)
class DoseReading:
    """Dose reduction factor relative to a clinical full dose, read from the noise.

    A clinical dose is one whose noise gives the liver a coefficient of variation of 10 %.
    """

    factor: float
    """Best estimate."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end of the 95 % interval."""

    @property
    def statement(self) -> str:
        """The reading in words, such as ``"reads 1/20 of a clinical dose (1/8 to 1/50)"``."""
        of = " of" if self.factor >= 1 else ""
        return f"reads {_part(self.factor)}{of} a clinical dose ({_part(self.low)} to {_part(self.high)})"


@dataclass(frozen=True)
class DomainRow:
    """One respect in which a scan is compared with the training, ready to be shown."""

    name: str
    """What is compared, with its unit."""
    value: str
    """Of the scan."""
    training: str
    """Range of the training."""
    outside: bool
    """Whether the scan lies outside of it."""


@dataclass(frozen=True)
class Domain:
    """Dose of a scan, and where it lies outside of the training."""

    dose: DoseReading | None
    """Reading of the dose; None where there is none."""
    dose_statement: str
    """The reading in words, or why there is none."""
    warnings: tuple[str, ...]
    """One line for each respect in which the scan lies outside of the training."""
    rows: tuple[DomainRow, ...]
    """All respects that were compared."""


def domain_of(series: PETSeries, *, style_deviation: Mapping[str, float], calibration: TrustCalibration) -> Domain:
    """Return what the noise of a scan says about its dose, and where the scan lies outside of the training.

    Parameters
    ----------
    series
        The scan before denoising.
    style_deviation
        Its noise beside that of the training scans [SD], see `UniPET.style_deviation`; empty for other networks.
    calibration
        Ranges of the training, effects outside of it, and the rule that reads the dose.
    """
    body = body_mask(series.suv, voxel_size=series.voxel_size)
    dose = read_dose(series.suv, voxel_size=series.voxel_size, rule=calibration.dose, body=body)
    rows, warnings = outside_of_training(
        series, body=body, style_deviation=style_deviation, training=calibration.domain
    )
    if isinstance(dose, str):
        return Domain(dose=None, dose_statement=dose, warnings=warnings, rows=rows)
    return Domain(dose=dose, dose_statement=dose.statement, warnings=warnings, rows=rows)


def read_dose(
    suv: NDArray[np.floating], *, voxel_size: Sequence[float], rule: DoseRule, body: NDArray[np.bool_] | None = None
) -> DoseReading | str:
    """Return the dose reduction factor that a scan's noise has, or in one line why it cannot be read.

    Relative to a dose whose noise gives the liver a coefficient of variation of 10 %, which clinical full doses have
    between 7 and 16 %, a factor of 5 in dose. SUV (X, Y, Z) [g/mL]; the body, if it is known already, of the same
    shape.
    """
    length = suv.shape[2] * voxel_size[2]
    if length < _SHORTEST:
        return f"no dose is read: the scan is {length:.0f} mm long, expected at least {_SHORTEST:.0f} mm"
    try:
        noise = smoothed_noise_meter(suv, voxel_size=voxel_size, body=body)
    except UndefinedMeasureError as error:
        return f"no dose is read: {error} 25 mm below the skin"
    if noise <= 0:
        return "no dose is read: the scan has no noise"
    factor = float(np.exp(dose_features(noise) @ rule.coefficients))
    return DoseReading(factor, factor / rule.factor_95, factor * rule.factor_95)


def dose_features(noise: float) -> NDArray[np.float64]:
    """Return the terms of a dose, shape (2,), see `pipeline.trust.calibration.DOSE_FEATURES`.

    `noise` is that of `smoothed_noise_meter`. Voxels are left out on purpose: scanners with small ones are quieter, but
    a scan that was resampled has not had another dose.
    """
    return np.array([1.0, np.log(noise)])


def scan_measures(series: PETSeries, *, body: NDArray[np.bool_]) -> dict[str, tuple[float, float]]:
    """Return what of a scan is compared with the training: the smallest and the largest value of each respect.

    Voxel size, field of view and body [mm], SUV [g/mL], part of the body [%]. Air beside the body is of no matter, the
    network does not see it; a field of view that cuts the body does. Without a body only the first two.
    """
    sides = series.voxel_size
    length = series.suv.shape[2] * sides[2]
    found = {"voxel_size": (min(sides), max(sides)), "axial_extent": (length, length)}
    if not body.any():
        return found
    (box,) = ndimage.find_objects(body.astype(np.uint8))
    width = min((axis.stop - axis.start) * side for axis, side in zip(box[:2], sides[:2], strict=True))
    inside = body[box]
    suv = gaussian_filter_mm(series.suv[box], fwhm=SMOOTHING, voxel_size=sides)[inside]
    highest, negative = float(suv.max()), 100 * float((suv < 0).mean())
    mean = float(series.suv[body].mean(dtype=np.float64))
    return found | {
        "body_width": (width, width),
        "highest_suv": (highest, highest),
        "body_mean": (mean, mean),
        "negative_part": (negative, negative),
    }


def tracer_of(header: PETHeader) -> tuple[str, str]:
    """Return tracer and radionuclide of a scan, each ``""`` where the header does not say."""
    return tracer_in(header.radiopharmaceutical) or header.radiopharmaceutical.strip(), header.radionuclide


def outside_of_training(
    series: PETSeries, *, body: NDArray[np.bool_], style_deviation: Mapping[str, float], training: TrainingDomain
) -> tuple[tuple[DomainRow, ...], tuple[str, ...]]:
    """Return a scan beside the training in every respect, and a line of warning for each that lies outside.

    A line says how far outside, and what that did on the simulated scan whose value is nearest.
    """
    measured = scan_measures(series, body=body)
    rows: list[DomainRow] = []
    warnings: list[str] = []
    for name, (low, high) in training.ranges.items():
        row, value = _compared(name, measured.get(name), low, high)
        rows.append(row)
        if row.outside:
            effect = _nearest(training.effects, name, value, (low, high))
            warnings.append(f"{row.name} {row.value}, training {row.training}: {_did(effect, _RESPECTS[name][1])}")
    tracer, nuclide = tracer_of(series.header)
    row = _tracer_row(tracer, nuclide, training.tracers)
    rows.append(row)
    if row.outside:
        effect = _worst_tracer(training.effects, tracer)
        warnings.append(f"tracer {row.value}, training {row.training}: {_did(effect)}")
    rows += [
        DomainRow(
            f"noise: {r['meaning']}", f"{r['deviation']:+.1f} SD", f"within {STYLE_RANGE:g} SD", bool(r["outside"])
        )
        for r in style_rows(style_deviation)
    ]
    sentence = unfamiliar_noise(style_deviation)
    if sentence is not None:
        name, deviation = farthest_statistic(style_deviation)
        effect = _nearest(training.effects, name, deviation, (-STYLE_RANGE, STYLE_RANGE))
        warnings.append(f"{sentence}: {_did(effect, ' SD of the first')}")
    return tuple(rows), tuple(warnings)


def _compared(name: str, measured: tuple[float, float] | None, low: float, high: float) -> tuple[DomainRow, float]:
    """Return the row of a respect, and the value that is farthest outside; that of a scan inside is of no matter."""
    said, unit = _RESPECTS[name]
    training = f"from {_number(low)}{unit}" if np.isinf(high) else f"{_number(low)} to {_number(high)}{unit}"
    if measured is None:
        return DomainRow(said, "not measured, no body was found", training, outside=False), low
    below, above = measured
    outside = below < low or above > high
    # Of a scan that is outside at both ends, the end that is farther.
    value = above if above / _size(high) > low / _size(below) else below
    shown = _number(value) if outside or below == above else f"{_number(below)} to {_number(above)}"
    return DomainRow(said, f"{shown}{unit}", training, outside), value


def _tracer_row(tracer: str, nuclide: str, trained: Mapping[str, tuple[str, ...]]) -> DomainRow:
    """Return the row of the tracer; a header that does not say it is no reason to warn."""
    training = ", ".join(f"{name} ({' or '.join(nuclides)})" for name, nuclides in trained.items())
    known = {n for nuclides in trained.values() for n in nuclides} if not tracer else set(trained.get(tracer, ()))
    outside = bool(tracer and not known) or bool(nuclide and nuclide not in known)
    value = " ".join(part for part in (tracer, f"({nuclide})" if nuclide else "") if part) or "not stated"
    return DomainRow("tracer", value, training, outside)


def _nearest(
    effects: Sequence[OutsideEffect], respect: str, value: float, limits: tuple[float, float]
) -> OutsideEffect | None:
    """Return the effect nearest, by ratio, to a value outside of the limits and on its side; None without any."""
    low, high = limits
    beyond = [e for e in effects if e.respect == respect and (e.value > high if value > high else e.value < low)]
    return min(beyond, key=lambda e: abs(np.log(_size(e.value) / _size(value))), default=None)


def _size(value: float) -> float:
    return max(abs(value), 1e-6)


def _worst_tracer(effects: Sequence[OutsideEffect], tracer: str) -> OutsideEffect | None:
    """Return the effect of a tracer; of one that was not simulated, that of the one that gained least."""
    of_tracers = [e for e in effects if e.respect == "tracer"]
    return min(of_tracers, key=lambda e: (tracer_in(e.label) != tracer, e.gain_db), default=None)


def _did(effect: OutsideEffect | None, unit: str = "") -> str:
    """Return in words what being outside did on simulated scans."""
    if effect is None:
        return "what that does was not measured"
    gain = f"{abs(effect.gain_db):.1f} dB {'more' if effect.gain_db > 0 else 'less'}"
    lesions = "" if effect.lesion_percent is None else f", SUVmean of lesions by {_percent(effect.lesion_percent)}"
    where = effect.label or f"{_number(effect.value)}{unit}"
    return (
        f"on simulated scans of {where} denoising gained {gain}, "
        f"the mean SUV of the body changed by {_percent(effect.body_percent)}{lesions}"
    )


def _percent(value: float) -> str:
    return f"{round(value) + 0:+d} %"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _part(factor: float) -> str:
    """Return a dose reduction factor as a part of the dose, such as ``"1/20"``; below 1 as a multiple."""
    part = f"{float(f'{max(factor, 1 / factor):.2g}'):g}"
    return f"1/{part}" if factor >= 1 else f"{part} times"
