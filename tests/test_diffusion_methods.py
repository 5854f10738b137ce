"""ddpm3d, ddpm2d and flow3d: each trains, goes on exactly where it stopped, and denoises."""

import json
import shutil

import numpy as np
import pytest
import torch
from monai.networks.schedulers import RFlowScheduler

from pipeline import read_pet
from pipeline.diffusion import RectifiedFlow, noise_scaled_residual
from pipeline.inference import Denoiser, SamplingInferer
from pipeline.networks import DiffusionBody
from pipeline.shipped import own_bundle
from pipeline.workflow.denoise import denoise_scan

pytestmark = pytest.mark.usefixtures("blank_figures")

METHODS = ["ddpm3d", "ddpm2d", "flow3d"]


@pytest.fixture
def bundle(tmp_path):
    return shutil.copytree(own_bundle(), tmp_path / "bundle", ignore=shutil.ignore_patterns("data", "runs", "eval"))


@pytest.fixture
def train(unipet, bundle, data, tmp_path):
    """Function that trains a method in small for some epochs of two iterations; the folder of the training."""
    given = dict(zip([key.removeprefix("--") for key in data[::2]], data[1::2], strict=True))
    small = {"n_patches": 4, "batch_size": 2, "patch_size": [16, 16, 16], "val_interval": 1}
    small |= {"network_def#channels": 4, "network_def#n_blocks": [1, 1, 1]}

    def run(method, folder, n_epochs):
        settings = [f"{key}={value}" for key, value in {**given, **small, "plain#max_epochs": n_epochs}.items()]
        done = unipet(
            *("train", "--bundle", bundle, "--method", method, "--output", tmp_path / folder),
            *(word for setting in settings for word in ("--set", setting)),
        )
        assert done.returncode == 0, done.stderr
        assert "finished" in done.stdout
        return tmp_path / folder

    return run


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_training_that_was_interrupted_ends_as_one_that_was_not(method, train):
    at_once, in_parts = train(method, "at_once", 3), train(method, "in_parts", 1)
    train(method, "in_parts", 3)
    one, other = (torch.load(folder / "model.pt", weights_only=True) for folder in (at_once, in_parts))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(value.abs().max() > 0 for name, value in one.items() if name.startswith("reconstruct"))


@pytest.mark.parametrize(("n_samples", "strength"), [(1, 1.0), (2, 1.0), (2, 0.5)])
def test_the_uncertainty_is_written_beside_the_scan_in_suv(n_samples, strength, tiny_cohort, tmp_path):
    flow = RectifiedFlow(RFlowScheduler(1000, use_discrete_timesteps=True))
    inferer = SamplingInferer(process=flow, coding=noise_scaled_residual, n_steps=1, n_samples=n_samples)
    denoiser = Denoiser(
        network=DiffusionBody(4, 1, channels=4, n_blocks=(1,)),  # untrained: what is drawn is added
        inferer=inferer,
        suv_scale=2.0,
        strength=strength,
        method="flow",
        device=torch.device("cpu"),
    )
    scan = next((tiny_cohort[0] / "pet").glob("*drf020_pet.nii.gz"))
    run = denoise_scan(scan, tmp_path / "out", denoiser).run
    assert (run["n_samples"], run["n_steps"], run["sampling_seed"]) == (n_samples, 1, 0)
    found = list((tmp_path / "out").glob("*_desc-uncertainty_pet.nii.gz"))
    assert len(found) == (n_samples > 1)
    if found:
        low = torch.from_numpy(read_pet(scan).suv)[None, None] / 2
        drawn = [torch.randn(low.shape, generator=torch.Generator().manual_seed(k)) for k in range(2)]
        expected = noise_scaled_residual(low).scale * torch.stack(drawn).std(dim=0) * 2 * strength
        np.testing.assert_allclose(read_pet(found[0]).suv, expected[0, 0].numpy(), rtol=1e-3, atol=1e-5)
        sidecar = json.loads(found[0].with_name(found[0].name.replace(".nii.gz", ".json")).read_text())
        assert sidecar["DenoisingStrength"] == strength
        assert sidecar["DenoisingSourceSHA256"] == run["source_sha256"]
        assert sidecar["Provenance"][-1] == f"Standard deviation of 2 samples of flow, strength {strength:g}."
