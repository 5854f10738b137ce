"""What a denoised scan is measured against: the truth of a simulated subject, or the full-dose image of a real one."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.errors import PETError
from pipeline.images import body_mask, connected_regions, gaussian_filter_mm, measured_liver_cov
from pipeline.pet import PETSeries, read_pet
from pipeline.pet.volumes import read_labels_on
from pipeline.simulation import ORGAN_LABELS

__all__ = ["HOT_REGIONS", "Reference", "full_dose_reference", "simulated_reference"]

_IMAGES = {"full": "label", "repeat": "full_repeat", "noise_free": "noise_free"}
_DEEP = 10.0  # [mm] from the liver's surface and from lesions in it, out of reach of the blur

_HOT_SUV = 4.0  # [g/mL]
_HOT_VOLUME = 0.5  # [mL] a sphere of 10 mm
_HOT_FWHM = 5.0  # [mm] so that the outline follows less of the noise
HOT_REGIONS = f"SUV >= {_HOT_SUV:g}, >= {_HOT_VOLUME:g} mL, after a {_HOT_FWHM:g} mm Gaussian; brain, bladder included"
"""How the hot regions of a real scan are found."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Images and regions of one subject that its denoised scans are measured against."""

    subject: str
    """Name of the subject."""
    images: Mapping[str, PETSeries]
    """``full``, and of a simulated subject ``repeat``, an independent full-dose scan, and ``noise_free``."""
    truth: str
    """The one of the images that lesions, liver and hot spots are compared with."""
    lesions: NDArray[np.integer]
    """Lesions, or hot regions of a real scan, 1..n and 0 outside, shape (X, Y, Z)."""
    liver: NDArray[np.bool_] | None
    """Liver tissue away from its surface, shape (X, Y, Z); None where there is none."""
    body: NDArray[np.bool_]
    """Inside of the patient, shape (X, Y, Z)."""


def simulated_reference(item: Mapping[str, str]) -> Reference:
    """Reference of a simulated subject, an item of :func:`~pipeline.comparison.subjects_of_cohorts`.

    The liver is its true outline less 10 mm from the surface and from lesions.

    Raises
    ------
    PETError
        If an image cannot be read or is on another grid.
    """
    images = {name: read_pet(item[key]) for name, key in _IMAGES.items()}
    full = images["full"]
    lesions, organs = (read_labels_on(item[key], full.grid) for key in ("lesions", "organs"))
    tissue = (organs == ORGAN_LABELS["liver"]) & (lesions == 0)
    liver = ndimage.distance_transform_edt(tissue, sampling=full.voxel_size) > _DEEP
    return Reference(
        subject=item["subject"],
        images=images,
        truth="noise_free",
        lesions=lesions,
        liver=liver if liver.any() else None,
        body=body_mask(full.suv, voxel_size=full.voxel_size),
    )


def full_dose_reference(full: PETSeries, *, subject: str) -> Reference:
    """Reference of a real scan, of which nothing better than the full-dose image is known.

    Its hot regions stand for lesions. They follow the noise of the full-dose image, upwards: a perfect denoiser
    shows less in them. The liver is the tissue around the sphere that :func:`pipeline.evaluation.find_liver` places;
    None if it finds none.
    """
    smooth = gaussian_filter_mm(full.suv, fwhm=_HOT_FWHM, voxel_size=full.voxel_size)
    regions = connected_regions(smooth, threshold=_HOT_SUV, voxel_size=full.voxel_size, min_volume=_HOT_VOLUME)
    try:
        liver = measured_liver_cov(full).region
    except PETError:
        liver = None
    return Reference(
        subject=subject,
        images={"full": full},
        truth="full",
        lesions=regions.labels,
        liver=liver,
        body=body_mask(full.suv, voxel_size=full.voxel_size),
    )
