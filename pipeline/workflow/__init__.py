"""Library calls behind the commands: everything about one scan, as files, and one scan of many as a task."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.workflow.cohort import describe_cohort
    from pipeline.workflow.denoise import ScanResult, denoise_scan
    from pipeline.workflow.insert_noise import NoisyScan, insert_noise_into_scan
    from pipeline.workflow.region_rule import RegionRule
    from pipeline.workflow.repeat import RepeatRule
    from pipeline.workflow.scan_task import DenoiseOptions, ScanOutcome, ScanTask

__all__ = [
    "DenoiseOptions",
    "NoisyScan",
    "RegionRule",
    "RepeatRule",
    "ScanOutcome",
    "ScanResult",
    "ScanTask",
    "denoise_scan",
    "describe_cohort",
    "insert_noise_into_scan",
]

# Imported on first use: only denoising needs torch, which takes seconds to import.
_LAZY = {
    **dict.fromkeys(("ScanResult", "denoise_scan"), "denoise"),
    **dict.fromkeys(("DenoiseOptions", "ScanOutcome", "ScanTask"), "scan_task"),
    **dict.fromkeys(("NoisyScan", "insert_noise_into_scan"), "insert_noise"),
    "RegionRule": "region_rule",
    "RepeatRule": "repeat",
    "describe_cohort": "cohort",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'pipeline.workflow' has no attribute {name!r}")
    return getattr(import_module(f"pipeline.workflow.{_LAZY[name]}"), name)
