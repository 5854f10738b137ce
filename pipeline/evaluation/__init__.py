"""Measures of PET images: image quality, regions and their SUV, and what denoising does to lesions.

Everything takes plain arrays of SUVbw [g/mL] of shape (X, Y, Z) and the voxel size [mm]. Nothing here knows
how an image was made.
"""

from pipeline.evaluation.bootstrap import Interval, paired_bootstrap
from pipeline.evaluation.gaussian import best_gaussian_fwhm, gaussian_filter_mm
from pipeline.evaluation.hot_spots import bias_by_diameter, false_hot_spots, lesion_bias
from pipeline.evaluation.image_quality import PEAK_SUV, bias, noise_level, noise_sd, nrmse, psnr, ssim
from pipeline.evaluation.liver import LiverNoise, find_liver, measured_liver_cov
from pipeline.evaluation.noise import (
    PUBLISHED_HIGH_PASS_ENERGY,
    high_pass_energy,
    high_pass_energy_table,
    noise_meter,
)
from pipeline.evaluation.nonlocal_means import best_nonlocal_means_strength, nonlocal_means_filter
from pipeline.evaluation.quantification import (
    LESION_TABLE_COLUMNS,
    lesion_table,
    suv_max,
    suv_mean,
    suv_peak,
    suv_percentile,
    tlg,
    volume,
)
from pipeline.evaluation.regions import Regions, body_mask, connected_regions, regions_in_either, voxel_volume
from pipeline.evaluation.seams import seam_ratio
from pipeline.evaluation.tables import write_table
from pipeline.evaluation.texture import STYLIZED_VARIANCE, local_variance, local_variance_ratio

__all__ = [
    "LESION_TABLE_COLUMNS",
    "PEAK_SUV",
    "PUBLISHED_HIGH_PASS_ENERGY",
    "STYLIZED_VARIANCE",
    "Interval",
    "LiverNoise",
    "Regions",
    "best_gaussian_fwhm",
    "best_nonlocal_means_strength",
    "bias",
    "bias_by_diameter",
    "body_mask",
    "connected_regions",
    "false_hot_spots",
    "find_liver",
    "gaussian_filter_mm",
    "high_pass_energy",
    "high_pass_energy_table",
    "lesion_bias",
    "lesion_table",
    "local_variance",
    "local_variance_ratio",
    "measured_liver_cov",
    "noise_level",
    "noise_meter",
    "noise_sd",
    "nonlocal_means_filter",
    "nrmse",
    "paired_bootstrap",
    "psnr",
    "regions_in_either",
    "seam_ratio",
    "ssim",
    "suv_max",
    "suv_mean",
    "suv_peak",
    "suv_percentile",
    "tlg",
    "volume",
    "voxel_volume",
    "write_table",
]
