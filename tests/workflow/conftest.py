"""Scans and methods of a second or less."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.inferers import SimpleInferer
from torch import nn

from pipeline.inference import Denoiser
from pipeline.pet import PETHeader, PETSeries, write_nifti


@pytest.fixture(scope="session")
def identity() -> Denoiser:
    """Return the method that changes nothing."""
    return Denoiser(
        network=nn.Identity(), inferer=SimpleInferer(), suv_scale=2.0, method="identity", device=torch.device("cpu")
    )


@pytest.fixture(scope="session")
def body_series() -> Callable[..., PETSeries]:
    """Return a function that makes a warm block in air with a hot spot; noise of the seed."""

    def make(seed: int = 0, **header: object) -> PETSeries:
        suv = np.zeros((16, 16, 16), dtype=np.float32)
        suv[2:14, 2:14, 2:14] = np.random.default_rng(seed).gamma(20.0, 0.05, (12, 12, 12))
        suv[6:10, 6:10, 6:10] += 8
        affine = np.diag([5.0, 5.0, 5.0, 1.0])
        return PETSeries(suv=suv, affine=affine, header=PETHeader(units="GML", **header))

    return make


@pytest.fixture
def scan(body_series, tmp_path) -> Path:
    """Return the path of a scan as NIfTI with sidecar."""
    return write_nifti(body_series(), tmp_path / "sub-01_pet.nii.gz")
