"""Checkpoints that survive a kill at any moment, and a resumption that repeats what would have been."""

import logging
import math
import random
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import distributed

from pipeline.errors import PETError
from pipeline.files import locked_folder, remove_unfinished
from pipeline.training.checkpoint_files import (
    newest_intact,
    prune,
    save_atomically,
    write_checkpoint,
)
from pipeline.training.distributed import is_main_process, process_rank, world_size

__all__ = ["Checkpoint"]

logger = logging.getLogger(__name__)


class Checkpoint:
    """Handler that saves a training and, when one starts, continues from what was saved.

    A checkpoint holds the states of the objects, epoch and iteration, the random states of every process, and the best
    metric so far: tensors and plain values, so ``torch.load(path, weights_only=True)`` reads it. It is written under a
    temporary name, flushed to the disk and renamed; only then are older ones deleted. Its name ends with the beginning
    of the SHA-256 of its content: one that does not match is set aside with a warning, and the one before is taken. Put
    it last among the handlers: what is saved then includes what the others did.

    `folder` is for the checkpoints of one training, and for nothing else. `objects` have a ``state_dict`` and a
    ``load_state_dict``: networks, optimizers, other handlers. `interval` counts the epochs between saves; the last
    epoch and the best one are always saved. `iterations` counts the iterations between saves within an epoch; if None,
    there are none. The newest `keep` checkpoints are kept, besides the best.

    `evaluator` is the engine whose `metric`, of which more is better, says which checkpoint is the best; it must have
    run before, in the same epoch. If `metric` is None, it is the evaluator's key metric. `export`, name -> file, also
    writes the state dict of these objects alone, such as the weights that a bundle ships; once the evaluator has run,
    those of the best checkpoint.

    Raises
    ------
    PETError
        When training starts: if the folder's checkpoints are all damaged or belong to another training, or another
        process is training there. When it saves: if that fails, such as on a full disk.
    """

    def __init__(
        self,
        folder: str | Path,
        objects: Mapping[str, Any],
        *,
        interval: int = 1,
        iterations: int | None = None,
        keep: int = 2,
        evaluator: Engine | None = None,
        metric: str | None = None,
        export: Mapping[str, str | Path] | None = None,
    ) -> None:
        if min(interval, keep, 1 if iterations is None else iterations) < 1:
            raise ValueError(f"interval {interval}, iterations {iterations}, keep {keep}: expected at least 1 each")
        self.folder = Path(folder)
        self.objects = dict(objects)
        self.interval = interval
        self.iterations = iterations
        self.keep = keep
        self.evaluator = evaluator
        self.metric = metric
        self.export = dict(export or {})
        self.best_metric = -math.inf
        self.best_iteration = -1
        self._lock: object = None

    def attach(self, engine: Engine) -> None:
        """Resume when the engine starts, and save while it runs."""
        engine.add_event_handler(Events.STARTED, self.resume)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._after_iteration)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)

    def resume(self, engine: Engine) -> None:
        """Continue from the newest intact checkpoint if there is one; a finished run then ends at once."""
        path = self._path_to_resume()
        if path is None:
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not {"objects", "iteration", "epoch_length", "random"} <= state.keys():
            found = sorted(state) if isinstance(state, dict) else type(state).__name__
            raise PETError(f"{path}: holds {found}, expected a checkpoint of a training")
        if set(state["objects"]) != set(self.objects):
            raise PETError(f"{path}: holds {sorted(state['objects'])}, expected {sorted(self.objects)}")
        try:
            for name, item in self.objects.items():
                item.load_state_dict(state["objects"][name])
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise PETError(f"{path}: {name} is of another training, expected its own checkpoints: {reason}") from error
        self.best_metric, self.best_iteration = state["best_metric"], state["best_iteration"]
        self._export(state["iteration"])
        self._set_position(engine, state, path)
        if len(state["random"]) == world_size():
            restore_random_state(state["random"][process_rank()])
        else:
            logger.warning("%s: saved by %d processes, continued by %d", path, len(state["random"]), world_size())

    def save(self, engine: Engine) -> None:
        """Write a checkpoint, then delete those that it makes superfluous. Every process must call this."""
        randoms: list[Any] = [random_state()]
        if world_size() > 1:
            randoms = [None] * world_size()
            distributed.all_gather_object(randoms, random_state())
        if not is_main_process():
            return
        state = engine.state
        contents = {
            "objects": {name: item.state_dict() for name, item in self.objects.items()},
            "epoch": state.epoch,
            "iteration": state.iteration,
            "epoch_length": state.epoch_length,
            "random": randoms,
            "best_metric": self.best_metric,
            "best_iteration": self.best_iteration,
        }
        path = write_checkpoint(contents, self.folder, iteration=state.iteration)
        self._export(state.iteration)
        prune(path, keep=self.keep, also=[self.best_iteration])

    def _after_iteration(self, engine: Engine) -> None:
        # At the end of an epoch the rest of its work is still to come: validation, log.
        if self._is_due(engine) and engine.state.iteration % cast(int, engine.state.epoch_length):
            self.save(engine)

    def _after_epoch(self, engine: Engine) -> None:
        state = engine.state
        is_best = self._note_best(state.epoch, state.iteration)
        is_interval = state.epoch % self.interval == 0 or state.epoch == state.max_epochs
        if is_best or is_interval or self._is_due(engine):
            self.save(engine)

    def _is_due(self, engine: Engine) -> bool:
        return self.iterations is not None and engine.state.iteration % self.iterations == 0

    def _note_best(self, epoch: int, iteration: int) -> bool:
        """Return whether a validation of this epoch was the best so far, and remember it."""
        if self.evaluator is None or self.evaluator.state.epoch != epoch:
            return False
        name = self.metric or cast(Any, self.evaluator.state).key_metric_name
        value = float(self.evaluator.state.metrics[name])
        is_best = value > self.best_metric
        if is_best:
            self.best_metric, self.best_iteration = value, iteration
        return is_best

    def _path_to_resume(self) -> Path | None:
        """The main process decides, and sets damaged files aside; all processes take the same."""
        found: list[Any] = [None]
        if is_main_process():
            self._lock = locked_folder(self.folder, "training there", reentrant=True)
            remove_unfinished(self.folder, "*.pt")
            for path in map(Path, self.export.values()):
                remove_unfinished(path.parent, path.name)
            file = newest_intact(self.folder)
            found = [None if file is None else file.path]
        if world_size() > 1:
            distributed.broadcast_object_list(found)
        return found[0]

    def _set_position(self, engine: Engine, state: Mapping[str, Any], path: Path) -> None:
        epoch, done = divmod(state["iteration"], state["epoch_length"])
        length = engine.state.epoch_length
        if length != state["epoch_length"]:
            logger.warning(
                "%s: an epoch was %d iterations and is %d now; continuing at the start of epoch %d",
                *(path, state["epoch_length"], length, epoch + 1),
            )
            done = 0
            # Iterations are counted anew: none to come is the one that the best was.
            self.best_iteration = min(self.best_iteration, 0)
        engine.state.epoch = epoch
        engine.state.iteration = epoch * length + done
        logger.info("continuing from %s after epoch %d and %d of %d iterations", path, epoch, done, length)

    def _export(self, iteration: int) -> None:
        """Write the objects to export, unless those of an earlier iteration validated better."""
        if is_main_process() and self.best_iteration in (-1, iteration):
            for name, path in self.export.items():
                save_atomically(_on_cpu(self.objects[name].state_dict()), path)


def _on_cpu(state_dict: dict[str, Any]) -> dict[str, Any]:
    """Return a state dict whose tensors any machine can read, with its metadata."""
    moved = copy(state_dict)
    moved.update({key: value.cpu() for key, value in state_dict.items()})
    return moved


def random_state() -> dict[str, Any]:
    """States of Python's, NumPy's and PyTorch's global generators, of every GPU too."""
    kind, keys, *numpy_rest = np.random.get_state()  # noqa: NPY002 (the one that others may draw from)
    version, values, gauss = random.getstate()
    return {
        "python": [version, list(values), gauss],
        "numpy": [kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *numpy_rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Continue where :func:`random_state` was taken; states of GPUs that this machine lacks are left out."""
    version, values, gauss = state["python"]
    random.setstate((version, tuple(values), gauss))
    kind, keys, *numpy_rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *numpy_rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
