"""A method is one file: the example of CONTRIBUTING.md trains, resumes, denoises and is evaluated."""

import re
import shutil

import numpy as np
import pytest
import torch
import yaml

from pipeline import read_pet
from pipeline.data import Manifest
from pipeline.shipped import own_bundle
from pipeline.training.checkpoint_files import checkpoint_files

pytestmark = pytest.mark.usefixtures("blank_figures")


@pytest.fixture
def bundle(tmp_path, repository):
    """The bundle, with the example of CONTRIBUTING.md as one more file and no other change."""
    copy = shutil.copytree(own_bundle(), tmp_path / "bundle", ignore=shutil.ignore_patterns("data", "runs", "eval"))
    text = (repository / "CONTRIBUTING.md").read_text(encoding="utf-8")
    example = re.search(r"run by tests/test_new_method.py -->\n```yaml\n(.*?)```", text, re.DOTALL)
    (copy / "configs" / "methods" / "residual_unet.yaml").write_text(example[1], encoding="utf-8")
    return copy


@pytest.mark.slow
def test_a_residual_u_net_is_one_file(unipet, bundle, data, tiny_cohort, tmp_path):
    given = dict(zip([key.removeprefix("--") for key in data[::2]], data[1::2], strict=True))
    own = ["--bundle", bundle, "--method", "residual_unet"]
    small = {**given, "n_patches": 4, "batch_size": 2, "patch_size": [16, 16, 16], "val_interval": 1}
    settings = [word for key, value in small.items() for word in ("--set", f"{key}={value}")]
    train = ["train", *own, *settings, "--output", tmp_path / "runs"]

    first = unipet(*train, "--set", "plain#max_epochs=1")
    assert (first.returncode, "finished, iterations: train 2/2" in first.stdout) == (0, True), first.stderr
    second = unipet(*train, "--set", "plain#max_epochs=2")
    assert (second.returncode, "finished, iterations: train 4/4" in second.stdout) == (0, True), second.stderr
    saved = torch.load(checkpoint_files(tmp_path / "runs" / "train")[0].path, weights_only=True)
    assert saved["objects"].keys() == {"network", "optimizer", "average", "log"}

    scan = next((tiny_cohort[0] / "pet").glob("*drf020_pet.nii.gz"))
    denoise = ["denoise", scan, tmp_path / "out", *own]
    missing = unipet(*denoise)
    assert missing.returncode == 1
    assert "models/residual_unet.pt: the weights do not exist" in missing.stderr
    shutil.copy(tmp_path / "runs" / "model.pt", bundle / "models" / "residual_unet.pt")
    done = unipet(*denoise)
    assert done.returncode == 0, done.stderr
    noisy, denoised = read_pet(scan), read_pet(next((tmp_path / "out").glob("*denoised_pet.nii.gz")))
    assert denoised.suv.shape == noisy.suv.shape
    assert not np.array_equal(denoised.suv, noisy.suv)

    manifest = Manifest.from_file(given["manifest"])
    subjects = tuple(s.model_copy(update={"split": "test"}) for s in manifest.subjects[:1])
    measured = manifest.model_copy(update={"subjects": subjects}).write(tmp_path / "test.yaml")
    evaluated = unipet("evaluate", measured, *own, "--root", given["dataset_dir"], "--tuning", tiny_cohort[1])
    assert evaluated.returncode == 0, evaluated.stderr
    assert "residual_unet" in evaluated.stdout


def test_weights_of_another_scale_are_refused_by_name(unipet, bundle, data, tiny_cohort, tmp_path):
    path = bundle / "configs" / "methods" / "unipet.yaml"
    method = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**method, "suv_scale": 4.0}), encoding="utf-8")
    scan = next((tiny_cohort[0] / "pet").glob("*drf020_pet.nii.gz"))
    done = unipet("denoise", scan, tmp_path / "out", "--bundle", bundle)
    assert done.returncode == 1
    assert "model.pt: weights of suv_scale 2, expected 4 as configured" in done.stderr
