"""What was fitted on simulated scans, and where it came from: one file of the bundle, read here only."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.errors import PETError
from pipeline.shipped import own_bundle
from pipeline.trust.noise_model import NOISE_FEATURES

__all__ = ["RecommendationRule", "TrustCalibration", "read_calibration"]


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


@dataclass(frozen=True)
class TrustCalibration:
    """Coefficients of the noise model and of the rules of recommendation, and their provenance."""

    noise: tuple[float, ...]
    """Of `pipeline.trust.noise_model.NOISE_FEATURES`."""
    suv_mean: RecommendationRule
    """Of the mean of a region, and of its TLG."""
    suv_peak: RecommendationRule
    """Of the mean of a sphere of 1 mL where the denoised image peaks in a region."""
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
        noise, regions = kept["noise_model"], kept["regions"]
        return TrustCalibration(
            noise=_ordered(noise["coefficients"], NOISE_FEATURES),
            suv_mean=_rule(regions["suv_mean"]),
            suv_peak=_rule(regions["suv_peak"]),
            provenance={"noise_model": noise["provenance"], "regions": regions["provenance"]},
        )
    except OSError as error:
        raise PETError(f"{path}: cannot be read, expected the coefficients of the noise model") from error
    except (ValueError, KeyError, TypeError) as error:
        raise PETError(f"{path}: {error} is missing or no number, expected the coefficients of the fit") from error


def _rule(kept: Mapping[str, float]) -> RecommendationRule:
    return RecommendationRule(**{field.name: float(kept[field.name]) for field in fields(RecommendationRule)})


def _ordered(values: Mapping[str, float], names: tuple[str, ...]) -> tuple[float, ...]:
    return tuple(float(values[name]) for name in names)
