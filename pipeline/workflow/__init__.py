"""The commands' work: a scan or a cohort in, everything about it out."""

from pipeline.workflow.cohort import describe_cohort
from pipeline.workflow.denoising import ScanResult, denoise_scan
from pipeline.workflow.noise_insertion import NoisyScan, insert_noise_into_scan

__all__ = ["NoisyScan", "ScanResult", "denoise_scan", "describe_cohort", "insert_noise_into_scan"]
