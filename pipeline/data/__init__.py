"""Data for training and evaluation."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipeline.data.cohort import cohort_items, dose_keys
from pipeline.data.doses import dose_key, mix_doses
from pipeline.data.manifest import Manifest, read_image
from pipeline.data.scans import find_scans

if TYPE_CHECKING:
    from pipeline.data.build import build_manifest
    from pipeline.data.check import check_manifest
    from pipeline.data.datalist import decathlon_datalist, write_datalist
    from pipeline.data.exclusions import read_exclusions
    from pipeline.data.insertion import NoiseInsertion
    from pipeline.data.noise_of_doses import noise_table
    from pipeline.data.patches import PatchDataset
    from pipeline.data.prepare import Preparation, prepare_store
    from pipeline.data.prepared import own_manifest, prepared_store
    from pipeline.data.problem import Problem, problem_table
    from pipeline.data.recipe import simulated_manifest
    from pipeline.data.store import Store
    from pipeline.data.summary import exclusion_table, summary_table
    from pipeline.data.volumes import VolumeDataset

__all__ = [
    "Manifest",
    "NoiseInsertion",
    "PatchDataset",
    "Preparation",
    "Problem",
    "Store",
    "VolumeDataset",
    "build_manifest",
    "check_manifest",
    "cohort_items",
    "decathlon_datalist",
    "dose_key",
    "dose_keys",
    "exclusion_table",
    "find_scans",
    "mix_doses",
    "noise_table",
    "own_manifest",
    "prepare_store",
    "prepared_store",
    "problem_table",
    "read_exclusions",
    "read_image",
    "simulated_manifest",
    "summary_table",
    "write_datalist",
]

# Imported on first use: what reads and checks files needs no torch, a manifest no simulation.
_LAZY = {
    "NoiseInsertion": "pipeline.data.insertion",
    "PatchDataset": "pipeline.data.patches",
    "Preparation": "pipeline.data.prepare",
    "Problem": "pipeline.data.problem",
    "Store": "pipeline.data.store",
    "VolumeDataset": "pipeline.data.volumes",
    "build_manifest": "pipeline.data.build",
    "check_manifest": "pipeline.data.check",
    "decathlon_datalist": "pipeline.data.datalist",
    "exclusion_table": "pipeline.data.summary",
    "noise_table": "pipeline.data.noise_of_doses",
    "prepare_store": "pipeline.data.prepare",
    "own_manifest": "pipeline.data.prepared",
    "prepared_store": "pipeline.data.prepared",
    "problem_table": "pipeline.data.problem",
    "read_exclusions": "pipeline.data.exclusions",
    "simulated_manifest": "pipeline.data.recipe",
    "summary_table": "pipeline.data.summary",
    "write_datalist": "pipeline.data.datalist",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'pipeline.data' has no attribute {name!r}")
