"""Data for training and evaluation."""

from pipeline.data.cohort import cohort_items, dose_keys
from pipeline.data.manifest import Manifest, read_image
from pipeline.data.scans import find_scans

__all__ = ["Manifest", "cohort_items", "dose_keys", "find_scans", "read_image"]
