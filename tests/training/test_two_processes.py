"""Two processes with half a batch each train as one with the whole batch."""

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from two_processes import train, train_as

from pipeline.pet import PETError
from pipeline.training.checkpoint_files import checkpoint_files
from pipeline.training.distributed import leave_processes, process_slice


def results_of_two(context, folder: Path, accumulation: int) -> list[dict[str, Any]]:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        (folder / "port").write_text(str(s.getsockname()[1]))
    processes = [context.Process(target=train_as, args=(rank, folder, accumulation)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    return [torch.load(folder / f"result-{rank}.pt", weights_only=True) for rank in (0, 1)]


def largest_difference(a: dict[str, Any], b: dict[str, Any], module: str) -> float:
    """Of the gradients of a module, relative to the largest one."""
    pairs = list(zip(a["gradients"][module], b["gradients"][module], strict=True))
    return max((x - y).abs().max().item() for x, y in pairs) / max(y.abs().max().item() for _, y in pairs)


@pytest.mark.parametrize("accumulation", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_halves_of_a_batch_make_the_step_of_the_whole(processes, tmp_path, accumulation):
    one = train(tmp_path / "one")
    two = results_of_two(processes, tmp_path, accumulation)
    assert [result["n_patches"] for result in (one, *two)] == [4, 2, 2]
    for result in two:
        assert result["loss"] == pytest.approx(one["loss"], rel=1e-9)
        assert result["losses"] == pytest.approx(one["losses"], rel=1e-9)
        assert set(result["losses"]) == {"critic", "reconstruction", "style", "adversarial"}
        for module in ("network", "critic"):
            assert largest_difference(result, one, module) < 1e-9
            for name, value in result["weights"][module].items():
                assert torch.equal(value, two[0]["weights"][module][name])
    newest = checkpoint_files(tmp_path / "checkpoints")
    assert len(newest) == 1
    state = torch.load(newest[0].path, weights_only=True)
    assert len(state["random"]) == 2
    assert state["objects"]["network"].keys() == one["weights"]["network"].keys()


def test_alone_there_is_nothing_to_share():
    assert process_slice([1, 2, 3]) == [1, 2, 3]
    leave_processes()


def test_a_process_without_a_share_is_refused(monkeypatch):
    monkeypatch.setattr("pipeline.training.distributed.world_size", lambda: 4)
    with pytest.raises(PETError, match="3 items for 4 processes, expected at least one for each"):
        process_slice([1, 2, 3])
