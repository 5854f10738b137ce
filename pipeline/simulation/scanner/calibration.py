"""How many counts a scan has: as many as give the liver the noise that one sees in scans."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from pipeline.simulation.scanner.acquisition import Acquisition
from pipeline.simulation.scanner.reconstruction import SystemModel

__all__ = ["calibrated_scale", "draw_counts", "noise_cov"]

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
    over the mean, at full dose. Every pair of the `n_draws` trial draws is compared: more of them make the estimate
    more precise.
    """
    nz = liver.shape[2]
    center = round(float(np.average(np.arange(nz), weights=liver.sum(axis=(0, 1)))))
    first = int(np.clip(center - _TRIAL_SLICES // 2, 0, max(0, nz - _TRIAL_SLICES)))
    part = slice(first, first + _TRIAL_SLICES)
    slab = acquisition.slices(part)
    trial = _TRIAL_PROMPTS_PER_MM * nz * model.scanner.voxel_size[2] / acquisition.total
    images = []
    for _ in range(n_draws):
        image = np.zeros(liver.shape, dtype=np.float32)
        image[:, :, part] = model.osem(draw_counts(slab, trial, rng), slab, scale=trial)
        images.append(model.post_filter(image))
    # The post-filter mixes in the zeros outside the slab: keep away from its ends.
    margin = int(np.ceil((model.scanner.post_filter_axial or model.scanner.post_filter) / model.scanner.voxel_size[2]))
    inner = np.zeros_like(liver)
    stop = min(first + _TRIAL_SLICES, nz)
    inner[:, :, min(first + margin, center) : max(stop - margin, center + 1)] = True
    pairs = [noise_cov(a, b, liver & inner) for a, b in combinations(images, 2)]
    return trial * (float(np.sqrt(np.mean(np.square(pairs)))) / liver_cov) ** 2
