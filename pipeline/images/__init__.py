"""Operations on one volume of a PET image that several rooms share: filters, outlines, regions, noise, projections.

Everything takes plain arrays of SUVbw [g/mL] of shape (X, Y, Z) and the voxel size [mm].
"""

from pipeline.images.gaussian import gaussian_filter_mm
from pipeline.images.liver import LiverNoise, find_liver, measured_liver_cov
from pipeline.images.noise import (
    PUBLISHED_HIGH_PASS_ENERGY,
    high_pass_energy,
    high_pass_energy_table,
    noise_meter,
    smoothed_noise_meter,
)
from pipeline.images.regions import (
    Regions,
    ball_offsets,
    body_mask,
    connected_regions,
    equivalent_diameter,
    label_touching,
    numbered_lesions,
    regions_in_either,
    voxel_volume,
)

__all__ = [
    "PUBLISHED_HIGH_PASS_ENERGY",
    "LiverNoise",
    "Regions",
    "ball_offsets",
    "body_mask",
    "connected_regions",
    "equivalent_diameter",
    "find_liver",
    "gaussian_filter_mm",
    "high_pass_energy",
    "high_pass_energy_table",
    "label_touching",
    "measured_liver_cov",
    "noise_meter",
    "numbered_lesions",
    "regions_in_either",
    "smoothed_noise_meter",
    "voxel_volume",
]
