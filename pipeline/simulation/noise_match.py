"""Whether inserted noise has the texture of the scan's own, and the post-filter that would give it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pipeline.constants import FWHM_PER_SIGMA
from pipeline.images import gaussian_filter_mm
from pipeline.pet import PETSeries
from pipeline.simulation.scanner.scanner import Scanner

__all__ = ["NoiseMatch", "noise_correlation", "noise_match"]

_TREND_FWHM = 40.0  # [mm] what varies more slowly is the organ's own uptake
_TOLERANCE = 0.15  # of the correlation: with its own preset a real Discovery ST scan differs by up to 0.14
_RANGE = (0.02, 0.98)  # correlations that a width is computed from


@dataclass(frozen=True)
class NoiseMatch:
    """Correlation of the noise of neighbouring voxels along X, Y and Z, of a scan and of what was inserted into it."""

    scan: tuple[float, float, float]
    """Of the full-dose scan."""
    inserted: tuple[float, float, float]
    """Of the inserted noise."""
    post_filter: tuple[float, float]
    """Post-filter that would make the two alike, full width at half maximum in plane and along Z [mm]."""

    @property
    def warning(self) -> str:
        """One sentence where they differ by more than 0.15 along an axis, else empty."""
        difference = np.subtract(self.inserted, self.scan)
        if np.abs(difference).max() <= _TOLERANCE:
            return ""
        kind = "finer" if difference[np.abs(difference).argmax()] < 0 else "coarser"
        found, expected = ("/".join(f"{r:.2f}" for r in values) for values in (self.inserted, self.scan))
        return (
            f"the inserted noise is {kind} than the scan's own: neighbouring voxels correlate by {found} along X/Y/Z, "
            f"in the scan by {expected}; use the scanner's own preset, or "
            f"--post-filter {self.post_filter[0]:.1f} {self.post_filter[1]:.1f} [mm]"
        )


def noise_correlation(
    image: np.ndarray, region: np.ndarray, *, voxel_size: Sequence[float]
) -> tuple[float, float, float]:
    """Return the correlation of neighbouring voxels along X, Y and Z in a region, without what varies slowly.

    The image has any unit and shape (X, Y, Z). The region, bool of that shape, is one organ, at least two voxels wide
    along each axis; `voxel_size` is in mm.
    """
    box = ndimage.find_objects(region.astype(np.uint8))[0]
    inside, part = region[box].astype(np.float64), image[box].astype(np.float64)
    trend, weight = (
        gaussian_filter_mm(volume, fwhm=_TREND_FWHM, voxel_size=voxel_size) for volume in (part * inside, inside)
    )
    fine = part - trend / np.maximum(weight, 1e-6)
    found = []
    for axis in range(3):
        values, there = np.moveaxis(fine, axis, 0), np.moveaxis(region[box], axis, 0)
        both = there[1:] & there[:-1]
        found.append(float(np.corrcoef(values[:-1][both], values[1:][both])[0, 1]))
    return found[0], found[1], found[2]


def noise_match(full: PETSeries, low: PETSeries, *, region: np.ndarray, scanner: Scanner) -> NoiseMatch:
    """Compare the noise of a full-dose scan with what was inserted into it.

    Both are on one grid; `region` are voxels of the liver, shape (X, Y, Z).
    """
    sides = full.voxel_size
    scan = noise_correlation(full.suv, region, voxel_size=sides)
    inserted = noise_correlation(low.suv - full.suv, region, voxel_size=sides)
    # White noise after a Gaussian of standard deviation s correlates by exp(-(side / 2 s)^2) between neighbours, and
    # the squares of successive widths add up.
    own, other = (-np.square(sides) / (4 * np.log(np.clip(correlation, *_RANGE))) for correlation in (scan, inserted))
    missing = (own - other) * FWHM_PER_SIGMA**2
    squares = scanner.post_filter**2 + missing[:2].mean(), scanner.axial_post_filter**2 + missing[2]
    in_plane, along_z = (round(float(np.sqrt(max(square, 0.0))), 1) for square in squares)
    return NoiseMatch(scan, inserted, (in_plane, along_z))
