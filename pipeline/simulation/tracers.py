"""Tracer uptake: what an organ's SUV usually is, how much it varies between patients, and who says so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["FDG", "OrganUptake", "draw_uptake"]

_WANG_2007 = "SUV atlas of 98 patients, Mol Imaging Biol 2007;9:83, doi 10.1007/s11307-006-0075-y"
_CUSTOMARY = "customary reading-room value, not traced to one publication"


@dataclass(frozen=True)
class OrganUptake:
    """Distribution of the mean uptake of one organ over patients."""

    mean: float
    """Population mean of the organ's SUVbw [g/mL]."""
    sd: float
    """Standard deviation between patients [g/mL]."""
    source: str
    """Where the value comes from."""
    follows: str | None = None
    """Organ whose deviation from the mean this one shares: the brain is high or low as a whole."""


FDG: dict[str, OrganUptake] = {
    "grey_matter": OrganUptake(9.0, 1.8, _CUSTOMARY),
    "white_matter": OrganUptake(3.2, 0.7, _CUSTOMARY, follows="grey_matter"),
    "cerebellum": OrganUptake(
        8.0, 1.6, _WANG_2007 + ", 8.0 +- 2.2, spread narrowed to that of grey matter", follows="grey_matter"
    ),
    "tonsil": OrganUptake(3.45, 1.4, _WANG_2007),
    "sublingual": OrganUptake(3.3, 1.5, _WANG_2007),
    "testis": OrganUptake(2.57, 0.56, _WANG_2007),
    "parotid": OrganUptake(2.0, 0.6, _CUSTOMARY),
    "thyroid": OrganUptake(1.4, 0.4, _CUSTOMARY),
    "eye_muscle": OrganUptake(2.3, 0.5, _CUSTOMARY),
    "blood": OrganUptake(1.7, 0.3, _CUSTOMARY),
    "lung": OrganUptake(0.45, 0.12, _CUSTOMARY),
    "liver": OrganUptake(2.3, 0.4, _CUSTOMARY + "; 343 patients had 1.9 +- 0.4, Iran J Radiol 2019;16:e84881"),
    "spleen": OrganUptake(1.9, 0.35, _CUSTOMARY),
    "kidney": OrganUptake(2.6, 0.6, _CUSTOMARY),
    "pancreas": OrganUptake(1.5, 0.3, _CUSTOMARY),
    "adrenal": OrganUptake(1.5, 0.4, _CUSTOMARY),
    "stomach": OrganUptake(2.0, 0.6, _CUSTOMARY),
    "bowel": OrganUptake(1.5, 0.6, _CUSTOMARY),
    "uterus": OrganUptake(1.8, 0.6, _CUSTOMARY),
    "prostate": OrganUptake(1.6, 0.4, _CUSTOMARY),
    "breast": OrganUptake(0.7, 0.25, _CUSTOMARY),
    "marrow": OrganUptake(1.5, 0.4, _CUSTOMARY),
    "cortical_bone": OrganUptake(0.5, 0.15, _CUSTOMARY),
    "muscle": OrganUptake(0.65, 0.12, _CUSTOMARY),
    "fat": OrganUptake(0.28, 0.08, _CUSTOMARY),
    "skin": OrganUptake(0.8, 0.1, _CUSTOMARY),
}
"""FDG, about 60 minutes after injection."""


def draw_uptake(rng: np.random.Generator, table: dict[str, OrganUptake]) -> dict[str, float]:
    """Draw one patient's organ means: normal, cut at 2.5 standard deviations and at 30 % of the mean.

    Parameters
    ----------
    rng
        Source of randomness.
    table
        Population values, by organ.

    Returns
    -------
    dict
        SUVbw [g/mL] by organ.
    """
    deviation = {organ: float(np.clip(rng.standard_normal(), -2.5, 2.5)) for organ in table}
    return {
        organ: max(0.3 * uptake.mean, uptake.mean + uptake.sd * deviation[uptake.follows or organ])
        for organ, uptake in table.items()
    }
