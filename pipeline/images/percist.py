"""PERCIST 1.0: what the liver or the blood pool says of a scan, and the SUV from which a lesion is measurable.

Wahl et al., J Nucl Med 50 Suppl 1 (2009) 122S; O and Wahl, Radiology 280 (2016) 576. PERCIST is written in SUL. SUL is
SUVbw times one number a patient, so a threshold in SUVbw from a reference in SUVbw draws the same voxels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PETError
from pipeline.images.delineation import Threshold
from pipeline.images.liver import liver_sphere, values_around, voxel_at
from pipeline.pet import PETSeries

__all__ = ["ReferenceRegion", "blood_pool_reference", "liver_reference", "percist_threshold"]

BLOOD_POOL_CYLINDER = (10.0, 20.0)
"""Diameter and length along the patient of the cylinder in the descending thoracic aorta [mm]."""

_FACTORS = {"liver": 1.5, "blood pool": 2.0}


@dataclass(frozen=True)
class ReferenceRegion:
    """Uptake of the organ that lesions are compared with."""

    organ: Literal["liver", "blood pool"]
    """Where it was measured."""
    center: tuple[float, float, float]
    """Centre of the sphere or cylinder, RAS+ [mm]."""
    suv_mean: float
    """Mean SUVbw in it [g/mL]."""
    suv_sd: float
    """Standard deviation over its voxels, of a sample (n - 1) [g/mL]."""
    n_voxels: int
    """Number of its voxels."""
    found: bool
    """Whether its place was found in the image; else the user gave it."""

    @property
    def threshold(self) -> float:
        """SUVbw from which a lesion is measurable: 1.5 (liver) or 2 (blood pool) x mean + 2 SD [g/mL]."""
        return _FACTORS[self.organ] * self.suv_mean + 2 * self.suv_sd


def liver_reference(series: PETSeries, *, center: Sequence[float] | None = None) -> ReferenceRegion:
    """Measure the liver in a sphere of 30 mm in its right lobe.

    `center` is the sphere's, RAS+ [mm]; by default :func:`find_liver` places it. It knows no disease: look where it is.

    Raises
    ------
    PETError
        If no liver is found, the sphere leaves the image, has too few voxels or a mean that is not positive.
    """
    voxel, values = liver_sphere(series, center)
    return _reference("liver", series, voxel, values, found=center is None)


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
    values = values_around(series, voxel, cylinder, what="blood pool cylinder")
    return _reference("blood pool", series, voxel, values, found=False)


def percist_threshold(reference: ReferenceRegion) -> Threshold:
    """Return the SUV from which a lesion is measurable as the threshold of every region.

    Take one reference for the images before and after denoising: less noise is a lower SD, and a lower threshold.
    """
    factor = f"{_FACTORS[reference.organ]:g} x mean + 2 SD of the {reference.organ}"
    name = f"PERCIST, SUV >= {reference.threshold:.3g}: {factor} ({reference.suv_mean:.3g} +- {reference.suv_sd:.2g})"
    return Threshold(name, suv=reference.threshold)


def _reference(
    organ: Literal["liver", "blood pool"],
    series: PETSeries,
    voxel: NDArray[np.integer],
    values: NDArray[np.float64],
    *,
    found: bool,
) -> ReferenceRegion:
    if len(values) < 2:
        raise PETError(f"the {organ} reference has {len(values)} voxel, expected 2 or more for an SD")
    x, y, z = (float(v) for v in (series.affine @ [*voxel, 1.0])[:3])
    return ReferenceRegion(organ, (x, y, z), float(values.mean()), float(values.std(ddof=1)), len(values), found)
