"""`make gpu`, at a size that a CPU does in a minute: pieces, what they leave, what they say."""

import importlib.util
import json
import subprocess
import sys

import pytest
import torch

from pipeline.data import Manifest, own_manifest


@pytest.fixture(scope="module")
def script(repository):
    spec = importlib.util.spec_from_file_location("gpu", repository / "benchmarks" / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pieces_end_in_time_and_go_on(repository, data, tmp_path):
    given = dict(zip(data[::2], data[1::2], strict=True))
    small = ["n_patches=4", "batch_size=2", "patch_size=[32,32,32]", "network_def#channels=8", "network_def#n_blocks=4"]
    small += ["num_workers=0", "pretrain#max_epochs=1", "train#max_epochs=1", "val_interval=1"]

    def piece(limit, *, device="cpu"):
        return subprocess.run(
            [
                *(
                    sys.executable,
                    repository / "benchmarks" / "gpu.py",
                    "--out",
                    tmp_path / "out",
                    "--limit",
                    str(limit),
                ),
                *("--manifest", given["--manifest"], "--data", given["--dataset_dir"], "--device", device),
                *("--jobs", "1", "--config", repository / "bundles" / "unipet_3d" / "configs" / "gpu.yaml"),
                *(word for setting in small for word in ("--set", setting)),
            ],
            cwd=repository,
            capture_output=True,
            text=True,
            check=False,
        )

    first = piece(0.001)
    assert first.returncode == 0, first.stderr
    assert "not finished (preparing, 1 of 2 subjects); run the same command again" in first.stdout

    last = piece(500)
    assert last.returncode == 0, last.stdout + last.stderr
    assert "finished, iterations: pretrain 2/2, train 2/2" in last.stdout
    for name in ("model.pt", "progress.png", "progress.tsv", "tensorboard"):
        assert (tmp_path / "out" / "runs" / name).exists(), name
    torch.load(tmp_path / "out" / "runs" / "model.pt", weights_only=True)
    records = json.loads((tmp_path / "out" / "timings.json").read_text())
    assert [set(record["seconds"]) for record in records] == [{"simulate", "prepare"}, {"simulate", "prepare", "train"}]
    assert records[1]["iterations"] == {"pretrain": [2, 2], "train": [2, 2]}
    assert {"date", "device", "torch"} <= set(records[0])

    if not torch.cuda.is_available():
        refused = piece(500, device="cuda")
        assert refused.returncode == 1
        assert "gpu: device is 'cuda', expected one of this machine, such as cpu" in refused.stderr
        assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(("device", "expected"), [("cpu", None), ("cuda", "cuda")])
def test_subjects_are_simulated_on_the_device_until_the_time_is_over(script, monkeypatch, tmp_path, device, expected):
    recipe = Manifest.from_file(own_manifest("simulated_v1"))
    calls = []

    def simulate_cohort(folder, *, n_subjects, device, progress, **options):
        calls.append((folder.name, n_subjects, device, options["seed"], options["n_lesions"]))
        for done in range(1, n_subjects + 1):
            piece.limit -= 1
            progress(done, n_subjects)

    monkeypatch.setattr(script, "simulate_cohort", simulate_cohort)
    piece = script.Piece(1000, "cpu")
    piece.limit = 22.5
    with pytest.raises(script.TimeIsOver, match="simulating train_generic_tof, 3 of 6 subjects"):
        script.simulate(recipe, tmp_path, piece, device=device, jobs=1)
    assert calls == [("train_generic", 20, expected, 1000, 30), ("train_generic_tof", 6, expected, 1100, 30)]


def test_the_last_subject_of_a_cohort_is_not_the_end(script):
    piece = script.Piece(-1, "cpu")
    piece.check("simulating")(3, 3)
    with pytest.raises(script.TimeIsOver):
        piece.check("simulating")(2, 3)
