"""The commands' work: a scan or a cohort in, everything about it out."""

from pipeline.workflow.cohort import describe_cohort
from pipeline.workflow.denoise import ScanResult, denoise_scan
from pipeline.workflow.insert_noise import NoisyScan, insert_noise_into_scan

__all__ = ["NoisyScan", "ScanResult", "denoise_scan", "describe_cohort", "insert_noise_into_scan"]
