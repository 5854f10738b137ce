"""One iteration in one process, or the same in two that share the batch."""

import os
from pathlib import Path
from typing import Any

import torch
from monai.data import Dataset
from tiny_training import tiny_items, tiny_parts, tiny_trainer
from torch import distributed

from pipeline.training import Checkpoint, ResumableLoader, process_device
from pipeline.training.distributed import process_rank


def train(folder: Path, accumulation: int = 1) -> dict[str, Any]:
    """Gradients, weights and losses after one epoch of one iteration of four patches, in float64."""
    parts = tiny_parts(dtype=torch.float64)
    loader = ResumableLoader(Dataset(tiny_items(4, dtype=torch.float64)), 4)
    options = {"style_weight": 0.3, "adversarial_weight": 0.2, "region_threshold": 0.01, "gradient_clip": 1e-2}
    handlers = [Checkpoint(folder / "checkpoints", parts)]
    trainer = tiny_trainer(parts, 1, loader=loader, accumulation=accumulation, train_handlers=handlers, **options)
    trainer.run()
    modules = {name: parts[name] for name in ("network", "critic")}
    return {
        "losses": trainer.state.output["losses"],
        "loss": trainer.state.output["loss"],
        "n_patches": trainer.state.output["pred"].shape[0],
        "gradients": {name: [p.grad.clone() for p in module.parameters()] for name, module in modules.items()},
        "weights": {name: module.state_dict() for name, module in modules.items()},
    }


def train_as(rank: int, folder: Path, accumulation: int) -> None:
    """Be one of two processes, as ``torchrun`` starts them, and leave the result in the folder."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    os.environ["MASTER_PORT"] = (folder / "port").read_text()
    assert process_device().type == "cpu"
    assert process_rank() == rank
    torch.save(train(folder, accumulation), folder / f"result-{rank}.pt")
    distributed.destroy_process_group()
