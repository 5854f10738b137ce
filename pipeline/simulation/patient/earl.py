"""Recovery of the spheres as the accreditation of EARL measures it, and the limits that are known.

The limits are those of EARL's first standard for FDG (EANM Research Ltd, accreditation specifications of January 2017),
at spheres of ten times the background. Those of the second standard are not stated here: no table of them was found
that could be checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from pipeline.errors import PETError
from pipeline.images import gaussian_filter_mm, label_touching
from pipeline.simulation.patient.nema import SPHERE_DIAMETERS, background_mean, sphere_centres, sphere_plane
from pipeline.simulation.scanner.scanner import Scanner

__all__ = ["EARL1_MAX", "EARL1_MEAN", "EARL_RATIO", "EARLRecovery", "earl_recovery"]

EARL_RATIO = 10.0
"""Activity concentration of the spheres over that of the background that the limits are for."""

EARL1_MEAN = MappingProxyType(
    {10.0: (0.27, 0.43), 13.0: (0.44, 0.60), 17.0: (0.57, 0.73), 22.0: (0.63, 0.78), 28.0: (0.72, 0.85)}
    | {37.0: (0.76, 0.89)}
)
"""Diameter [mm] -> lowest and highest recovery of the mean in the 50 % isocontour."""
EARL1_MAX = MappingProxyType(
    {10.0: (0.34, 0.57), 13.0: (0.59, 0.85), 17.0: (0.73, 1.01), 22.0: (0.83, 1.09), 28.0: (0.91, 1.13)}
    | {37.0: (0.95, 1.16)}
)
"""Diameter [mm] -> lowest and highest recovery of the maximum."""

_WIDTHS = np.arange(0.0, 12.5, 0.5)  # [mm]
_REACH = 8.0  # [mm] around a sphere's surface; the next sphere is 24 mm away or more


@dataclass(frozen=True)
class EARLRecovery:
    """Measured over true concentration, without a correction for the background, for each of `SPHERE_DIAMETERS`."""

    mean: np.ndarray
    """Of the mean in the 50 % isocontour, shape (6,)."""
    maximum: np.ndarray
    """Of the hottest voxel, shape (6,)."""

    @property
    def within_earl1(self) -> np.ndarray:
        """Whether mean and maximum lie within the limits of EARL's first standard, shape (6,)."""
        within = [
            (values >= [low for low, _ in limits.values()]) & (values <= [high for _, high in limits.values()])
            for values, limits in ((self.mean, EARL1_MEAN), (self.maximum, EARL1_MAX))
        ]
        return within[0] & within[1]


def earl_recovery(image: np.ndarray, scanner: Scanner, *, ratio: float) -> EARLRecovery:
    """Measure the recovery coefficients of a reconstruction of a `nema_phantom` with a background of 1.

    The isocontour holds what is connected (26) to the hottest voxel of a sphere, above the middle between it and the
    background (A50 with background correction), up to 8 mm around the sphere. The background is the mean of the regions
    that NEMA NU 2 takes for the largest sphere.

    The image is SUVbw [g/mL] on the scanner's grid, shape (X, Y, Z); `ratio` is the true SUV of the spheres.

    Raises
    ------
    PETError
        If the image is not on the scanner's grid.
    """
    if image.shape != scanner.matrix:
        raise PETError(f"image of {image.shape} voxels, expected {scanner.matrix} of scanner {scanner.name}")
    background = background_mean(image, scanner)
    axes = [(np.arange(n) - (n - 1) / 2) * v for n, v in zip(scanner.matrix, scanner.voxel_size, strict=True)]
    mean, maximum = [], []
    for diameter, (cx, cy) in zip(SPHERE_DIAMETERS, sphere_centres(), strict=True):
        reach = diameter / 2 + _REACH
        offsets = [axis - c for axis, c in zip(axes, (cx, cy, sphere_plane(scanner)), strict=True)]
        kept = [np.flatnonzero(np.abs(offset) <= reach) for offset in offsets]
        x, y, z = np.meshgrid(*(offset[k] for offset, k in zip(offsets, kept, strict=True)), indexing="ij", sparse=True)
        part = image[np.ix_(*kept)]
        near = x**2 + y**2 + z**2 <= reach**2
        highest = float(part[near].max())
        components, _ = label_touching(near & (part >= background + (highest - background) / 2))
        inside = components == components[near & (part == highest)][0]
        mean.append(float(part[inside].mean(dtype=np.float64)) / ratio)
        maximum.append(highest / ratio)
    return EARLRecovery(np.array(mean), np.array(maximum))


def harmonising_filter(noise_free: np.ndarray, scanner: Scanner) -> float:
    """Return the width of the Gaussian that brings a scanner within the limits of EARL's first standard [mm].

    Scanners with point spread function and time of flight recover more than the standard allows; sites filter what
    they measure for trials. It is the narrowest of the widths, in steps of half a millimetre up to 12 mm, that have the
    most spheres within both limits. `noise_free` is a reconstruction of the phantom's expected counts at a ratio of 10.
    """

    def n_within(fwhm: float) -> int:
        smooth = gaussian_filter_mm(noise_free, fwhm=fwhm, voxel_size=scanner.voxel_size)
        return int(earl_recovery(smooth, scanner, ratio=EARL_RATIO).within_earl1.sum())

    return float(max(_WIDTHS, key=n_within))
