"""What every command does alike: words of the shell, units in its help, errors, pipes and time."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from pipeline import cli
from pipeline.cli import console
from pipeline.errors import PETError

COMMANDS = ["denoise", "suv", "simulate", "insert-noise", "prepare", "train", "evaluate"]


@pytest.mark.parametrize(
    ("word", "expanded"),
    [
        ("--output=~/runs", "--output=HOME/runs"),
        ("--output=~", "--output=HOME"),
        ("--set", "--set"),
        ("--output=a~b", "--output=a~b"),
        ("--output=~other/runs", "--output=~other/runs"),
        ("~/runs", "~/runs"),  # the shell has seen to it, or somebody has quoted it
    ],
)
def test_a_home_folder_behind_an_equals_sign_is_expanded(monkeypatch, word, expanded):
    given: list[str] = []
    monkeypatch.setattr(cli, "app", given.extend)
    monkeypatch.setattr(cli, "end_by_signals", lambda: None)
    monkeypatch.setattr(sys, "argv", ["unipet", "train", word])
    cli.main()
    assert given == ["train", expanded.replace("HOME", str(Path.home()))]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_every_unit(unipet, command):
    group = typer.main.get_command(cli.app)
    texts = [parameter.help or "" for parameter in group.commands[command].params if hasattr(parameter, "help")]
    shown = " ".join(unipet(command, "--help").stdout.split())
    units = {unit for text in texts for unit in re.findall(r"\[[^\]]*\]", text)}
    assert not {unit for unit in units if unit not in shown}
    assert "[bold]" not in shown
    assert f"unipet {command}" in shown


def test_denoise_and_insert_noise_state_their_units(unipet):
    assert "[g/mL]" in unipet("denoise", "--help").stdout
    assert "[mL]" in unipet("denoise", "--help").stdout
    assert "[mm]" in unipet("insert-noise", "--help").stdout


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PETError("a: b"), "a: b"),
        (FileNotFoundError(2, "No such file or directory", "x\n"), r"x\n: no such file or directory"),
        (MemoryError("Unable to allocate 9 GiB"), "memory does not suffice (Unable to allocate 9 GiB)"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_mistake_of_the_user_is_one_line(capsys, error, line, wrapped):
    raised: BaseException = error
    if wrapped:
        raised = RuntimeError("a library failed")
        raised.__cause__ = error
    with pytest.raises(typer.Exit) as caught, console.errors_in_one_line():
        raise raised
    assert caught.value.exit_code == 1
    assert capsys.readouterr().err == f"unipet: {line}\n"


@pytest.mark.parametrize("error", [ValueError("shapes differ"), TypeError("no"), BrokenPipeError(32, "Broken pipe")])
def test_other_errors_are_left_alone(capsys, error):
    with pytest.raises(type(error)), console.errors_in_one_line():
        raise error
    assert capsys.readouterr().err == ""


def test_a_reader_that_has_gone_is_no_news(repository):
    code = "from pipeline.cli import main; main()"
    command = f"{sys.executable} -c '{code}' bundle path | true"
    done = subprocess.run(command, shell=True, cwd=repository, capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_the_time_told_begins_before_the_imports():
    code = (
        "import time, pipeline.cli.console as c; before = c.seconds_so_far(); import torch;"
        "assert c.seconds_so_far() > before > 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("device", ["gpu", "mps", "cuda:x"])
def test_a_device_that_is_none_is_refused_with_those_that_are(unipet, tmp_path, device):
    done = unipet("denoise", tmp_path, tmp_path / "out", "--device", device, "--method", "identity")
    assert done.returncode == 1
    assert f"device '{device}' cannot be used, expected cpu, cuda or, of several GPUs, such as cuda:1" in done.stderr
