"""Measures of PET images: image quality, regions and their SUV, and what denoising does to lesions.

Everything takes plain arrays of SUVbw [g/mL] of shape (X, Y, Z) and the voxel size [mm]. Nothing here knows
how an image was made.
"""

from pipeline.evaluation.gaussian import best_gaussian_fwhm, gaussian_filter_mm
from pipeline.evaluation.hot_spots import bias_by_diameter, false_hot_spots, lesion_bias
from pipeline.evaluation.image_quality import PEAK_SUV, bias, noise_level, nrmse, psnr, ssim
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
from pipeline.evaluation.tables import write_table

__all__ = [
    "LESION_TABLE_COLUMNS",
    "PEAK_SUV",
    "Regions",
    "best_gaussian_fwhm",
    "bias",
    "bias_by_diameter",
    "body_mask",
    "connected_regions",
    "false_hot_spots",
    "gaussian_filter_mm",
    "lesion_bias",
    "lesion_table",
    "noise_level",
    "nrmse",
    "psnr",
    "regions_in_either",
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
