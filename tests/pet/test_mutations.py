"""Thousands of broken DICOM files: each is read, or refused with a `PETError`, soon and in little memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

GIBIBYTE = 2**30
N_FAST = 500


def tried(repository: Path, *, first: int, number: int) -> dict[str, object]:
    """Run mutations in a process of their own, so that the memory is theirs alone."""
    command = [sys.executable, str(Path(__file__).with_name("mutations.py"))]
    command += ["--first", str(first), "--number", str(number)]
    environment = os.environ | {"PYTHONPATH": str(repository)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def assert_held(result: dict[str, object], number: int) -> None:
    assert result["tried"] == number
    assert result["leaks"] == []
    assert result["slowest"] < 10.0
    assert result["peak"] < GIBIBYTE


def test_mutated_files(repository):
    assert_held(tried(repository, first=0, number=N_FAST), N_FAST)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_mutated_files(repository):
    assert_held(tried(repository, first=0, number=20_000), 20_000)
