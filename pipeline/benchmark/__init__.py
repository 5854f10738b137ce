"""Methods against each other on the same scans: measured, compared, held to a gate, and put into tables."""

from pipeline.benchmark.comparison import compare_methods
from pipeline.benchmark.competitors import Competitors, tune_competitors
from pipeline.benchmark.evaluation import Measurements, evaluate_methods, evaluate_scan
from pipeline.benchmark.gate import GateLine, ReleaseGate, check_gate, read_gate
from pipeline.benchmark.reference import Reference, full_dose_reference, simulated_reference
from pipeline.benchmark.result_tables import ResultTable, as_markdown, result_tables
from pipeline.benchmark.style_swap import has_style, measure_style_swap, swap_styles
from pipeline.benchmark.subjects import cohort_name_of, subjects_of_cohorts
from pipeline.benchmark.summary import LESION_CLASSES, lesions_in_class, summarise, summarise_lesions

__all__ = [
    "LESION_CLASSES",
    "Competitors",
    "GateLine",
    "Measurements",
    "Reference",
    "ReleaseGate",
    "ResultTable",
    "as_markdown",
    "check_gate",
    "cohort_name_of",
    "compare_methods",
    "evaluate_methods",
    "evaluate_scan",
    "full_dose_reference",
    "has_style",
    "lesions_in_class",
    "measure_style_swap",
    "read_gate",
    "result_tables",
    "simulated_reference",
    "subjects_of_cohorts",
    "summarise",
    "summarise_lesions",
    "swap_styles",
    "tune_competitors",
]
