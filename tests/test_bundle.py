"""The bundle through MONAI's own command: training, resuming, evaluation, inference."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from pipeline import read_pet
from pipeline.errors import PETError
from pipeline.inference import Method, load_weights
from pipeline.shipped import method_files
from tests.own_process import run_module


@pytest.fixture(scope="module")
def bundle(repository) -> Path:
    return repository / "bundles" / "unipet_3d"


def run_bundle(*arguments: str, cwd: Path) -> str:
    """Run `python -m monai.bundle run ...` as a user would; returns what it printed."""
    done = run_module("monai.bundle", "run", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def tiny_method(folder: Path) -> Path:
    """A method of one's own, as a file outside of the bundle: UniPET, small."""
    path = folder / "tiny.yaml"
    path.write_text(
        f"based_on: unipet\nnetwork_def#channels: 8\nnetwork_def#n_blocks: [1, 1, 1]\nweights: {folder / 'model.pt'}\n"
    )
    return path


def training_arguments(bundle: Path, data: list[str], output: Path, *, max_epochs: int) -> list[str]:
    return [
        *("--config_file", str(bundle / "configs" / "train.yaml")),
        *("--method", str(tiny_method(output.parent))),
        *("--output_dir", str(output)),
        *data,
        *("--n_patches", "8"),
        *("--patch_size", "[32,32,32]"),
        *("--pretrain#max_epochs", "1"),
        *("--train#max_epochs", str(max_epochs)),
        *("--train#trainer#critic_warmup", "1"),
    ]


@pytest.mark.slow
def test_training_runs_stops_and_resumes_from_elsewhere(bundle, data, tmp_path, repository):
    output = tmp_path / "runs"
    run_bundle("training", *training_arguments(bundle, data, output, max_epochs=1), cwd=repository)
    assert (output / "model.pt").is_file()
    first = (output / "progress.tsv").read_text().splitlines()
    assert {tuple(line.split("\t")[:2]) for line in first[1:]} == {("BDN", "1"), ("UniPET", "1")}

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    said = run_bundle("training", *training_arguments(bundle, data, output, max_epochs=3), cwd=elsewhere)
    assert "continuing from" in said
    lines = (output / "progress.tsv").read_text().splitlines()
    added = [tuple(line.split("\t")[:2]) for line in lines[len(first) :]]
    assert set(added) == {("UniPET", "2"), ("UniPET", "3")}
    assert not list(elsewhere.iterdir())


def test_a_mistake_in_a_bundle_training_is_one_line(bundle, tmp_path):
    config = str(bundle / "configs" / "train.yaml")
    done = run_module(
        *("monai.bundle", "run", "training", "--config_file", config),
        *("--manifest", tmp_path / "nosuch.yaml", "--output_dir", tmp_path / "runs"),
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("unipet: ")
    assert "nosuch.yaml" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_the_run_id_of_the_model_zoo_works_too(bundle, data, tmp_path):
    run_bundle(*training_arguments(bundle, data, tmp_path / "runs", max_epochs=1), cwd=tmp_path)
    assert list((tmp_path / "runs" / "unipet").glob("iteration-*.pt"))


def test_evaluation_prints_the_psnr_of_the_weights(bundle, data, tmp_path):
    method = tiny_method(tmp_path)
    torch.save(Method(bundle, str(method))["network_def"].state_dict(), tmp_path / "model.pt")
    said = run_bundle(
        "evaluating",
        *("--config_file", str([str(bundle / "configs" / f"{name}.yaml") for name in ("train", "evaluate")])),
        *("--output_dir", tmp_path),
        *("--method", method),
        *data,
        cwd=tmp_path,
    )
    assert re.search(r"PSNR on the validation subjects \[dB\]: \d\d\.\d", said)


def test_inference_denoises_a_folder(bundle, tiny_cohort, tmp_path):
    scans = tmp_path / "scans"
    scans.mkdir()
    name = "sub-0001_rec-drf020_pet"
    for suffix in (".nii.gz", ".json"):
        (scans / (name + suffix)).write_bytes((tiny_cohort[0] / "pet" / (name + suffix)).read_bytes())
    run_bundle(
        *("--config_file", bundle / "configs" / "inference.yaml"),
        *("--dataset_dir", scans),
        *("--output_dir", tmp_path / "out"),
        cwd=tmp_path,
    )
    noisy = read_pet(scans / f"{name}.nii.gz")
    denoised = read_pet(tmp_path / "out" / "sub-0001_rec-drf020" / "sub-0001_rec-drf020_desc-denoised_pet.nii.gz")
    np.testing.assert_allclose(denoised.affine, noisy.affine, atol=1e-4)
    assert denoised.suv.min() >= 0
    assert not np.array_equal(denoised.suv, noisy.suv)
    from_dicom = read_pet(tmp_path / "out" / "sub-0001_rec-drf020" / "dicom")
    assert len(from_dicom.source_files) == noisy.suv.shape[2]
    np.testing.assert_allclose(from_dicom.suv, denoised.suv, atol=denoised.suv.max() / 32767)


@pytest.mark.slow
def test_a_method_of_the_bundle_is_what_runs_and_what_is_recorded(bundle, tiny_cohort, tmp_path):
    scans = tmp_path / "scans"
    scans.mkdir()
    name = "sub-0001_rec-drf020_pet"
    for suffix in (".nii.gz", ".json"):
        (scans / (name + suffix)).write_bytes((tiny_cohort[0] / "pet" / (name + suffix)).read_bytes())
    run_bundle(
        *("--config_file", bundle / "configs" / "inference.yaml"),
        *("--dataset_dir", scans),
        *("--output_dir", tmp_path / "out"),
        *("--method", "identity"),
        cwd=tmp_path,
    )
    found = next((tmp_path / "out").rglob("*denoised_pet.nii.gz"))
    np.testing.assert_allclose(read_pet(found).suv, read_pet(scans / f"{name}.nii.gz").suv.clip(0), rtol=1e-5)
    record = found.with_name(found.name.replace(".nii.gz", ".json")).read_text()
    assert "Denoised by identity, strength 1." in record


def test_networks_are_written_in_the_files_of_methods_alone(bundle):
    def holds(path: Path) -> bool:
        return isinstance(ConfigParser.load_config_file(path).get("network_def"), dict)

    assert not [path.name for path in bundle.glob("configs/*.yaml") if holds(path)]
    assert {"identity.yaml", "unipet.yaml"} <= {
        path.name for path in bundle.glob("configs/methods/*.yaml") if holds(path)
    }


def test_the_shipped_weights_are_those_of_the_method(bundle):
    method = Method(bundle, "unipet")
    load_weights(method["network_def"], method["weights"], suv_scale=method["suv_scale"])


def test_a_folder_that_is_no_bundle_is_said_to_be_none(tmp_path):
    with pytest.raises(PETError, match="not a bundle, configs/methods is missing"):
        method_files(tmp_path, "unipet")
