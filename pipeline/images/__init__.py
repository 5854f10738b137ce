"""Operations on one volume of a PET image that several rooms share: filters, outlines, regions, noise, projections.

Everything takes plain arrays of SUVbw [g/mL] of shape (X, Y, Z) and the voxel size [mm].
"""

from pipeline.images.delineation import (
    ISOCONTOUR,
    SEED_SUV,
    THRESHOLDS,
    Threshold,
    background_adapted,
    connected_to,
    delineated_regions,
    fixed_threshold,
    fraction_of_maximum,
    named_threshold,
    region_and_surroundings,
)
from pipeline.images.drawing import Delineation, regions_in_either
from pipeline.images.gaussian import gaussian_filter_mm
from pipeline.images.liver import LiverNoise, find_liver, measured_liver_cov
from pipeline.images.noise import (
    PUBLISHED_HIGH_PASS_ENERGY,
    high_pass_energy,
    high_pass_energy_table,
    noise_meter,
    smoothed_noise_meter,
)
from pipeline.images.percist import (
    ReferenceRegion,
    blood_pool_reference,
    given_reference,
    liver_reference,
    masked_reference,
    percist_threshold,
)
from pipeline.images.regions import (
    Regions,
    ball_offsets,
    body_mask,
    equivalent_diameter,
    label_touching,
    numbered_lesions,
    shell_around,
    voxel_volume,
)

__all__ = [
    "ISOCONTOUR",
    "PUBLISHED_HIGH_PASS_ENERGY",
    "SEED_SUV",
    "THRESHOLDS",
    "Delineation",
    "LiverNoise",
    "ReferenceRegion",
    "Regions",
    "Threshold",
    "background_adapted",
    "ball_offsets",
    "blood_pool_reference",
    "body_mask",
    "connected_to",
    "delineated_regions",
    "equivalent_diameter",
    "find_liver",
    "fixed_threshold",
    "fraction_of_maximum",
    "gaussian_filter_mm",
    "given_reference",
    "high_pass_energy",
    "high_pass_energy_table",
    "label_touching",
    "liver_reference",
    "masked_reference",
    "measured_liver_cov",
    "named_threshold",
    "noise_meter",
    "numbered_lesions",
    "percist_threshold",
    "region_and_surroundings",
    "regions_in_either",
    "shell_around",
    "smoothed_noise_meter",
    "voxel_volume",
]
