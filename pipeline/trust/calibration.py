"""What was fitted on simulated scans, and where it came from: one file of the bundle, read here only."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.errors import PETError
from pipeline.shipped import own_bundle
from pipeline.trust.noise_model import NOISE_FEATURES

__all__ = ["RecommendationRule", "TrustCalibration", "read_calibration"]

RULE_FEATURES = ("constant", "diameter", "noise", "drawn_by_noise")
"""Terms of a rule: 1, log of the diameter over 20 mm, log of the relative SD, part of the region that noise drew."""


@dataclass(frozen=True)
class RecommendationRule:
    """How one value is made of the measured and the denoised one, and how wide its interval is; see `regions`."""

    weight: tuple[float, ...]
    """Of `RULE_FEATURES` in the logit of the measured value's weight."""
    shift: tuple[float, ...]
    """Of `RULE_FEATURES` in the shift of the combined value's logarithm, per relative SD of the measured value."""
    width: tuple[float, ...]
    """Of `RULE_FEATURES` in the logarithm of the relative half width of the 95 % interval."""


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


def _rule(kept: Mapping[str, Mapping[str, float]]) -> RecommendationRule:
    return RecommendationRule(*(_ordered(kept[part], RULE_FEATURES) for part in ("weight", "shift", "width")))


def _ordered(values: Mapping[str, float], names: tuple[str, ...]) -> tuple[float, ...]:
    return tuple(float(values[name]) for name in names)
