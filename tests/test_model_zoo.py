"""What MONAI's model zoo checks of a bundle before it takes it, without the network that its own checks need."""

import copy
import json
from pathlib import Path

import jsonschema
import monai.bundle
import pytest
import torch
import yaml
from monai.bundle import ConfigParser, verify_net_in_out
from monai.bundle.workflows import ConfigWorkflow

from pipeline.networks import UniPET
from tests.own_process import run_module

LARGE = 25_000_000  # bytes of a file that the model zoo takes into its repository


@pytest.fixture(scope="module")
def bundle(repository) -> Path:
    return repository / "bundles" / "unipet_3d"


@pytest.fixture(scope="module")
def metadata(bundle) -> dict:
    return json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def schema(repository) -> dict:
    schema = json.loads((repository / "tests" / "metadata_schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return schema


def versions(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


@pytest.mark.parametrize(
    "name",
    [
        *("LICENSE", "large_files.yml", "docs/README.md", "models/model.pt"),
        *("configs/metadata.json", "configs/logging.conf"),
        *("configs/train.yaml", "configs/evaluate.yaml", "configs/inference.yaml", "configs/multi_gpu.yaml"),
    ],
)
def test_the_files_of_a_bundle_are_there(bundle, name):
    assert (bundle / name).stat().st_size > 0


def test_nothing_but_files_of_a_bundle_is_there(bundle):
    assert {path.name for path in bundle.iterdir()} <= {
        *("LICENSE", "configs", "docs", "large_files.yml", "models"),
        *("data", "eval", "runs"),  # made by using it, ignored by git
    }
    # A folder `scripts` would make the bundle run from its own folder only.
    assert not list(bundle.glob("scripts"))


def test_metadata_follow_the_specification(metadata, schema):
    jsonschema.validate(metadata, schema, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["version"], "first"),
        (["changelog"], {}),
        (["intended_use"], ""),
        (["autors"], "somebody"),
        (["required_packages_version", "scipy"], ">=1"),
        (["network_data_format", "inputs"], {}),
        (["network_data_format", "inputs", "image", "num_channels"], "1"),
        (["network_data_format", "inputs", "image", "spatial_shape"], ["*", "*"]),
        (["network_data_format", "outputs", "pred", "dtype"], "float"),
        (["network_data_format", "outputs", "pred", "channel_def"], {"first": "SUV"}),
    ],
)
def test_the_schema_refuses_wrong_metadata(metadata, schema, path, value):
    wrong = copy.deepcopy(metadata)
    *where, key = path
    record = wrong
    for part in where:
        record = record[part]
    record[key] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema, cls=jsonschema.Draft202012Validator)


def test_every_required_field_is_missed(metadata, schema):
    for key in schema["required"]:
        with pytest.raises(jsonschema.ValidationError, match=key):
            jsonschema.validate({k: v for k, v in metadata.items() if k != key}, schema)


def test_changelog_is_in_order_and_ends_with_the_version(metadata):
    listed = [versions(version) for version in metadata["changelog"]]
    assert listed in (sorted(listed), sorted(listed, reverse=True))
    assert max(listed) == versions(metadata["version"])


def test_metadata_name_the_versions_that_everything_was_tested_with(metadata, repository):
    assert f"version = {metadata['version']}" in (repository / "setup.cfg").read_text(encoding="utf-8")
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    assert metadata["monai_version"] == pinned["monai"]
    assert metadata["pytorch_version"] == pinned["torch"]
    assert metadata["numpy_version"] == pinned["numpy"]
    for package, version in metadata["required_packages_version"].items():
        assert pinned[package] == version, package


@pytest.mark.parametrize("name", ["train", "evaluate", "inference"])
def test_required_properties_are_there(bundle, name, data, tiny_cohort, tmp_path):
    names = {"train": ["train"], "evaluate": ["train", "evaluate"], "inference": ["inference"]}[name]
    own = {key.removeprefix("--"): yaml.safe_load(value) for key, value in zip(data[::2], data[1::2], strict=True)}
    # MONAI has properties of training and of inference; what evaluates on top of the training has those of training.
    workflow = ConfigWorkflow(
        config_file=[str(bundle / "configs" / f"{part}.yaml") for part in names],
        workflow_type="inference" if name == "inference" else "train",
        logging_file=False,
        bundle_root=str(bundle),
        output_dir=str(tmp_path),
        **({"dataset_dir": str(tiny_cohort[0])} if name == "inference" else {**own, "jobs": 1}),
    )
    workflow.initialize()
    assert workflow.check_properties() == []


@pytest.mark.parametrize("name", ["inference", "train"])
def test_the_network_takes_and_gives_what_the_metadata_say(bundle, monkeypatch, name):
    monkeypatch.chdir(bundle)
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / f"{name}.yaml"),
        n=1,
        any=16,
        device="cpu",
    )


def test_exported_torchscript_denoises_alike(bundle, tmp_path):
    """A small network of the shipped class, its style from statistics, every layer alive."""
    definition = ConfigParser.load_config_file(bundle / "configs" / "methods" / "unipet.yaml")["network_def"]
    definition |= {"channels": 8, "n_blocks": [1, 1, 1], "suv_scale": 2.0}
    network = ConfigParser({"network_def": definition}).get_parsed_content("network_def")
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    (tmp_path / "inference.yaml").write_text(yaml.safe_dump({"network_def": definition}))
    done = run_module(
        *("monai.bundle", "ckpt_export", "network_def"),
        *("--filepath", tmp_path / "model.ts", "--ckpt_file", tmp_path / "model.pt"),
        *("--meta_file", bundle / "configs" / "metadata.json", "--config_file", tmp_path / "inference.yaml"),
        *("--use_trace", "True", "--input_shape", "[1, 1, 16, 16, 16]"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    extra = {"metadata.json": "", "inference.json": ""}
    exported = torch.jit.load(tmp_path / "model.ts", _extra_files=extra).eval()
    assert json.loads(extra["metadata.json"])["name"] == "unipet_3d"
    assert json.loads(extra["inference.json"])["network_def"]["channels"] == 8
    network.eval()
    generator = torch.Generator().manual_seed(4)
    for side in (16, 24):  # also of a size that it was not exported with
        x = 3 * torch.rand(1, 1, side, side, side, generator=generator)
        with torch.no_grad():
            expected, found = network(x), exported(x)
        assert (expected - x).abs().max() > 1e-3
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_every_large_file_is_listed(bundle):
    listed = yaml.safe_load((bundle / "large_files.yml").read_text(encoding="utf-8"))["large_files"]
    shipped = [path for name in ("configs", "docs", "models") for path in (bundle / name).rglob("*") if path.is_file()]
    large = {str(path.relative_to(bundle)) for path in shipped if path.stat().st_size > LARGE}
    assert large <= {entry["path"] for entry in listed}
    assert (bundle / "models" / "model.pt").stat().st_size < 16 * 2**20


def test_monai_loads_the_network_with_its_weights(bundle, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    network = monai.bundle.load("unipet_3d", bundle_dir=str(bundle.parent), device="cpu")
    shipped = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert isinstance(network, UniPET)
    assert all(torch.equal(value, shipped[name]) for name, value in network.state_dict().items())


def test_every_required_package_is_one_that_pip_finds(metadata):
    """The model zoo installs each by name and version; this package has no release there."""
    assert "unipet_3d" not in metadata["required_packages_version"]
