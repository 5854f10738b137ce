"""What a scan would record on average: trues, scatter and randoms of every line of response."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from pipeline.constants import FWHM_PER_SIGMA
from pipeline.simulation.scanner.scanner import Scanner

__all__ = ["Acquisition", "expected_randoms", "expected_scatter"]

_SCATTER_IN_PLANE, _SCATTER_AXIAL = 160.0, 120.0  # [mm] full widths at half maximum: scatter is smooth
_SCATTER_TOF = 1.5  # time-of-flight bins, standard deviation


@dataclass(frozen=True)
class Acquisition:
    """What a patient's scan would record on average, before the number of counts is fixed.

    Lists run over subsets; arrays of lines have the shape (angles of the subset * radial bins * TOF bins, Z).
    Everything is in the unit of the trues: times a scale [counts / (SUV mm)] it is a number of counts.
    """

    trues: list[np.ndarray]
    """Attenuated line integrals times sensitivity [SUV mm], float32."""
    scatter: list[np.ndarray]
    """Scatter, float32."""
    randoms: np.ndarray
    """Randoms of each element of a slice, the same for all lines and TOF bins, shape (Z,), float32."""
    factors: list[np.ndarray]
    """Attenuation times sensitivity of each line, without TOF bins, float32."""
    sensitivity: list[np.ndarray]
    """Back-projected factors, shape (X * Y, Z), float32."""

    @property
    def total(self) -> float:
        """Sum of what is expected [SUV mm]: times the scale it is the expected number of prompts."""
        parts = sum(float(part.sum(dtype=np.float64)) for part in [*self.trues, *self.scatter])
        lines = sum(part.shape[0] for part in self.trues)
        return parts + lines * float(self.randoms.sum(dtype=np.float64))

    def background(self, subset: int) -> np.ndarray:
        """Return scatter and randoms of one subset."""
        return self.scatter[subset] + self.randoms

    def expected(self, subset: int) -> np.ndarray:
        """Return trues, scatter and randoms of one subset."""
        return self.trues[subset] + self.background(subset)

    def with_activity(self, fraction: float) -> Acquisition:
        """Return the same scan after injecting a fraction of the activity, in the same unit of SUV.

        Trues and scatter fall with the activity, as the scale does, so here they stay; randoms fall with its
        square (two unrelated photons within the coincidence window), so here they fall once.
        """
        return replace(self, randoms=self.randoms * np.float32(fraction))

    def slices(self, part: slice) -> Acquisition:
        """Return the same for some of the slices."""

        def some(arrays: list[np.ndarray]) -> list[np.ndarray]:
            return [np.ascontiguousarray(a[:, part]) for a in arrays]

        return Acquisition(
            some(self.trues), some(self.scatter), self.randoms[part], some(self.factors), some(self.sensitivity)
        )


def expected_scatter(trues: list[np.ndarray], scanner: Scanner) -> list[np.ndarray]:
    """Return scatter as a wide blur of the trues, as strong as the scanner's scatter fraction S / (S + T).

    `trues` has one array per subset, see `Acquisition`, in any unit. The result is float32, of the same shapes.
    """
    n, _, nz = scanner.matrix
    dx, _, dz = scanner.voxel_size
    along_tof = _SCATTER_TOF if scanner.n_tof_bins > 1 else 0.0
    widths = (0.0, _SCATTER_IN_PLANE / dx / FWHM_PER_SIGMA, along_tof, _SCATTER_AXIAL / dz / FWHM_PER_SIGMA)
    per_angle = (-1, n, scanner.n_tof_bins, nz)
    scatter = [ndimage.gaussian_filter(t.reshape(per_angle), widths, mode="nearest", truncate=3.0) for t in trues]
    total = sum(float(t.sum(dtype=np.float64)) for t in trues)
    scattered = sum(float(t.sum(dtype=np.float64)) for t in scatter)
    if scattered > 0:
        weight = np.float32(scanner.scatter_fraction / (1 - scanner.scatter_fraction) * total / scattered)
        for part in scatter:
            part *= weight
    return [part.reshape(-1, nz) for part in scatter]


def expected_randoms(trues: list[np.ndarray], scanner: Scanner, profile: np.ndarray) -> np.ndarray:
    """Return randoms as strong as the scanner's fraction R / (R + S + T), flat over a slice, along Z as `profile`.

    `profile` is the relative sensitivity and time of each slice, mean 1, shape (Z,). The result is that of one element
    of each slice, shape (Z,), float32, in the unit of the trues.
    """
    total = sum(float(t.sum(dtype=np.float64)) for t in trues) / (1 - scanner.scatter_fraction)
    n_elements = sum(t.size for t in trues)
    randoms = scanner.randoms_fraction / (1 - scanner.randoms_fraction) * total / n_elements
    return (randoms * profile).astype(np.float32)
