"""The overlay for several processes, started by torchrun as a user would."""

import subprocess
import sys

import pytest
import torch

from pipeline.training.checkpoint_files import checkpoint_files
from pipeline.training.progress import progress_rows

FILES = ("train", "methods/unipet", "multi_gpu")


@pytest.mark.slow
def test_torchrun_with_two_processes_trains_writes_once_and_resumes(repository, data, tmp_path):
    configs = repository / "bundles" / "unipet_3d" / "configs"

    def train(max_epochs: int, *options: str) -> str:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
                *("-m", "monai.bundle", "run", "training"),
                *(
                    "--config_file",
                    str([str(configs / f"{name}.yaml") for name in FILES]),
                ),
                *("--output_dir", str(tmp_path)),
                *data,
                *("--n_patches", "8"),
                *("--batch_size", "4"),
                *("--patch_size", "[32,32,32]"),
                *("--network_def#channels", "8"),
                *("--network_def#n_blocks", "4"),
                *("--pretrain#max_epochs", "1"),
                *("--train#max_epochs", str(max_epochs)),
                *("--train#trainer#critic_warmup", "0"),
                *("--val_interval", "1"),
                *options,
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    said = train(1, "--time_limit", "0.001")
    assert "BDN stops after epoch 0" in said
    assert "UniPET stops after epoch 0" in said
    assert not checkpoint_files(tmp_path / "bdn")

    train(1)
    rows = [(row.stage, row.epoch, row.name) for row in progress_rows(tmp_path / "progress.tsv")]
    assert len(rows) == len(set(rows))
    assert ("UniPET", 1, "psnr") in rows
    newest = torch.load(checkpoint_files(tmp_path / "unipet")[0].path, weights_only=True)
    assert len(newest["random"]) == 2
    assert "continuing from" in train(2)
    assert ("UniPET", 2) in {(row.stage, row.epoch) for row in progress_rows(tmp_path / "progress.tsv")}
    assert (tmp_path / "model.pt").is_file()
    assert (tmp_path / "progress.png").is_file()
