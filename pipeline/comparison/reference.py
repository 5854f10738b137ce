"""What a denoised scan is measured against: the truth of a simulated subject, or the full-dose image of a real one."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.comparison.cases import Case
from pipeline.data.manifest import Role
from pipeline.errors import PETError
from pipeline.evaluation import (
    CompositeReference,
    Reader,
    Reading,
    Spheres,
    body_spheres,
    composite_reference,
    reader_of,
)
from pipeline.images import (
    body_mask,
    delineated_regions,
    fixed_threshold,
    gaussian_filter_mm,
    measured_liver_cov,
    numbered_lesions,
)
from pipeline.pet import PETSeries
from pipeline.pet.volumes import read_labels_on
from pipeline.simulation import ORGAN_LABELS

__all__ = ["HOT_REGIONS", "Reference", "full_dose_reference", "reference_of"]

_ROLES: dict[str, Role] = {"repeat": "full_repeat", "noise_free": "noise_free"}
_ORGANS = {"liver": "liver", "lung": "lung", "muscle": "soft_tissue", "brain": "brain"}
_DEEP = 10.0  # [mm] from the liver's surface and from lesions in it, out of reach of the blur

_HOT_SUV = 4.0  # [g/mL]
_HOT_VOLUME = 0.5  # [mL] a sphere of 10 mm
_HOT_FWHM = 5.0  # [mm] so that the outline follows less of the noise
_HOT = f"SUV >= {_HOT_SUV:g}, >= {_HOT_VOLUME:g} mL, after a {_HOT_FWHM:g} mm Gaussian; brain, bladder included"
HOT_REGIONS = f"hot regions of the full-dose scan ({_HOT})"
"""What stands for lesions where nobody labelled them."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Images and regions of one subject that its denoised scans are measured against."""

    subject: str
    images: Mapping[str, PETSeries]
    """``full``, and of a simulated subject ``repeat``, an independent full-dose scan, and ``noise_free``."""
    truth: str
    """The one of the images that lesions, liver and hot spots are compared with."""
    lesions: NDArray[np.integer]
    """Lesions, or hot regions of a real scan, 1..n and 0 outside, shape (X, Y, Z)."""
    regions: str
    """What `lesions` are."""
    liver: NDArray[np.bool_] | None
    """Liver tissue away from its surface, shape (X, Y, Z); None where there is none."""
    body: NDArray[np.bool_]
    """Inside of the patient, shape (X, Y, Z)."""
    organs: Mapping[str, NDArray[np.bool_]]
    """Where a denoised scan must keep the mean of its noisy one, by name: the body, and of a simulated subject liver,
    lung, muscle (what the labels call soft tissue) and brain, whole but for lesions; of any other, `liver`."""
    spheres: Spheres
    """Spheres of 50 mm inside of the body, every 25 mm."""

    @cached_property
    def box(self) -> tuple[slice, ...]:
        """Bounding box of the body; the whole image where there is none."""
        found = ndimage.find_objects(self.body.astype(np.int8))
        return found[0] if found else tuple(slice(None) for _ in self.body.shape)

    @cached_property
    def reader(self) -> Reader:
        """The rule that says what is seen in an image."""
        truth = self.images[self.truth]
        return reader_of(truth.suv, self.lesions, mask=self.body, voxel_size=truth.voxel_size)

    @cached_property
    def full_reading(self) -> Reading:
        """What is seen in the full-dose image."""
        return self.reader.read(self.images["full"].suv)

    @cached_property
    def composite(self) -> CompositeReference:
        """What the composite score compares."""
        organs = [region for name, region in self.organs.items() if name != "body"]
        return composite_reference(self.images["full"].suv, organs=organs, lesion_labels=self.lesions)


def reference_of(case: Case) -> Reference:
    """Return what the denoised scans of a subject are measured against.

    The truth is the noise-free image of a simulated subject, and the full-dose image of any other. Lesions are those
    that the manifest labels; hot regions of the full-dose image stand for them where it labels none. The liver of a
    simulated subject is its true outline less 10 mm from the surface and from lesions.

    Raises
    ------
    PETError
        If an image cannot be read or is on another grid.
    """
    subject, full = case.subject, case.full_dose()
    images = {"full": full}
    images |= {name: case.read(image) for name, role in _ROLES.items() if (image := subject.image(role)) is not None}
    is_simulated = "noise_free" in images
    if subject.lesions is None:
        lesions, regions = _hot_regions(full), HOT_REGIONS
    else:
        lesions, regions = read_labels_on(case.root / subject.lesions.path, full.grid), "lesions"
        lesions = lesions if is_simulated else numbered_lesions(lesions)
    body = body_mask(full.suv, voxel_size=full.voxel_size)
    kept = {"body": body}
    if is_simulated and subject.organs is not None:
        labels = read_labels_on(case.root / subject.organs.path, full.grid)
        organs = {name: (labels == ORGAN_LABELS[label]) & (lesions == 0) for name, label in _ORGANS.items()}
        kept |= {name: region for name, region in organs.items() if region.any()}
        inner = ndimage.distance_transform_edt(organs["liver"], sampling=full.voxel_size) > _DEEP
        liver = inner if inner.any() else None
    else:
        liver = _measured_liver(full)
        kept |= {} if liver is None else {"liver": liver}
    return Reference(
        subject=case.name,
        images=images,
        truth="noise_free" if is_simulated else "full",
        lesions=lesions,
        regions=regions,
        liver=liver,
        body=body,
        organs=kept,
        spheres=body_spheres(body, voxel_size=full.voxel_size),
    )


def full_dose_reference(full: PETSeries, *, subject: str) -> Reference:
    """Return the reference of a real scan, of which nothing better than the full-dose image is known.

    Its hot regions stand for lesions. They follow the noise of the full-dose image, upwards: a perfect denoiser
    shows less in them. The liver is the tissue around the sphere that :func:`pipeline.images.measured_liver_cov`
    places; None if it finds none.
    """
    body, liver = body_mask(full.suv, voxel_size=full.voxel_size), _measured_liver(full)
    return Reference(
        subject=subject,
        images={"full": full},
        truth="full",
        lesions=_hot_regions(full),
        regions=HOT_REGIONS,
        liver=liver,
        body=body,
        organs={"body": body} | ({} if liver is None else {"liver": liver}),
        spheres=body_spheres(body, voxel_size=full.voxel_size),
    )


def _hot_regions(full: PETSeries) -> NDArray[np.integer]:
    smooth = gaussian_filter_mm(full.suv, fwhm=_HOT_FWHM, voxel_size=full.voxel_size)
    found = delineated_regions(smooth, fixed_threshold(_HOT_SUV), voxel_size=full.voxel_size, min_volume=_HOT_VOLUME)
    return found.labels


def _measured_liver(full: PETSeries) -> NDArray[np.bool_] | None:
    try:
        return measured_liver_cov(full).region
    except PETError:
        return None
