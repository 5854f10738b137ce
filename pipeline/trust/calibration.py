"""What was fitted on simulated scans, and where it came from: one file of the bundle, read here only."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.errors import PETError
from pipeline.shipped import own_bundle
from pipeline.trust.noise_model import NOISE_FEATURES

__all__ = [
    "DoseRule",
    "OutsideEffect",
    "RecommendationRule",
    "TrainingDomain",
    "TrustCalibration",
    "read_calibration",
]


@dataclass(frozen=True)
class RecommendationRule:
    """How one value is made of the measured and the denoised one, and how wide its interval is; see `regions`."""

    measured_to: float
    """Diameter up to which the value is the measured one [mm]."""
    denoised_from: float
    """Diameter from which it is the denoised one, above `measured_to` [mm]."""
    doubtful_to: float
    """SUVmean over the threshold that drew the region, up to which the value is the denoised one whatever the size."""
    certain_from: float
    """The same from which the size alone decides, above `doubtful_to`."""
    counting: float
    """Half width of the 95 % interval of a region of 20 mm, over the SD that counting gives the measured value."""
    size_power: float
    """Power of 20 mm over the diameter, 8 to 50 mm, that this half width is multiplied with."""
    other: float
    """Part of the value that the half width is without noise; both parts add in squares."""


DOSE_FEATURES = ("constant", "noise")
"""Terms of a dose: 1, and the logarithm of the noise that a Gaussian leaves."""


@dataclass(frozen=True)
class DoseRule:
    """How the dose reduction factor is read from the noise; see `domain`."""

    coefficients: tuple[float, ...]
    """Of `DOSE_FEATURES` in the logarithm of the factor."""
    factor_95: float
    """Largest ratio of true and read factor, of 95 of 100 scans at 95 of 100 scanners that it was not fitted on."""


@dataclass(frozen=True)
class OutsideEffect:
    """What denoising did to simulated scans outside of the training, beside the same scans inside."""

    respect: str
    """In which they lay outside, see `domain.scan_measures`; a statistic of the noise; or ``"tracer"``."""
    value: float
    """Where they lay; 0 of a tracer."""
    gain_db: float
    """Change of what denoising gains in PSNR [dB]."""
    body_percent: float
    """Change of the denoised mean SUV of the body relative to the noise-free one [%]."""
    lesion_percent: float | None
    """Change of the denoised SUVmean of lesions relative to the noise-free one [%]; None without any."""
    label: str = ""
    """What a number does not say: the name of a tracer."""


@dataclass(frozen=True)
class TrainingDomain:
    """What the training scans were, as training saw them, and what denoising did outside."""

    ranges: Mapping[str, tuple[float, float]]
    """Smallest and largest value by what `domain.scan_measures` measures; infinity where more does not matter."""
    tracers: Mapping[str, tuple[str, ...]]
    """Radionuclides by tracer."""
    effects: tuple[OutsideEffect, ...]
    """Measured on simulated scans."""


@dataclass(frozen=True)
class TrustCalibration:
    """Coefficients of the noise model and of the rules of recommendation, the training, and their provenance."""

    noise: tuple[float, ...]
    """Of `pipeline.trust.noise_model.NOISE_FEATURES`."""
    suv_mean: RecommendationRule
    """Of the mean of a region, and of its TLG."""
    suv_peak: RecommendationRule
    """Of the mean of a sphere of 1 mL where the denoised image peaks in a region."""
    dose: DoseRule
    """Reads the dose of a scan from its noise."""
    domain: TrainingDomain
    """What the network was trained on."""
    provenance: Mapping[str, Any]
    """Command, subjects, date, and how well it held on scanners left out, by section of the file."""


@lru_cache(maxsize=8)
def read_calibration(bundle: Path | None = None) -> TrustCalibration:
    """Return what ``models/trust.json`` of a bundle holds, by default of the one that comes along.

    Raises
    ------
    PETError
        The file is missing or lacks a coefficient.
    """
    path = (bundle or own_bundle()) / "models" / "trust.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        noise, regions, domain = kept["noise_model"], kept["regions"], kept["domain"]
        return TrustCalibration(
            noise=_ordered(noise["coefficients"], NOISE_FEATURES),
            suv_mean=_rule(regions["suv_mean"]),
            suv_peak=_rule(regions["suv_peak"]),
            dose=_dose_rule(domain["dose"]),
            domain=_training(domain),
            provenance={name: kept[name]["provenance"] for name in ("noise_model", "regions", "domain")},
        )
    except OSError as error:
        raise PETError(f"{path}: cannot be read, expected the coefficients of the noise model") from error
    except (ValueError, KeyError, TypeError) as error:
        raise PETError(f"{path}: {error} is missing or no number, expected the coefficients of the fit") from error


def _rule(kept: Mapping[str, float]) -> RecommendationRule:
    return RecommendationRule(**{field.name: float(kept[field.name]) for field in fields(RecommendationRule)})


def _dose_rule(kept: Mapping[str, Any]) -> DoseRule:
    return DoseRule(_ordered(kept["coefficients"], DOSE_FEATURES), float(kept["factor_95"]))


def _training(kept: Mapping[str, Any]) -> TrainingDomain:
    return TrainingDomain(
        ranges={
            n: (float(low), math.inf if high is None else float(high)) for n, (low, high) in kept["training"].items()
        },
        tracers={name: tuple(nuclides) for name, nuclides in kept["tracers"].items()},
        effects=tuple(OutsideEffect(**effect) for effect in kept["effects"]),
    )


def _ordered(values: Mapping[str, float], names: tuple[str, ...]) -> tuple[float, ...]:
    return tuple(float(values[name]) for name in names)
