"""ddpm3d, ddpm2d and flow3d: each trains, goes on exactly where it stopped, and denoises."""

import shutil

import pytest
import torch

from pipeline.shipped import own_bundle

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
