"""`unipet train`: what it refuses before it starts, and that it then trains, stops in time, and goes on."""

import itertools
import traceback

import pytest
import torch
import yaml
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.data import Manifest
from pipeline.errors import causes_of
from pipeline.pet import PETError
from pipeline.shipped import method_files
from pipeline.training import TrainingResult, checked_config, parse_setting
from tests.own_process import run_code, run_module

TINY = [
    *("--set", "n_patches=8"),
    *("--set", "network_def#channels=8"),
    *("--set", "network_def#n_blocks=4"),
    *("--set", "pretrain#max_epochs=1"),
    *("--set", "train#max_epochs=1"),
    *("--set", "train#trainer#critic_warmup=1"),
]


@pytest.fixture
def settings(data):
    """The tiny data set as options of the command."""
    pairs = zip(data[::2], data[1::2], strict=True)
    return [argument for key, value in pairs for argument in ("--set", f"{key.removeprefix('--')}={value}")]


@pytest.fixture
def overlay(tmp_path):
    def write(text):
        path = tmp_path / "overlay.yaml"
        path.write_text(text)
        return str(path)

    return write


def refused(*arguments):
    """The one line with which the command ends before it trains."""
    done = CliRunner().invoke(app, ["train", *map(str, arguments)])
    assert done.exit_code == 1, done.output
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("unipet: ")
    assert "Epoch" not in done.stdout
    return lines[0]


def trained(*arguments):
    """What the command says on the screen when it trains."""
    done = CliRunner().invoke(app, ["train", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.stdout


def as_a_user(*arguments):
    return run_code("from pipeline.cli import main; main()", "train", *arguments)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("lrr=1e-3", "--set: unknown key lrr, did you mean plain#optimizer#lr?"),
        ("train#max_epoch=3", "--set: unknown key train#max_epoch, did you mean train#max_epochs?"),
        ("train::max_epoch=3", "--set: unknown key train#max_epoch, did you mean train#max_epochs?"),
        ("network_def#chanels=8", "--set: unknown key network_def#chanels, did you mean network_def#channels?"),
        ("train#trainer#style_wait=0", "did you mean train#trainer#style_weight?"),
        ("seed#first=1", "--set: unknown key seed#first"),
        ("patches#augmentation#99=null", "--set: unknown key patches#augmentation#99"),
        ("train#max_epochs=many", "train#max_epochs is 'many' (text), expected a whole number such as "),
        ("train#max_epochs=2.5", "train#max_epochs is 2.5 (a number), expected a whole number such as "),
        ("seed=true", "seed is True (true or false), expected a whole number"),
        ("batch_size=[4]", "batch_size is [4] (a list), expected a whole number such as 4"),
        ("patch_size=[32, 32, big]", "patch_size has 'big' (text) in it, expected a whole number"),
        ("train#trainer#style_weight=no", "style_weight is False (true or false), expected a number"),
        ("train={max_epochs: 3}", "train would lose "),
        ("network_def={channels: 8}", "network_def has no _target_"),
        ("network_def={_target_: pipeline.networks.UniPET, chanels: 8}", "no argument chanels, did you mean channels?"),
        ("val_interval=$@n_patchs * 2", "refers to @n_patchs, which does not exist, did you mean n_patches?"),
        ("network_def#_target_=pipeline.networks.UniPat", "Cannot locate class or function path"),
        (
            "loss#noise_floor=-1",
            "unipet: pipeline.losses.ReconstructionLoss: noise_floor must be above 0",
        ),
        ("device=tpu", "device is 'tpu', expected one of this machine"),
        ("patches_device=cuda:77", "patches_device is 'cuda:77', expected one of this machine"),
        ("num_workers=-1", "num_workers is -1, expected 0"),
        ("manifest=/nowhere/mine.yaml", "/nowhere/mine.yaml: "),
        ("output_dir=null", "has no output_dir, expected a training"),
        ("suv_scale=$1/0", "division by zero"),
        ("train#critic#widths=[]", "list index out of range"),
        ("train#critic#widths=[4,8,16,32,64]", "patches must be at least 64 voxels a side"),
        ("pretrain#network=$pipeline.networks.BaseDenoisingNetwork(16)", "size mismatch"),
        (
            "plain#max_epochs=3",
            "plain#max_epochs is of a stage that this method does not run, expected one of pretrain, train",
        ),
        ("train#trainer#gradient_clip=0", "gradient_clip must be above 0, or null for no limit, got 0"),
        ("train#trainer#gradient_clip=-1", "gradient_clip must be above 0"),
        ("stage#iterations=0", "iterations 0, keep 2: expected at least 1 each"),
        ("validate#key_metric=null", "the validation has no key metric, expected one to choose the weights by"),
        ("training=$1/0", "division by zero (--traceback shows where)"),
        ("train#max_epochs=0", "max_epochs must be at least 1, got 0"),
        ("stage#warmup=-1", "warmup -1, final 0.0: expected no negative number"),
        ("train#trainer#accumulation=3", "batch of 4 patches, expected a multiple of accumulation 3"),
        ("train#trainer#critic=null", "critic and critic_optimizer go together"),
        ("time_limit=soon", "time limit is 'soon', expected more than 0 seconds"),
        ("train#max_epochs", "--set train#max_epochs: expected key=value"),
        ("batch_size=[4", "--set batch_size=[4: the value is not YAML"),
    ],
)
def test_a_wrong_setting_is_one_line(settings, tmp_path, setting, said):
    own = setting.partition("=")[0]
    kept = [x for pair in zip(settings[::2], settings[1::2], strict=True) if not pair[1].startswith(own) for x in pair]
    output = () if own == "output_dir" else ("--output", tmp_path / "runs")
    assert said in refused(*kept, *TINY[:6], *output, "--set", setting)
    assert not (tmp_path / "runs" / "bdn").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: 1\nseed: 2\n", "key 'seed' stands twice"),
        ("train#max_epochs: 3\ntrain::max_epochs: 4\n", "train#max_epochs stands twice, expected every key once"),
        ("n_pathces: 4\n", "unknown key n_pathces, did you mean n_patches?"),
        ("pretrain#optimizer#lr: 1e-4\n", "expected a number such as 0.002 (YAML takes 1e-4 for text: write 1.0e-4)"),
        ("+patches#augmentation: {}\n", "+patches#augmentation is {} (a section), expected a list to extend one"),
        ("- seed\n", "holds a list, expected keys with values"),
        ("seed: [1\n", "not YAML"),
    ],
)
def test_a_wrong_overlay_is_one_line_that_names_it(overlay, text, said):
    line = refused("--config", overlay(text))
    assert "overlay.yaml: " in line
    assert said in line


