"""Lesions as numbers: statistics of their SUV, their extent and distances, one table of them, and the whole burden."""

from pipeline.evaluation.lesions.extent import lesion_distances, mesh_volume
from pipeline.evaluation.lesions.intensity import (
    INTENSITY_STATISTICS,
    Histogram,
    intensity_histogram,
    intensity_statistics,
)
from pipeline.evaluation.lesions.table import (
    REGION_QUANTITIES,
    TOTAL_BURDEN,
    region_quantities,
    suvbw_per_sul,
    total_burden,
)

__all__ = [
    "INTENSITY_STATISTICS",
    "REGION_QUANTITIES",
    "TOTAL_BURDEN",
    "Histogram",
    "intensity_histogram",
    "intensity_statistics",
    "lesion_distances",
    "mesh_volume",
    "region_quantities",
    "suvbw_per_sul",
    "total_burden",
]
