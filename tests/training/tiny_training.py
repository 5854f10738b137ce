"""A training of all parts that takes a second: also the program that the kill and the two-process tests run."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import Dataset
from monai.transforms import Compose, RandFlipd, Randomizable
from torch.utils.data import Dataset as TorchDataset

from pipeline.losses import ReconstructionLoss
from pipeline.networks import PatchCritic, UniPET
from pipeline.training import (
    Checkpoint,
    DenoisingTrainer,
    EpochLog,
    ResumableLoader,
    WarmupCosine,
    WeightAverage,
)


class SeededDataset(TorchDataset):
    """A MONAI dataset whose random transforms draw from seed, epoch and index, whoever reads the item and when.

    Parameters
    ----------
    dataset
        Dataset with a random ``transform``.
    seed
        Not negative.
    """

    def __init__(self, dataset: Any, seed: int = 0) -> None:
        if not isinstance(dataset.transform, Randomizable):
            raise TypeError(f"transform is a {type(dataset.transform).__name__}, expected a random one")
        self.dataset = dataset
        self.seed = seed
        # In shared memory, so that workers that outlive an epoch see the next one begin.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch: its items are others than those of any other epoch."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        state = np.random.SeedSequence((self.seed, int(self._epoch), index)).generate_state(1)
        self.dataset.transform.set_random_state(seed=int(state[0]))
        return self.dataset[index]


def tiny_network() -> UniPET:
    return UniPET(8, 2, resolution_factor=2, style_width=8, latent_size=8, n_stages=2)


def tiny_parts(seed: int = 0, *, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """Network and critic with their optimizers, alive everywhere: zero-initialised layers would hide half of it."""
    torch.manual_seed(seed)
    network, critic = tiny_network().to(dtype), PatchCritic((4, 4)).to(dtype)
    with torch.no_grad():
        for p in network.parameters():
            p += 0.05 * torch.randn_like(p)
    return {
        "network": network,
        "critic": critic,
        "optimizer": torch.optim.AdamW(network.parameters(), lr=1e-3),
        "critic_optimizer": torch.optim.AdamW(critic.parameters(), lr=1e-3),
    }


def tiny_items(n: int = 8, *, dtype: torch.dtype = torch.float32) -> list[dict[str, torch.Tensor]]:
    """Uniform volumes with one hot half, (1, 16, 16, 16), and the same with noise; the image's noise is the larger."""
    g = torch.Generator().manual_seed(5)
    items = []
    for _ in range(n):
        full = torch.rand(1, 1, 1, 1, generator=g, dtype=dtype).expand(1, 16, 16, 16).clone()
        full[:, 8:] += 1
        noise = torch.randn(2, 1, 16, 16, 16, generator=g, dtype=dtype)
        items.append({"image": full + 0.3 * noise[0], "label": full + 0.05 * noise[1]})
    return items


def tiny_loader(*, n_items: int = 8, batch_size: int = 2, num_workers: int = 0) -> ResumableLoader:
    transform = Compose([RandFlipd(["image", "label"], prob=0.5, spatial_axis=0)])
    dataset = SeededDataset(Dataset(tiny_items(n_items), transform), seed=7)
    return ResumableLoader(dataset, batch_size, seed=3, num_workers=num_workers)


def tiny_trainer(parts: dict[str, Any], max_epochs: int = 1, *, loader: Any = None, **options: Any) -> DenoisingTrainer:
    return DenoisingTrainer(
        torch.device("cpu"),
        max_epochs,
        tiny_loader() if loader is None else loader,
        **parts,
        **{
            "loss": ReconstructionLoss(noise_floor=0.1),
            "style_weight": 1e-3,
            "adversarial_weight": 1e-3,
            "suv_scale": 2.0,
            "autocast_dtype": None,
            **options,
        },
    )


def tiny_training(folder: Path, max_epochs: int = 3, *, seed: int = 0, extra_handlers: tuple = ()) -> DenoisingTrainer:
    """Trainer with everything that has a state, saving in ``folder`` every third iteration of four, and every epoch."""
    parts = tiny_parts(seed)
    average = WeightAverage(parts["network"], 0.9)
    schedule = WarmupCosine(parts["optimizer"], warmup=2)
    log = EpochLog(folder / "progress.tsv", stage="tiny", evaluator=None)
    objects = {**parts, "average": average, "log": log}
    checkpoint = Checkpoint(folder / "checkpoints", objects, iterations=3, export={"average": folder / "model.pt"})
    handlers = [average, schedule, log, *extra_handlers, checkpoint]
    return tiny_trainer(parts, max_epochs, critic_warmup=2, train_handlers=handlers)
