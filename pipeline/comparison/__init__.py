"""Methods against each other on the same scans: measured, compared, held to a gate, and put into tables."""

from pipeline.comparison.baselines import Competitors, tune_competitors
from pipeline.comparison.bootstrap import Interval, paired_bootstrap
from pipeline.comparison.differences import compare_methods
from pipeline.comparison.gate import GateLine, ReleaseGate, check_gate, read_gate
from pipeline.comparison.gaussian_width import best_gaussian_fwhm
from pipeline.comparison.measure import Measurements, evaluate_methods, evaluate_scan
from pipeline.comparison.nonlocal_means import best_nonlocal_means_strength, nonlocal_means_filter
from pipeline.comparison.reference import Reference, full_dose_reference, simulated_reference
from pipeline.comparison.style_swap import has_style, measure_style_swap, swap_styles
from pipeline.comparison.subjects import cohort_name_of, subjects_of_cohorts
from pipeline.comparison.summary import LESION_CLASSES, lesions_in_class, summarise, summarise_lesions
from pipeline.comparison.tables import ResultTable, as_markdown, result_tables

__all__ = [
    "LESION_CLASSES",
    "Competitors",
    "GateLine",
    "Interval",
    "Measurements",
    "Reference",
    "ReleaseGate",
    "ResultTable",
    "as_markdown",
    "best_gaussian_fwhm",
    "best_nonlocal_means_strength",
    "check_gate",
    "cohort_name_of",
    "compare_methods",
    "evaluate_methods",
    "evaluate_scan",
    "full_dose_reference",
    "has_style",
    "lesions_in_class",
    "measure_style_swap",
    "nonlocal_means_filter",
    "paired_bootstrap",
    "read_gate",
    "result_tables",
    "simulated_reference",
    "subjects_of_cohorts",
    "summarise",
    "summarise_lesions",
    "swap_styles",
    "tune_competitors",
]
