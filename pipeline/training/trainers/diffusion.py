"""Trainer of a diffusion: what its network sees at a random time, and the losses of its process."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pipeline.diffusion import Coding, Process
from pipeline.training.distributed import process_rank, world_size
from pipeline.training.trainers.denoising import DenoisingTrainer, TrainingBatch

__all__ = ["DiffusionTrainer"]


class DiffusionTrainer(DenoisingTrainer):
    """MONAI trainer of a network that takes noise away step by step; see `DenoisingTrainer` for what it does around.

    A batch has the keys ``image`` (low dose) and ``label`` (full dose), patches (B, 1, X, Y, Z) in scaled SUV. Every
    patch gets a time and noise of its own, drawn from `seed` and the iteration: neither the number of processes nor an
    interruption changes them.

    `network` is called as MONAI's DiffusionModelUNet, ``network(x, timesteps)``, with x_t and the condition that
    `coding` makes of the low dose, (B, 1 + C, X, Y, Z), and gives as many channels as `process` asks for.
    """

    def __init__(
        self,
        device: torch.device,
        max_epochs: int,
        train_data_loader: Iterable[Any],
        *,
        network: nn.Module,
        optimizer: Optimizer,
        process: Process,
        coding: Coding,
        autocast_dtype: torch.dtype | None = torch.bfloat16,
        gradient_clip: float | None = 1.0,
        accumulation: int = 1,
        seed: int = 0,
        train_handlers: Sequence[Any] | None = None,
    ) -> None:
        super().__init__(
            device,
            max_epochs,
            train_data_loader,
            network=network,
            optimizer=optimizer,
            loss=nn.MSELoss(),  # the losses are those of the process
            autocast_dtype=autocast_dtype,
            gradient_clip=gradient_clip,
            accumulation=accumulation,
            channels_last=False,
            seed=seed,
            train_handlers=train_handlers,
        )
        self.process = process
        self.coding = coding

    def _on_device(self, batchdata: dict[str, Any]) -> TrainingBatch:
        """Return x_t and the condition as the image, x0 and the noise as the label, and the times beside them."""
        batch = super()._on_device(batchdata)
        code = self.coding(batch.image)
        x0 = code.encode(batch.label)
        times, noise = self._drawn(x0)
        image = torch.cat([self.process.noised(x0, noise, times), code.condition], dim=1)
        return TrainingBatch(image, torch.cat([x0, noise], dim=1), {"timesteps": times}, {})

    def _drawn(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        """Times (B,) and noise like x0 of the patches of this process."""
        n = len(x0)
        draw = torch.Generator().manual_seed((self.seed * 1_000_003 + self.state.iteration) % 2**63)
        own = slice(process_rank() * n, (process_rank() + 1) * n)
        times = self.process.draw_times(world_size() * n, draw)[own]
        noise = torch.randn((world_size() * n, *x0.shape[1:]), generator=draw)[own]
        return times.to(x0.device), noise.to(x0)

    def _generator_losses(
        self, part: TrainingBatch, pred: Tensor, features: list[Tensor], losses: dict[str, Tensor]
    ) -> Tensor:
        x0, noise = part.label.split(1, dim=1)
        new = self.process.losses(pred.float(), x0=x0, noise=noise, times=part.read["timesteps"])
        total = torch.stack(list(new.values())).sum()
        for name, value in {**new, "total": total}.items():
            losses[name] = losses.get(name, torch.zeros_like(value)) + value.detach() / self.accumulation
        return total