def test_a_setting_is_given_once():
    assert "--set: seed stands twice" in refused("--set", "seed=1", "--set", "seed=2")


def test_missing_data_is_one_line(settings, data, tmp_path):
    manifest = Manifest.from_file(data[1])
    others = [
        x for pair in zip(settings[::2], settings[1::2], strict=True) if "dataset_dir" not in pair[1] for x in pair
    ]
    line = refused(*others, "--set", f"dataset_dir={tmp_path / 'gone'}", "--output", tmp_path / "runs")
    assert line.startswith(f"unipet: {tmp_path / 'gone'}: no such folder, expected dataset_dir")

    only = manifest.model_copy(update={"subjects": manifest.subjects[:1]}).write(tmp_path / "one.yaml")
    others = [x for pair in zip(settings[::2], settings[1::2], strict=True) if "manifest" not in pair[1] for x in pair]
    line = refused(*others, "--set", f"manifest={only}", "--output", tmp_path / "runs")
    assert line.endswith("one.yaml: has no subject of split validation, expected at least one")
    assert not (tmp_path / "runs").exists()


def test_an_output_that_cannot_be_written_is_one_line(settings, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "runs"):
        assert refused(*settings, "--output", folder).startswith(f"unipet: {folder}: cannot be written")


def test_a_folder_that_is_no_bundle_is_one_line(tmp_path):
    assert f"{tmp_path}/configs/train.yaml: " in refused("--bundle", tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "train.yaml").write_text("bundle_root: .\ntraining: []\n")
    assert "has no manifest, dataset_dir, " in refused("--bundle", tmp_path)


