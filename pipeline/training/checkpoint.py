"""Checkpoints that survive a kill, and randomness that a resumed run repeats."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from ignite.engine import Engine, Events

from pipeline.pet.atomic import replaced_file

__all__ = ["Checkpoint", "EpochSeed", "save_atomically"]

logger = logging.getLogger(__name__)


def save_atomically(state: Mapping[str, Any], path: str | Path) -> None:
    """Write a state of tensors and plain values; ``path`` is the old file or the complete new one at any moment."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as temporary:
        torch.save(dict(state), temporary)


class Checkpoint:
    """Handler that saves at the end of epochs and, when training starts, continues from what was saved.

    Parameters
    ----------
    path
        File of the checkpoint; it is replaced atomically.
    objects
        What has a ``state_dict``: networks, optimizers, schedules. The engine's epoch is kept beside them.
    interval
        Epochs between saves; the last epoch is always saved.
    export
        Name -> file: also write the state dict of these objects alone, such as the weights a bundle ships.
    """

    def __init__(
        self,
        path: str | Path,
        objects: Mapping[str, Any],
        *,
        interval: int = 1,
        export: Mapping[str, str | Path] | None = None,
    ) -> None:
        self.path = Path(path)
        self.objects = dict(objects)
        self.interval = interval
        self.export = dict(export or {})

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.resume)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def resume(self, engine: Engine) -> None:
        """Load the checkpoint if there is one; a finished run then ends at once."""
        if not self.path.is_file():
            return
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        for name, item in self.objects.items():
            item.load_state_dict(state[name])
        engine.state.epoch = state["epoch"]
        engine.state.iteration = state["epoch"] * engine.state.epoch_length
        logger.info("continuing from %s after epoch %d", self.path, state["epoch"])

    def save(self, engine: Engine) -> None:
        """Write the checkpoint if this epoch is due."""
        if engine.state.epoch % self.interval and engine.state.epoch != engine.state.max_epochs:
            return
        state = {name: item.state_dict() for name, item in self.objects.items()}
        save_atomically({**state, "epoch": engine.state.epoch}, self.path)
        for name, path in self.export.items():
            save_atomically(state[name], path)


class EpochDataset(Protocol):
    """A data set whose random items depend on the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch."""


class EpochSeed:
    """Handler that makes an epoch's randomness a function of seed and epoch alone.

    The data set is told which epoch begins, and torch is seeded anew, so a run that was stopped and continued draws
    what an uninterrupted run would have drawn, and no random state has to be saved.

    Parameters
    ----------
    dataset
        With a method ``set_epoch``, such as :class:`pipeline.data.PatchDataset`.
    seed
        Another seed, another run.
    """

    def __init__(self, dataset: EpochDataset, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self.reseed)

    def reseed(self, engine: Engine) -> None:
        """Seed for the epoch that starts."""
        self.dataset.set_epoch(engine.state.epoch)
        torch.manual_seed((self.seed * 1_000_003 + engine.state.epoch) % 2**32)
