"""A site of tiny scans, a bundle of a tiny network, and a training of seconds."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pipeline import read_pet
from pipeline.adaptation import AdaptationSettings
from pipeline.inference import Method
from pipeline.pet import PETSeries, write_nifti
from pipeline.shipped import copy_bundle, own_bundle
from pipeline.training import save_atomically
from pipeline.transforms import with_scale

_TRAINING = (
    ("n_patches", 32),
    ("n_scans", 2),
    ("patch_size", [16, 16, 16]),
    ("train#max_epochs", 6),
    ("stage#warmup", 2),
    ("train#optimizer#params#0#lr", 2e-3),
    ("train#critic#widths", [4, 8, 8]),
    ("validate#dataset#dose_reduction_factors", [20]),
)


@pytest.fixture(scope="session")
def full_doses(tiny_cohort) -> list[PETSeries]:
    """Full doses of two patients, in half as large voxels: the liver needs enough of them to measure its noise in."""
    found = []
    for folder in tiny_cohort:
        series = read_pet(next(folder.glob("pet/*_rec-full_pet.nii.gz")))
        affine = series.affine @ np.diag([0.5, 0.5, 0.5, 1.0])
        found.append(replace(series, suv=np.kron(series.suv, np.ones((2, 2, 2), np.float32)), affine=affine))
    return found


@pytest.fixture(scope="session")
def site_scan(full_doses) -> Callable[..., Path]:
    """Return a function that writes the n-th scan of a site as NIfTI, with what its header should say."""

    def write(folder: Path, number: int = 1, *, noise: float = 0.0, **header: object) -> Path:
        series = full_doses[number % 2]
        suv = series.suv * np.float32(1 + 0.02 * number)
        if noise:
            suv *= np.random.default_rng(number).normal(1, noise, suv.shape).astype(np.float32)
        stated = {"reconstruction_filter": "Gaussian 5", **header}
        folder.mkdir(parents=True, exist_ok=True)
        changed = replace(series, suv=suv, header=replace(series.header, **stated))
        return write_nifti(changed, folder / f"scan{number}.nii.gz")

    return write


@pytest.fixture(scope="session")
def site(site_scan, tmp_path_factory) -> Path:
    """Return a folder with three scans of one protocol; tests only read it."""
    folder = tmp_path_factory.mktemp("adaptation") / "site"
    for number in (1, 2, 3):
        site_scan(folder, number)
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory) -> Path:
    """Return a bundle of a small network whose weights are spoilt, so that there is much to gain."""
    folder = tmp_path_factory.mktemp("bundle")
    copy_bundle(own_bundle(), folder)
    path = folder / "configs" / "methods" / "unipet.yaml"
    method = yaml.safe_load(path.read_text(encoding="utf-8"))
    method["network_def"] |= {"channels": 8, "n_blocks": [1, 1, 1]}
    path.write_text(yaml.safe_dump(method), encoding="utf-8")
    network = Method(folder, "unipet")["network_def"]
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.03 * torch.randn(parameter.shape, generator=draw)
    save_atomically(with_scale(network.state_dict(), method["suv_scale"]), folder / "models" / "model.pt")
    return folder


@pytest.fixture(scope="session")
def settings(tiny_bundle, tiny_scanner) -> AdaptationSettings:
    """Return how the tiny bundle is adapted."""
    return AdaptationSettings(
        bundle=tiny_bundle, scanner=tiny_scanner, dose_reduction_factors=(4.0, 20.0), overrides=_TRAINING, jobs=1
    )
