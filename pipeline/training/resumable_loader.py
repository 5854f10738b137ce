"""Batches whose order and content follow from seed, epoch and place alone."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from monai.data.utils import list_data_collate
from torch.utils.data import DataLoader, Dataset, Sampler

from pipeline.errors import PETError
from pipeline.training.distributed import process_rank, world_size

__all__ = ["BatchOrder", "ResumableLoader"]


class BatchOrder(Sampler[list[int]]):
    """Which items make up each batch of this process.

    Every epoch is a new permutation of the items, drawn from `seed`, the same in every process; of each batch, whose
    size is that of all processes together, a process takes its own share. Items that do not fill a batch wait for
    another epoch.

    Raises
    ------
    PETError
        If the items do not fill a batch or a batch cannot be shared out evenly.
    """

    def __init__(self, n_items: int, batch_size: int, *, seed: int = 0, rank: int = 0, n_processes: int = 1) -> None:
        if batch_size < 1 or batch_size % n_processes:
            raise PETError(f"batch_size {batch_size}, expected a multiple of the number of processes, {n_processes}")
        if n_items < batch_size:
            raise PETError(f"{n_items} items to train on, expected at least a batch of {batch_size}")
        self.n_items = n_items
        self.batch_size = batch_size
        self.seed = seed
        share = batch_size // n_processes
        self.share = slice(rank * share, (rank + 1) * share)
        self.epoch = 1
        self.first_batch = 0

    def __len__(self) -> int:
        return self.n_items // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.n_items).tolist()
        for i in range(self.first_batch, len(self)):
            yield order[i * self.batch_size : (i + 1) * self.batch_size][self.share]


class ResumableLoader(DataLoader):
    """Loader that can begin in the middle of an epoch with the batches that an uninterrupted run would see there.

    Nothing is read to get there. The trainer positions it; a data set with a method ``set_epoch`` is told the epoch,
    and must draw what is random from epoch and index alone. Its items are dictionaries, or lists of them. `batch_size`
    is that of all processes together: with more processes each does less, and the result is the same. `seed` is that of
    the order. The workers live as long as the loader and change nothing but time; `pin_memory` is of use with a GPU.
    """

    def __init__(
        self,
        dataset: Dataset | Sequence[Any],
        batch_size: int,
        *,
        seed: int = 0,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self.order = BatchOrder(
            len(dataset),  # type: ignore[arg-type]
            batch_size,
            seed=seed,
            rank=process_rank(),
            n_processes=world_size(),
        )
        super().__init__(
            dataset,  # type: ignore[arg-type]
            batch_sampler=self.order,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=pin_memory,
            collate_fn=list_data_collate,
            # Its own: a loader that draws from the global generator would shift what everything else draws.
            generator=torch.Generator(),
        )

    @property
    def share(self) -> int:
        """Items of a batch that this process gets."""
        return self.order.share.stop - self.order.share.start

    def set_position(self, epoch: int, first_batch: int = 0) -> None:
        """Let the next pass be that of an epoch, from 1, beginning with a batch, from 0."""
        self.order.epoch, self.order.first_batch = epoch, first_batch
        assert self.generator is not None
        self.generator.manual_seed(self.order.seed * 1_000_003 + epoch)
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)
