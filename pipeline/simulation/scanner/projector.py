"""Exact strip-integral projection of square pixels as one sparse matrix for all slices."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.special import erf

from pipeline.constants import FWHM_PER_SIGMA

__all__ = ["strip_matrix"]

_NEGLIGIBLE = 1e-6  # of a pixel's area, smaller overlaps are dropped
_NEGLIGIBLE_TOF = 1e-3  # of a line's probability


def _footprint_cdf(u: np.ndarray, *, inner: float, outer: float) -> np.ndarray:
    """Return the fraction of a square's projection left of u: a trapezoid flat to +-inner, zero beyond +-outer [mm]."""
    height = 1.0 / (inner + outer)
    u = np.clip(u, -outer, outer)
    result = height * ((outer - inner) / 2 + u + inner)
    if outer - inner > 1e-9:
        left, right = u < -inner, u > inner
        result[left] = height * (u[left] + outer) ** 2 / (2 * (outer - inner))
        result[right] = 1 - height * (outer - u[right]) ** 2 / (2 * (outer - inner))
    return result


def _tof_weights(position: np.ndarray, *, fwhm: float, bin_size: float, n_bins: int) -> np.ndarray:
    """Return the probability of each time-of-flight bin for points along a line [mm], shape (n_points, n_bins)."""
    edges = (np.arange(n_bins + 1) - n_bins / 2) * bin_size
    cdf = 0.5 * erf((edges - position[:, None]) / (fwhm / FWHM_PER_SIGMA * np.sqrt(2)))
    # The outer bins take the tails, so that the bins together are the projection without time of flight.
    cdf[:, 0], cdf[:, -1] = -0.5, 0.5
    weights = np.diff(cdf, axis=1)
    weights[weights < _NEGLIGIBLE_TOF] = 0
    return weights / weights.sum(axis=1, keepdims=True)


def strip_matrix(
    n_pixels: int,
    pixel_size: float,
    *,
    angles: np.ndarray,
    n_bins: int,
    bin_size: float,
    tof_fwhm: float | None = None,
    tof_bin_size: float = 0.0,
    n_tof_bins: int = 1,
) -> sparse.csr_array:
    """Return the system matrix of a parallel-beam scan of one slice; every slice is a column of what it multiplies.

    The weight is the mean over the bin of the line integral through the pixel, that is the exact area of
    overlap of the pixel and the strip over the width of the strip [mm]. The adjoint is the transpose.

    There are `n_pixels` pixels along X and along Y; only those in the inscribed circle are seen. Sizes, of pixels and
    of radial and time-of-flight bins, are in mm, `angles` in rad, shape (n_angles,). `tof_fwhm` is the time-of-flight
    resolution [mm], None without. The result is float32 [mm], shape (n_angles * n_bins * n_tof_bins, n_pixels^2); rows
    in the order angle, radial bin, time-of-flight bin, columns in the order X, Y.
    """
    centers = (np.arange(n_pixels) - (n_pixels - 1) / 2) * pixel_size
    grid_x, grid_y = np.meshgrid(centers, centers, indexing="ij")
    field = min(n_pixels * pixel_size, n_bins * bin_size) / 2
    seen = np.nonzero((grid_x**2 + grid_y**2).ravel() <= field**2)[0]
    x, y = grid_x.ravel()[seen], grid_y.ravel()[seen]
    rows, columns, values = [], [], []
    for k, angle in enumerate(np.asarray(angles, dtype=float)):
        cosine, sine = np.cos(angle), np.sin(angle)
        s = x * cosine + y * sine
        p, q = abs(cosine) * pixel_size / 2, abs(sine) * pixel_size / 2
        inner, outer = abs(p - q), p + q
        first = np.floor((s - outer) / bin_size + n_bins / 2).astype(np.int64)
        left = _footprint_cdf((first - n_bins / 2) * bin_size - s, inner=inner, outer=outer)
        tof = None
        if tof_fwhm is not None:
            tof = _tof_weights(y * cosine - x * sine, fwhm=tof_fwhm, bin_size=tof_bin_size, n_bins=n_tof_bins)
        for step in range(int(np.ceil(2 * outer / bin_size)) + 1):
            index = first + step
            right = _footprint_cdf((index + 1 - n_bins / 2) * bin_size - s, inner=inner, outer=outer)
            weight = right - left
            left = right
            hit = (weight > _NEGLIGIBLE) & (index >= 0) & (index < n_bins)
            value = weight[hit] * (pixel_size**2 / bin_size)
            row = k * n_bins + index[hit]
            if tof is None:
                rows.append(row.astype(np.int32))
                columns.append(seen[hit].astype(np.int32))
                values.append(value.astype(np.float32))
                continue
            point, bin_ = np.nonzero(tof[hit])
            rows.append((row[point] * n_tof_bins + bin_).astype(np.int32))
            columns.append(seen[hit][point].astype(np.int32))
            values.append((value[point] * tof[hit][point, bin_]).astype(np.float32))
    shape = (len(angles) * n_bins * n_tof_bins, n_pixels**2)
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_array(entries, shape=shape, dtype=np.float32)
