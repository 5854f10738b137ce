"""Cohorts: many scans denoised alike, each once, on as many workers as fit; their state, tables and page."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.cohort.plan import CohortPlan
    from pipeline.cohort.run import CohortRun, Part, check_all_denoised
    from pipeline.cohort.scans import ScanFolder, ScanList, scans_in
    from pipeline.cohort.status import CohortStatus, cohort_status
    from pipeline.cohort.summary import write_summary

__all__ = [
    "CohortPlan",
    "CohortRun",
    "CohortStatus",
    "Part",
    "ScanFolder",
    "ScanList",
    "check_all_denoised",
    "cohort_status",
    "scans_in",
    "write_summary",
]

# Imported on first use: only denoising needs torch, which takes seconds to import.
_LAZY = {
    "CohortPlan": "plan",
    **dict.fromkeys(("CohortRun", "Part", "check_all_denoised"), "run"),
    **dict.fromkeys(("ScanFolder", "ScanList", "scans_in"), "scans"),
    **dict.fromkeys(("CohortStatus", "cohort_status"), "status"),
    "write_summary": "summary",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'pipeline.cohort' has no attribute {name!r}")
    return getattr(import_module(f"pipeline.cohort.{_LAZY[name]}"), name)
