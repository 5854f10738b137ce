"""SIGKILL at any point, while saving too: the resumed training ends with the weights of the uninterrupted one."""

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from killed_training import count_points, train

from pipeline.training.checkpoint_files import checkpoint_files


def run(processes, target, *arguments) -> int:
    process = processes.Process(target=target, args=arguments)
    process.start()
    process.join()
    return process.exitcode


@pytest.fixture(scope="module")
def uninterrupted(processes, tmp_path_factory) -> tuple[dict, int, list[int]]:
    """Final weights, number of points, and the points in the code that saves."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    queue = processes.Queue()
    process = processes.Process(target=count_points, args=(folder, queue))
    process.start()
    n, saving = queue.get(timeout=120)
    process.join()
    return torch.load(folder / "model.pt", weights_only=True), n, saving


def assert_survives(processes, uninterrupted, folder: Path, point: int) -> None:
    assert run(processes, train, folder, point) == -signal.SIGKILL
    seed = 99 if checkpoint_files(folder / "checkpoints") else 0  # what is resumed owes nothing to its first weights
    assert run(processes, train, folder, None, seed) == 0
    weights = torch.load(folder / "model.pt", weights_only=True)
    for name, value in uninterrupted[0].items():
        assert torch.equal(weights[name], value), f"killed at point {point}: {name}"
    assert not list(folder.rglob(".writing-*"))


def drawn_points(uninterrupted, n: int) -> list[int]:
    """Half of the points in the code that saves, the others anywhere; the same ones in every run."""
    _, n_points, saving = uninterrupted
    rng = np.random.default_rng(20)
    elsewhere = sorted(set(range(n_points)) - set(saving))
    chosen = [
        *rng.choice(saving, n - n // 2, replace=False),
        *rng.choice(elsewhere, min(n // 2, len(elsewhere)), False),
    ]
    return [int(point) for point in chosen]


def test_there_are_points_within_and_between_saves(uninterrupted):
    _, n_points, saving = uninterrupted
    assert len(saving) > 200
    assert n_points - len(saving) == 12


def test_killed_at_three_points(processes, uninterrupted, tmp_path):
    for point in drawn_points(uninterrupted, 3):
        assert_survives(processes, uninterrupted, tmp_path / str(point), point)


@pytest.mark.slow
def test_killed_at_twenty_five_points(processes, uninterrupted, tmp_path):
    for point in drawn_points(uninterrupted, 25):
        assert_survives(processes, uninterrupted, tmp_path / str(point), point)


@pytest.mark.slow
def test_killed_again_and_again(processes, uninterrupted, tmp_path):
    rng = np.random.default_rng(21)
    _, n_points, _ = uninterrupted
    n_kills = 0
    while n_kills < 12:
        # Each attempt may get a third of the way, so most save once or twice and then die.
        seed = 99 if checkpoint_files(tmp_path / "checkpoints") else 0
        if run(processes, train, tmp_path, int(rng.integers(n_points // 3)), seed) == 0:
            break
        n_kills += 1
    assert n_kills > 2
    assert run(processes, train, tmp_path, None, 99) == 0
    weights = torch.load(tmp_path / "model.pt", weights_only=True)
    assert all(torch.equal(weights[name], value) for name, value in uninterrupted[0].items())
