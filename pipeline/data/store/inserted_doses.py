"""Low doses for subjects of which only the full dose exists, made while a store is prepared."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from pipeline.images.liver import measured_liver_cov
from pipeline.pet import PETSeries
from pipeline.simulation import GENERIC, Scanner
from pipeline.simulation.series_scan import low_dose_of

__all__ = ["NoiseInsertion"]

_VERSION = 2
"""Goes up when the same settings give other images."""


@dataclass(frozen=True, kw_only=True)
class NoiseInsertion:
    """Which doses to insert into full-dose images, and how; see :func:`~pipeline.simulation.insert_noise`."""

    dose_reduction_factors: tuple[float, ...]
    """Different factors above 1."""
    scanner: Scanner = field(default_factory=lambda: GENERIC)
    """What the subjects were scanned with, or what is nearest; the post-filter is fitted to each subject's noise."""
    seed: int = 0
    """Each subject's noise follows from this and its id, whatever other subjects there are."""
    liver_cov: float | None = None
    """Coefficient of variation of the noise in the liver at full dose; None measures it in every subject."""

    def settings(self) -> dict[str, Any]:
        """Return everything that the images depend on, as JSON can hold it."""
        return {"version": _VERSION, **asdict(self)}

    def low_doses(
        self, full: PETSeries, subject_id: str, *, attenuation: np.ndarray | None
    ) -> Iterator[tuple[float, PETSeries]]:
        """Yield the dose reduction factors and images of a subject.

        `attenuation` is at 511 keV [1/mm], shape (X, Y, Z); if None, the body is taken for water.

        Raises
        ------
        PETError
            If no liver is found, or the image does not suit.
        """
        liver = measured_liver_cov(full)
        digest = hashlib.sha256(f"{self.seed} {subject_id}".encode()).digest()
        made = low_dose_of(
            full,
            self.dose_reduction_factors,
            liver=liver.region,
            liver_cov=liver.noise_cov if self.liver_cov is None else self.liver_cov,
            seed=int.from_bytes(digest[:4], "little"),
            preset=self.scanner,
            attenuation=attenuation,
            attenuation_source="a map or CT of the subject",
        )
        yield from made.series.items()
