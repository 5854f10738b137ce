"""Measures of PET images: image quality, regions and their SUV, and what denoising does to lesions.

Everything takes plain arrays of SUVbw [g/mL] of shape (X, Y, Z) and the voxel size [mm]. Nothing here knows
how an image was made.
"""

from pipeline.evaluation.bootstrap import (
    Agreement,
    Interval,
    bootstrap_mean,
    bootstrap_ratio,
    limits_of_agreement,
    paired_bootstrap,
)
from pipeline.evaluation.composite import (
    DOSE_WEIGHTS,
    CompositeReference,
    composite_reference,
    weighted_over_doses,
)
from pipeline.evaluation.conservation import Spheres, body_spheres, spheres_in
from pipeline.evaluation.coverage import (
    NOMINAL_LEVELS,
    coverage,
    half_width,
    mean_and_sd,
    miscalibration_area,
    region_means,
    scale_factor,
    standardised_errors,
)
from pipeline.evaluation.hot_spots import (
    END_CLASSES,
    LESION_BIAS_COLUMNS,
    count_by_distance_from_ends,
    false_hot_spots,
    lesion_bias,
)
from pipeline.evaluation.image_quality import PEAK_SUV, bias, noise_level, noise_sd, nrmse, psnr, ssim
from pipeline.evaluation.lesions import (
    INTENSITY_STATISTICS,
    REGION_QUANTITIES,
    TOTAL_BURDEN,
    Histogram,
    intensity_histogram,
    intensity_statistics,
    lesion_distances,
    mesh_volume,
    region_quantities,
    suvbw_per_sul,
    total_burden,
)
from pipeline.evaluation.metabolic_volume import SEGMENTATION_RULE, metabolic_volumes
from pipeline.evaluation.noise_spectrum import NoisePower, noise_power
from pipeline.evaluation.observer import (
    Answers,
    Channels,
    ask_observer,
    hotelling_template,
    jackknife_interval,
    pooled_area,
)
from pipeline.evaluation.quantification import (
    LESION_TABLE_COLUMNS,
    lesion_table,
    suv_max,
    suv_mean,
    suv_peak,
    volume,
)
from pipeline.evaluation.reading import READING_RULE, Concordance, Reader, Reading, concordance, reader_of
from pipeline.evaluation.seams import seam_ratio
from pipeline.evaluation.texture import local_variance, local_variance_ratio

__all__ = [
    "DOSE_WEIGHTS",
    "END_CLASSES",
    "INTENSITY_STATISTICS",
    "LESION_BIAS_COLUMNS",
    "LESION_TABLE_COLUMNS",
    "NOMINAL_LEVELS",
    "PEAK_SUV",
    "READING_RULE",
    "REGION_QUANTITIES",
    "SEGMENTATION_RULE",
    "TOTAL_BURDEN",
    "Agreement",
    "Answers",
    "Channels",
    "CompositeReference",
    "Concordance",
    "Histogram",
    "Interval",
    "NoisePower",
    "Reader",
    "Reading",
    "Spheres",
    "ask_observer",
    "bias",
    "body_spheres",
    "bootstrap_mean",
    "bootstrap_ratio",
    "composite_reference",
    "concordance",
    "count_by_distance_from_ends",
    "coverage",
    "false_hot_spots",
    "half_width",
    "hotelling_template",
    "intensity_histogram",
    "intensity_statistics",
    "jackknife_interval",
    "lesion_bias",
    "lesion_distances",
    "lesion_table",
    "limits_of_agreement",
    "local_variance",
    "local_variance_ratio",
    "mean_and_sd",
    "mesh_volume",
    "metabolic_volumes",
    "miscalibration_area",
    "noise_level",
    "noise_power",
    "noise_sd",
    "nrmse",
    "paired_bootstrap",
    "pooled_area",
    "psnr",
    "reader_of",
    "region_means",
    "region_quantities",
    "scale_factor",
    "seam_ratio",
    "spheres_in",
    "ssim",
    "standardised_errors",
    "suv_max",
    "suv_mean",
    "suv_peak",
    "suvbw_per_sul",
    "total_burden",
    "volume",
    "weighted_over_doses",
]
