"""How a tracer distributes: organ means over patients, lesions by site, and what is injected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["LesionSite", "OrganUptake", "Tracer", "draw_uptake"]

_LARGEST_DEVIATION = 2.5  # standard deviations: a population has no patients beyond
_SMALLEST_FRACTION = 0.3  # of the mean


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
    skewed: bool = False
    """Log-normal of this mean and standard deviation instead of normal: urine, and muscle of the heart."""

    def at(self, deviation: float) -> float:
        """Return the SUVbw [g/mL] of a patient who lies `deviation` standard deviations from the average.

        Cut at 2.5 standard deviations; a normal organ also at 30 % of its mean.
        """
        z = float(np.clip(deviation, -_LARGEST_DEVIATION, _LARGEST_DEVIATION))
        if self.skewed:
            variance = np.log1p((self.sd / self.mean) ** 2)
            return float(self.mean * np.exp(np.sqrt(variance) * z - variance / 2))
        return max(_SMALLEST_FRACTION * self.mean, self.mean + self.sd * z)

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest SUVbw [g/mL] that is ever drawn."""
        return self.at(-_LARGEST_DEVIATION), self.at(_LARGEST_DEVIATION)


@dataclass(frozen=True)
class LesionSite:
    """How often lesions lie at a site, and how much they take up."""

    share: float
    """Fraction of all lesions."""
    lowest: float
    """Smallest uptake, SUVbw [g/mL]; between smallest and largest it is log-uniform."""
    highest: float
    """Largest uptake, SUVbw [g/mL]."""
    source: str
    """Where the range comes from."""


@dataclass(frozen=True)
class Tracer:
    """A radiopharmaceutical: how it is given and where it goes."""

    name: str
    """What users call it, and what a DICOM header says."""
    radionuclide: str
    """Such as "F-18"."""
    activity_per_mass: float
    """Usual injected activity [Bq/kg]."""
    largest_activity: float
    """However heavy the patient, no more is injected [Bq]."""
    uptake_time: float
    """From injection to scan [s]."""
    administration_source: str
    """Who recommends activity and uptake time."""
    organs: Mapping[str, OrganUptake]
    """Uptake by organ."""
    bowel_variation: float
    """Standard deviation of the logarithm of the uptake along the bowel."""
    lesion_sites: Mapping[str, LesionSite]
    """Lesions by site; the shares add up to 1."""
    aliases: tuple[str, ...] = ()
    """Other names for it."""
    sexes: tuple[str, ...] = ("F", "M")
    """Of the patients that it is given to."""

    def injected_activity(self, body_weight: float) -> float:
        """Return the injected activity [Bq] for a body weight [kg]."""
        return min(self.activity_per_mass * body_weight, self.largest_activity)


def draw_uptake(rng: np.random.Generator, organs: Mapping[str, OrganUptake]) -> dict[str, float]:
    """Draw one patient's organ means, SUVbw [g/mL], see `OrganUptake.at`."""
    deviation = {organ: float(rng.standard_normal()) for organ in organs}
    return {organ: uptake.at(deviation[uptake.follows or organ]) for organ, uptake in organs.items()}
