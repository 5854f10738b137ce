"""PERCIST 1.0: what the liver or the blood pool says of a scan, and the SUV from which a lesion is measurable.

Wahl et al., J Nucl Med 50 Suppl 1 (2009) 122S; O and Wahl, Radiology 280 (2016) 576. PERCIST is written in SUL. SUL is
SUVbw times one number a patient, so a threshold in SUVbw from a reference in SUVbw draws the same voxels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PETError
from pipeline.images.delineation import Threshold
from pipeline.images.liver import LIVER_SPHERE_DIAMETER, liver_sphere, values_around, voxel_at
from pipeline.images.regions import ball_offsets
from pipeline.pet import PETSeries

__all__ = [
    "Organ",
    "ReferenceRegion",
    "blood_pool_reference",
    "given_reference",
    "liver_reference",
    "masked_reference",
    "percist_threshold",
]

Organ = Literal["liver", "blood pool"]
"""What lesions are compared with."""

BLOOD_POOL_CYLINDER = (10.0, 20.0)
"""Diameter and length along the patient of the cylinder in the descending thoracic aorta [mm]."""

_FACTORS = {"liver": 1.5, "blood pool": 2.0}


@dataclass(frozen=True)
class ReferenceRegion:
    """Uptake of the organ that lesions are compared with."""

    organ: Organ
    """Where it was measured."""
    measured_in: str
    """Sphere, cylinder or mask; "" of numbers that were given."""
    center: tuple[float, float, float] | None
    """Centre of the sphere, the cylinder or the mask, RAS+ [mm]; None of numbers that were given."""
    suv_mean: float
    """Mean SUVbw in it [g/mL]."""
    suv_sd: float
    """Standard deviation over its voxels, of a sample (n - 1) [g/mL]."""
    found: bool
    """Whether its place was found in the image; else the user gave it."""
    voxels: NDArray[np.integer] | None = field(default=None, compare=False, repr=False)
    """Indices of its voxels, shape (n, 3); None of numbers that were given."""

    @property
    def n_voxels(self) -> int:
        """Number of its voxels; 0 of numbers that were given."""
        return 0 if self.voxels is None else len(self.voxels)

    @property
    def threshold(self) -> float:
        """SUVbw from which a lesion is measurable: 1.5 (liver) or 2 (blood pool) x mean + 2 SD [g/mL]."""
        return _FACTORS[self.organ] * self.suv_mean + 2 * self.suv_sd

    def measured_again(self, series: PETSeries) -> "ReferenceRegion":
        """Return the same voxels of another image on the same grid; numbers that were given stay as they are.

        Raises
        ------
        PETError
            If their mean is not positive.
        """
        if self.voxels is None:
            return self
        return _reference(self.organ, self.measured_in, series, self.voxels, found=self.found)


def liver_reference(series: PETSeries, *, center: Sequence[float] | None = None) -> ReferenceRegion:
    """Measure the liver in a sphere of 30 mm in its right lobe.

    `center` is the sphere's, RAS+ [mm]; by default :func:`find_liver` places it. It knows no disease: look where it is.

    Raises
    ------
    PETError
        If no liver is found, the sphere leaves the image, has too few voxels or a mean that is not positive.
    """
    voxel, _ = liver_sphere(series, center)
    sphere = ball_offsets(LIVER_SPHERE_DIAMETER / 2, voxel_size=series.voxel_size) + voxel
    return _reference("liver", f"sphere of {LIVER_SPHERE_DIAMETER:g} mm", series, sphere, found=center is None)


def blood_pool_reference(series: PETSeries, *, center: Sequence[float]) -> ReferenceRegion:
    """Measure the blood in a cylinder of 10 mm diameter and 20 mm length along the patient around a given centre.

    PERCIST takes the descending thoracic aorta, found on CT and clear of its wall. PET alone does not show it reliably,
    so that nothing here looks for it; `center` is RAS+ [mm].

    Raises
    ------
    PETError
        If the cylinder leaves the image or its mean is not positive.
    """
    diameter, length = BLOOD_POOL_CYLINDER
    sides = np.asarray(series.voxel_size)
    reach = np.floor(np.array([diameter, diameter, length]) / 2 / sides).astype(int)
    steps = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), axis=-1).reshape(-1, 3)
    cylinder = steps[np.linalg.norm(steps[:, :2] * sides[:2], axis=1) <= diameter / 2]
    voxel = voxel_at(series, center, what="blood pool cylinder")
    values_around(series, voxel, cylinder, what="blood pool cylinder")  # refuses a place that is none
    shape = f"cylinder of {diameter:g} x {length:g} mm"
    return _reference("blood pool", shape, series, cylinder + voxel, found=False)


def masked_reference(series: PETSeries, mask: NDArray[np.bool_], organ: Organ) -> ReferenceRegion:
    """Measure an organ in a mask that somebody drew, shape (X, Y, Z) of the series.

    Raises
    ------
    PETError
        If the mask has fewer than two voxels, or a mean that is not positive.
    """
    return _reference(organ, "mask", series, np.argwhere(mask), found=False)


def given_reference(suv_mean: float, suv_sd: float, organ: Organ) -> ReferenceRegion:
    """Take the mean and SD of an organ as somebody measured them, SUVbw [g/mL].

    Raises
    ------
    PETError
        If one is not above 0.
    """
    if not (0 < suv_mean < np.inf and 0 < suv_sd < np.inf):
        raise PETError(f"mean {suv_mean:g} and SD {suv_sd:g} of the {organ}, expected both above 0")
    return ReferenceRegion(organ, "", None, float(suv_mean), float(suv_sd), found=False)


def percist_threshold(reference: ReferenceRegion) -> Threshold:
    """Return the SUV from which a lesion is measurable as the threshold of every region.

    Take one reference for the images before and after denoising: less noise is a lower SD, and a lower threshold.
    """
    factor = f"{_FACTORS[reference.organ]:g} x mean + 2 SD of the {reference.organ}"
    name = f"PERCIST, SUV >= {reference.threshold:.3g}: {factor} ({reference.suv_mean:.3g} +- {reference.suv_sd:.2g})"
    return Threshold(name, suv=reference.threshold)


def _reference(
    organ: Organ, measured_in: str, series: PETSeries, voxels: NDArray[np.integer], *, found: bool
) -> ReferenceRegion:
    if len(voxels) < 2:
        raise PETError(f"the {organ} reference has {len(voxels)} voxels, expected 2 or more for an SD")
    values = series.suv[tuple(voxels.T)].astype(np.float64)
    mean, sd = float(values.mean()), float(values.std(ddof=1))
    if not mean > 0:
        raise PETError(f"mean SUV in the {organ} reference is {mean:.3g}, expected above 0")
    x, y, z = (float(v) for v in (series.affine @ [*voxels.mean(axis=0), 1.0])[:3])
    return ReferenceRegion(organ, measured_in, (x, y, z), mean, sd, found, voxels)
