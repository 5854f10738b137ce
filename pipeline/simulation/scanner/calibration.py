"""How many counts a scan has: as many as give the liver the noise that one sees in scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from pipeline.simulation.scanner.acquisition import Acquisition
from pipeline.simulation.scanner.blur import post_filtered
from pipeline.simulation.scanner.reconstruction import SystemModel

__all__ = ["TrialScans", "calibrated_scale", "draw_counts", "noise_cov", "trial_scans"]

_TRIAL_PROMPTS_PER_MM = 2.5e5
_TRIAL_SLICES = 32


def draw_counts(acquisition: Acquisition, scale: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Draw the Poisson counts of a scan, one int32 array per subset; `scale` in counts per (SUV mm)."""
    subsets = range(len(acquisition.trues))
    return [rng.poisson(acquisition.expected(k) * np.float32(scale)).astype(np.int32) for k in subsets]


def noise_cov(first: np.ndarray, second: np.ndarray, region: np.ndarray) -> float:
    """Return the coefficient of variation in a region from two independent scans: noise alone, no texture."""
    difference = (first[region] - second[region]).std(dtype=np.float64) / np.sqrt(2)
    return float(difference / ((first[region] + second[region]) / 2).mean(dtype=np.float64))


@dataclass(frozen=True)
class TrialScans:
    """Unfiltered reconstructions of a few slices through the liver, from independent draws of the same counts."""

    images: tuple[np.ndarray, ...]
    """SUVbw [g/mL], each float32, shape (X, Y, slices)."""
    liver: np.ndarray
    """Voxels of the liver, bool, of that shape."""
    voxel_size: tuple[float, float, float]
    """[mm]."""
    scale: float
    """Counts that were drawn per expected datum [counts / (SUV mm)]."""

    def liver_inside(self, margin: float) -> np.ndarray:
        """Return the liver further than a margin [mm] from the ends of the slab; at least its middle slice."""
        n = self.liver.shape[2]
        center = _middle(self.liver)
        away = int(np.ceil(margin / self.voxel_size[2]))
        inner = np.zeros_like(self.liver)
        inner[:, :, min(away, center) : max(n - away, center + 1)] = True
        return self.liver & inner

    @property
    def noise(self) -> list[np.ndarray]:
        """Independent images of noise alone, one fewer than the draws: each draw against the mean of those before."""
        means = [np.mean(self.images[:k], axis=0) for k in range(1, len(self.images))]
        pairs = zip(means, self.images[1:], strict=True)
        return [(mean - image) * np.float32(np.sqrt(k / (k + 1))) for k, (mean, image) in enumerate(pairs, 1)]

    def scale_for(self, liver_cov: float, *, post_filter: Sequence[float]) -> float:
        """Return the scale [counts / (SUV mm)] at which the filtered liver has a coefficient of variation.

        `post_filter` are its full widths at half maximum along X, Y, Z [mm]. Every pair of draws is compared.
        """
        images = [post_filtered(image, post_filter, voxel_size=self.voxel_size) for image in self.images]
        liver = self.liver_inside(post_filter[2])
        pairs = [noise_cov(a, b, liver) for a, b in combinations(images, 2)]
        return self.scale * (float(np.sqrt(np.mean(np.square(pairs)))) / liver_cov) ** 2


def _middle(liver: np.ndarray) -> int:
    """Return the slice that halves the liver."""
    return round(float(np.average(np.arange(liver.shape[2]), weights=liver.sum(axis=(0, 1)))))


def trial_scans(
    model: SystemModel,
    acquisition: Acquisition,
    liver: np.ndarray,
    *,
    rng: np.random.Generator,
    n_draws: int,
    scale: float | None = None,
) -> TrialScans:
    """Draw the counts of a few slices through the liver several times, and reconstruct them without post-filter.

    `liver` are the voxels to measure the noise in, shape (X, Y, Z). `scale` is that of the counts
    [counts / (SUV mm)]; None draws as many as a usual scan has.
    """
    nz = liver.shape[2]
    first = int(np.clip(_middle(liver) - _TRIAL_SLICES // 2, 0, max(0, nz - _TRIAL_SLICES)))
    part = slice(first, first + _TRIAL_SLICES)
    slab = acquisition.slices(part)
    usual = _TRIAL_PROMPTS_PER_MM * nz * model.scanner.voxel_size[2] / acquisition.total
    trial = usual if scale is None else scale
    images = tuple(model.osem(draw_counts(slab, trial, rng), slab, scale=trial) for _ in range(n_draws))
    return TrialScans(images, liver[:, :, part], model.scanner.voxel_size, trial)


def calibrated_scale(
    model: SystemModel,
    acquisition: Acquisition,
    liver: np.ndarray,
    *,
    liver_cov: float,
    rng: np.random.Generator,
    n_draws: int = 2,
) -> float:
    """Return the scale [counts / (SUV mm)] at which the liver's coefficient of variation has a given value.

    A few slices through the liver are reconstructed from independent trial draws; the coefficient of variation
    goes with one over the square root of the counts.

    `liver` are the voxels to measure the noise in, shape (X, Y, Z); `liver_cov` is the standard deviation of the noise
    over the mean, at full dose. More of the `n_draws` trial draws make the estimate more precise.
    """
    trials = trial_scans(model, acquisition, liver, rng=rng, n_draws=n_draws)
    return trials.scale_for(liver_cov, post_filter=model.scanner.post_filter_widths)
