"""Methods against each other on the same scans: measured, compared, held to a gate, and put into tables."""

from pipeline.comparison.baselines import Competitors, best_setting, tune_competitors
from pipeline.comparison.cases import Case, cases_of, check_other_cases, doses_of, scanner_of
from pipeline.comparison.differences import (
    COMPARED,
    compare_methods,
    gains_by_scanner,
    mean_interval,
    paired_difference,
)
from pipeline.comparison.filters import bm4d_filter, filters_named, nonlocal_means_filter
from pipeline.comparison.gate import GateLine, ReleaseGate, check_gate, read_gate
from pipeline.comparison.kept import KeptResults, state_of
from pipeline.comparison.lesions import CONCORDANCE, lesion_agreement, lesion_concordance
from pipeline.comparison.measure import (
    MEASURED_LESION_COLUMNS,
    MEASURED_SCAN_COLUMNS,
    Measurements,
    evaluate_methods,
    evaluate_scan,
    lesions_in_class,
    summarise,
    udpet_composite,
)
from pipeline.comparison.methods import DoseRead, Method, StatesDose, TunedFilter, noisy_input, with_dose
from pipeline.comparison.reference import Reference, full_dose_reference, reference_of
from pipeline.comparison.style_swap import has_style, measure_style_swap, swap_styles
from pipeline.comparison.tables import LESION_CLASSES, ResultTable, as_markdown, result_tables, summarise_lesions
from pipeline.evaluation import Interval

__all__ = [
    "COMPARED",
    "CONCORDANCE",
    "LESION_CLASSES",
    "MEASURED_LESION_COLUMNS",
    "MEASURED_SCAN_COLUMNS",
    "Case",
    "Competitors",
    "DoseRead",
    "GateLine",
    "Interval",
    "KeptResults",
    "Measurements",
    "Method",
    "Reference",
    "ReleaseGate",
    "ResultTable",
    "StatesDose",
    "TunedFilter",
    "as_markdown",
    "best_setting",
    "bm4d_filter",
    "cases_of",
    "check_gate",
    "check_other_cases",
    "compare_methods",
    "doses_of",
    "evaluate_methods",
    "evaluate_scan",
    "filters_named",
    "full_dose_reference",
    "gains_by_scanner",
    "has_style",
    "lesion_agreement",
    "lesion_concordance",
    "lesions_in_class",
    "mean_interval",
    "measure_style_swap",
    "noisy_input",
    "nonlocal_means_filter",
    "paired_difference",
    "read_gate",
    "reference_of",
    "result_tables",
    "scanner_of",
    "state_of",
    "summarise",
    "summarise_lesions",
    "swap_styles",
    "tune_competitors",
    "udpet_composite",
    "with_dose",
]
