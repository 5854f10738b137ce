"""Lesions as numbers: statistics of their SUV, their extent and distances, one table of them, and the whole burden."""

from pipeline.evaluation.lesions.contrast import (
    CONTRAST_COLUMNS,
    CONTRAST_RULE,
    REFERENCE_COLUMNS,
    reference_errors,
    region_contrast,
)
from pipeline.evaluation.lesions.extent import lesion_distances, mesh_volume
from pipeline.evaluation.lesions.intensity import (
    INTENSITY_STATISTICS,
    Histogram,
    intensity_histogram,
    intensity_statistics,
)
from pipeline.evaluation.lesions.matching import (
    MATCH_COLUMNS,
    MATCHING_RULE,
    PUBLISHED_CONCORDANCE,
    MatchCounts,
    Matching,
    compared_images,
    match_counts,
    match_regions,
    match_table,
    matches_of_images,
)
from pipeline.evaluation.lesions.table import (
    REGION_QUANTITIES,
    TOTAL_BURDEN,
    region_quantities,
    suvbw_per_sul,
    total_burden,
)

__all__ = [
    "CONTRAST_COLUMNS",
    "CONTRAST_RULE",
    "INTENSITY_STATISTICS",
    "MATCHING_RULE",
    "MATCH_COLUMNS",
    "PUBLISHED_CONCORDANCE",
    "REFERENCE_COLUMNS",
    "REGION_QUANTITIES",
    "TOTAL_BURDEN",
    "Histogram",
    "MatchCounts",
    "Matching",
    "compared_images",
    "intensity_histogram",
    "intensity_statistics",
    "lesion_distances",
    "match_counts",
    "match_regions",
    "match_table",
    "matches_of_images",
    "mesh_volume",
    "reference_errors",
    "region_contrast",
    "region_quantities",
    "suvbw_per_sul",
    "total_burden",
]