def test_what_a_component_refuses_is_one_line_too(settings, tmp_path):
    line = refused(*settings, *TINY[:6], "--output", tmp_path / "runs", "--set", "network_def#style=vague")
    assert "style must be 'convolutional' or 'statistics', got 'vague'" in line


def test_a_finished_training_says_that_it_did_nothing_and_what_changed_since(settings, tmp_path):
    arguments = [*settings, *TINY, "--output", tmp_path / "runs"]
    assert trained(*arguments).endswith("model.pt written\n")
    again = trained(*arguments, "--set", "patch_size=[40, 40, 40]")
    assert "model.pt was finished before and nothing was trained, although patch_size changed since" in again
    longer = [argument.replace("train#max_epochs=1", "train#max_epochs=2") for argument in map(str, arguments)]
    assert trained(*longer).endswith("model.pt written\n")


SLIP = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv3d(1, 1, 3, padding=1)

    def forward(self, x):
        return self.layres(x)

class Odd(torch.nn.Module):
    def __init__(self):
        super().__init__()
        raise ValueError("odd")
"""


def test_an_error_in_a_new_method_is_not_hidden(settings, tmp_path, monkeypatch):
    (tmp_path / "slip.py").write_text(SLIP)
    monkeypatch.syspath_prepend(tmp_path)
    options = [*settings, *TINY[:2], "--output", tmp_path / "runs", "--set", "stages=['@plain#stage']"]
    done = CliRunner().invoke(app, ["train", *map(str, options), "--set", "network_def={_target_: slip.Net}"])
    assert isinstance(done.exception, AttributeError)
    places = {frame.filename for frame in traceback.extract_tb(done.exception.__traceback__)}
    assert str(tmp_path / "slip.py") in places

    odd = ["--set", "network_def={_target_: slip.Odd}"]
    assert refused(*options, *odd) == "unipet: slip.Odd: odd (--traceback shows where)"
    done = CliRunner().invoke(app, ["train", *map(str, options), *odd, "--traceback"])
    assert isinstance(done.exception, PETError)
    assert str(causes_of(done.exception)[-1]) == "odd"


def test_mistakes_end_without_traceback_for_a_user(tmp_path):
    done = as_a_user("--set", "lrr=1e-3")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "unipet: --set: unknown key lrr, did you mean plain#optimizer#lr?\n"


def test_it_trains_stops_in_time_and_goes_on(settings, repository, tmp_path):
    arguments = [*settings, *TINY, "--output", tmp_path / "runs"]
    stopped = as_a_user(*arguments, "--time-limit", "0.001")
    assert stopped.returncode == 0, stopped.stderr
    assert "unipet: not finished" in stopped.stdout
    assert not (tmp_path / "runs" / "model.pt").exists()

    done = as_a_user(*arguments)
    assert done.returncode == 0, done.stderr
    assert "unipet: finished, iterations: BDN 2/2, UniPET 2/2" in done.stdout

    # In pieces or not, by this command or by MONAI's: the same weights.
    configs = repository / "bundles" / "unipet_3d" / "configs"
    pairs = [argument.split("=", 1) for argument in [*settings, *TINY][1::2]]
    monai = run_module(
        *("monai.bundle", "run", "training"),
        *("--config_file", [str(configs / name) for name in ("train.yaml", "methods/unipet.yaml")]),
        *("--output_dir", tmp_path / "monai"),
        *(word for key, value in pairs for word in (f"--{key}", value)),
        cwd=tmp_path,
    )
    assert monai.returncode == 0, monai.stderr
    ours, theirs = (torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("runs", "monai"))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_the_training_of_the_benchmark_in_pieces_gives_the_same_weights(settings, repository, tmp_path, monkeypatch):
    overlay = repository / "bundles" / "unipet_3d" / "configs" / "benchmark_training.yaml"
    own = ("patches#dataset#epochs=2", "train#val_interval=1", f"kept_dir={tmp_path / 'patches'}")
    arguments = [*settings, *TINY, "--config", overlay, *(word for text in own for word in ("--set", text))]
    assert trained(*arguments, "--output", tmp_path / "whole").endswith("model.pt written\n")
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("patches/*/*")}
    # Three scans of which the noise is measured, and two of each epoch, with their voxels.
    assert len([name for name in kept if name.endswith(".json")]) == 3 + 2 * 2 + 1
    assert len([name for name in kept if name.endswith(".vol")]) == 2 * 2

    said = ["not finished"]
    while "not finished" in said[-1]:
        looks = itertools.count()  # the time is over after the first iteration of every run, not at its start
        monkeypatch.setattr("pipeline.training.time_limit.TimeLimit._is_over", lambda limit, n=looks: next(n) > 0)
        said.append(trained(*arguments, "--time-limit", "1e6", "--output", tmp_path / "pieces"))
    assert len(said) > 3
    ours, theirs = (torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("pieces", "whole"))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("patches/*/*")} == kept


def test_weights_are_said_to_be_written_only_where_they_were(tmp_path):
    result = TrainingResult({"BDN": (2, 2)}, tmp_path / "model.pt", n_new=2)
    assert (
        str(result) == "finished, iterations: BDN 2/2\nno weights were written, for no stage is the last of its method"
    )
    (tmp_path / "model.pt").touch()
    assert str(result).endswith("model.pt written")


def test_the_overlay_for_several_gpus_is_right_for_one_process(settings, repository, tmp_path):
    overlay = repository / "bundles" / "unipet_3d" / "configs" / "multi_gpu.yaml"
    done = as_a_user(*settings, *TINY, "--config", overlay, "--set", "batch_size=8", "--output", tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    assert "finished, iterations: BDN 1/1, UniPET 1/1" in done.stdout


def test_overlays_of_the_bundle_are_right(repository):
    configs = repository / "bundles" / "unipet_3d" / "configs"
    overlays = [
        *(configs / f"{name}.yaml" for name in ("multi_gpu", "gpu", "evaluate")),
        *configs.glob("variants/*.yaml"),
    ]
    assert len(overlays) > 3
    for path in overlays:
        method = path.stem.removeprefix("published_") if path.parent.name == "variants" else "unipet"
        files = [*method_files(configs.parent, method), path]
        merged = checked_config(configs / "train.yaml", files, [("method", method)])
        own = yaml.safe_load(path.read_text())
        assert all(merged[key] == value for key, value in own.items() if "#" not in key)


def test_merging_is_that_of_monai(repository, tmp_path):
    from monai.bundle import ConfigParser

    base = repository / "bundles" / "unipet_3d" / "configs" / "train.yaml"
    path = tmp_path / "overlay.yaml"
    path.write_text(
        "helper: {factor: 3}\n"
        "n_patches: $100 * @helper#factor\n"
        "train::max_epochs: 7\n"
        "patches#augmentation#1#prob: 0.25\n"
        "+stages: ['@train#hand_over']\n"
        "network_def#n_stages: 3\n"
        "train#trainer#region_threshold: null\n"
    )
    files = [base.parent / "methods" / "unipet.yaml", path]
    assert checked_config(base, files) == ConfigParser.load_config_files([str(base), *map(str, files)])


@pytest.mark.parametrize(
    ("text", "value"),
    [("a=1e-4", 1e-4), ("a=3", 3), ("a=[1, 2]", [1, 2]), ("a=b=c", "b=c"), ("a=", None), ("a=$@b", "$@b")],
)
def test_settings_are_yaml_and_numbers(text, value):
    assert parse_setting(text) == ("a", value)
    assert type(parse_setting(text)[1]) is type(value)


def test_a_new_key_that_nothing_reads_is_unknown(repository):
    base = repository / "bundles" / "unipet_3d" / "configs" / "train.yaml"
    with pytest.raises(PETError, match="unknown key my_factor"):
        checked_config(base, settings=[("my_factor", 3)])
    assert checked_config(base, settings=[("my_factor", 3), ("n_patches", "$@my_factor")])["my_factor"] == 3
