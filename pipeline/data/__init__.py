"""Data for training and evaluation."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipeline.data.manifest import Manifest, read_image
from pipeline.data.scans import find_scans
from pipeline.shipped import own_manifest

if TYPE_CHECKING:
    from pipeline.data.building.build import build_manifest
    from pipeline.data.building.exclusions import read_exclusions
    from pipeline.data.checking.check import check_manifest
    from pipeline.data.checking.finding import Problem
    from pipeline.data.checking.tables import exclusion_table, noise_table, problem_table, summary_table
    from pipeline.data.datalist import decathlon_datalist
    from pipeline.data.datasets import PatchDataset
    from pipeline.data.kept_patches import KeptPatches
    from pipeline.data.mixed_doses import mix_doses
    from pipeline.data.simulated import described_data, prepared_store, simulated_manifest
    from pipeline.data.store.fingerprints import dose_key
    from pipeline.data.store.inserted_doses import NoiseInsertion
    from pipeline.data.store.prepare import Preparation, prepare_store
    from pipeline.data.store.store import Store
    from pipeline.data.volume_dataset import VolumeDataset

__all__ = [
    "KeptPatches",
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
]

# Imported on first use: what reads and checks files needs no torch, a manifest no simulation.
_LAZY = {
    "building.build": ("build_manifest",),
    "building.exclusions": ("read_exclusions",),
    "checking.check": ("check_manifest",),
    "checking.finding": ("Problem",),
    "checking.tables": ("exclusion_table", "noise_table", "problem_table", "summary_table"),
    "datalist": ("decathlon_datalist",),
    "datasets": ("PatchDataset",),
    "kept_patches": ("KeptPatches",),
    "mixed_doses": ("mix_doses",),
    "simulated": ("described_data", "prepared_store", "simulated_manifest"),
    "store.fingerprints": ("dose_key",),
    "store.inserted_doses": ("NoiseInsertion",),
    "store.prepare": ("Preparation", "prepare_store"),
    "store.store": ("Store",),
    "volume_dataset": ("VolumeDataset",),
}


def __getattr__(name: str) -> Any:
    for module, names in _LAZY.items():
        if name in names:
            return getattr(import_module(f"pipeline.data.{module}"), name)
    raise AttributeError(f"module 'pipeline.data' has no attribute {name!r}")
