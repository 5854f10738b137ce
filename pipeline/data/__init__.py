"""Data for training and evaluation."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipeline.data.manifest import Manifest, read_image
from pipeline.data.scans import find_scans

if TYPE_CHECKING:
    from pipeline.data.building.build import build_manifest
    from pipeline.data.building.exclusions import read_exclusions
    from pipeline.data.checking.check import check_manifest
    from pipeline.data.checking.finding import Problem, problem_table
    from pipeline.data.checking.noise_of_doses import noise_table
    from pipeline.data.checking.summary import exclusion_table, summary_table
    from pipeline.data.datalist import decathlon_datalist, write_datalist
    from pipeline.data.datasets import PatchDataset, VolumeDataset, mix_doses
    from pipeline.data.simulated import described_data, prepared_store, simulated_manifest
    from pipeline.data.store.fingerprints import dose_key
    from pipeline.data.store.inserted_doses import NoiseInsertion
    from pipeline.data.store.prepare import Preparation, prepare_store
    from pipeline.data.store.store import Store
    from pipeline.shipped import own_manifest

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
    "decathlon_datalist",
    "described_data",
    "dose_key",
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
    "NoiseInsertion": "pipeline.data.store.inserted_doses",
    "PatchDataset": "pipeline.data.datasets",
    "Preparation": "pipeline.data.store.prepare",
    "Problem": "pipeline.data.checking.finding",
    "Store": "pipeline.data.store.store",
    "VolumeDataset": "pipeline.data.datasets",
    "build_manifest": "pipeline.data.building.build",
    "check_manifest": "pipeline.data.checking.check",
    "described_data": "pipeline.data.simulated",
    "dose_key": "pipeline.data.store.fingerprints",
    "mix_doses": "pipeline.data.datasets",
    "decathlon_datalist": "pipeline.data.datalist",
    "exclusion_table": "pipeline.data.checking.summary",
    "noise_table": "pipeline.data.checking.noise_of_doses",
    "prepare_store": "pipeline.data.store.prepare",
    "own_manifest": "pipeline.shipped",
    "prepared_store": "pipeline.data.simulated",
    "problem_table": "pipeline.data.checking.finding",
    "read_exclusions": "pipeline.data.building.exclusions",
    "simulated_manifest": "pipeline.data.simulated",
    "summary_table": "pipeline.data.checking.summary",
    "write_datalist": "pipeline.data.datalist",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'pipeline.data' has no attribute {name!r}")
