"""Checkpoints that survive a kill, and randomness that a resumed run repeats."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.transforms import Randomizable

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


class EpochSeed:
    """Handler that makes an epoch's randomness a function of seed and epoch alone.

    Random transforms and torch are seeded anew when an epoch starts, so a run that was stopped and continued draws
    what an uninterrupted run would have drawn, and no random state has to be saved.
    """

    def __init__(self, transform: Randomizable, seed: int) -> None:
        self.transform = transform
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self.reseed)

    def reseed(self, engine: Engine) -> None:
        """Seed for the epoch that starts."""
        seed = (self.seed * 1_000_003 + engine.state.epoch) % 2**32
        self.transform.set_random_state(seed=seed)
        torch.manual_seed(seed)
