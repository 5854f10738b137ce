"""`import unipet` is `import pipeline`, and names the file that hides the latter."""

import subprocess
import sys
from pathlib import Path

import pytest

import pipeline
import unipet
from tests.own_process import run_module


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False)


def test_both_names_give_the_same_objects():
    assert all(getattr(unipet, name) is getattr(pipeline, name) for name in pipeline.__all__)
    with pytest.raises(AttributeError):
        _ = unipet.nothing_of_the_kind


def test_a_file_that_hides_the_package_is_named(tmp_path):
    (tmp_path / "pipeline.py").write_text("steps = []\n")
    done = run(tmp_path, "-c", "from unipet import read_pet")
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: {tmp_path / 'pipeline.py'} hides the package 'pipeline' of unipet_3d")


def test_the_command_names_the_hiding_file_in_one_line(tmp_path):
    (tmp_path / "pipeline.py").write_text("steps = []\n")
    done = run(tmp_path, "-m", "unipet", "--version")
    assert done.returncode == 1
    assert done.stderr.startswith(f"unipet: {tmp_path / 'pipeline.py'} hides the package")
    assert len(done.stderr.splitlines()) == 1


def test_the_module_is_the_command(tmp_path):
    done = run(tmp_path, "-m", "unipet", "--version")
    assert done.stdout == f"{pipeline.__version__}\n"


@pytest.mark.parametrize("arguments", [["inference.yaml"], ["train.yaml", "training"]], ids=lambda names: names[0])
def test_a_bundle_run_names_the_hiding_file(arguments, repository, tmp_path):
    (tmp_path / "pipeline.py").write_text("steps = []\n")
    config = repository / "bundles" / "unipet_3d" / "configs" / arguments[0]
    done = run_module("monai.bundle", "run", *arguments[1:], "--config_file", config, cwd=tmp_path)
    assert done.returncode != 0
    assert f"{tmp_path / 'pipeline.py'} hides the package" in done.stderr
