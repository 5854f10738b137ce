"""One stage of a training: a trainer, and what every stage has around it."""

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from ignite.engine import Engine, Events
from monai.engines import Evaluator, Trainer
from monai.handlers import ValidationHandler
from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pipeline.errors import PETError
from pipeline.networks import UniPET
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.progress import EpochLog
from pipeline.training.progress_figure import ProgressFigure, ValidationPicture
from pipeline.training.time_limit import Deadline, TimeLimit
from pipeline.training.weight_average import WeightAverage

__all__ = ["EarlyEnd", "Stage", "WarmupCosine", "start_from", "trained_objects", "warmup_cosine"]


logger = logging.getLogger(__name__)


class Stage:
    """A trainer with learning rate, weight average, validation, log, figure, checkpoints and time limit.

    They act after an iteration or an epoch in this order. The checkpoint comes behind all that has a state. The
    checkpoints lie in the folder `name` in `output_dir`.

    `trainer` is any MONAI trainer. Its output has ``loss``, and may have ``losses``, a dictionary of numbers. `objects`
    are saved beside the average and the log; if None, those of :func:`trained_objects`. The average of `network`, of
    which an iteration keeps the part `decay`, is validated and exported with `suv_scale`, SUVbw [g/mL] per network
    unit. The learning rate of `optimizer` reaches its largest value after `warmup` iterations and follows a cosine; if
    None, the trainer looks after it.

    `evaluator`, a MONAI evaluator that runs every `val_interval` epochs, gets the averaged network when the stage runs.
    It must have a key metric, of which more is better: the best weights are chosen by it. If `is_last`, they go to
    ``model.pt``, and the figure is ``progress.png``. The figure shows validation item `item`, from 0. `iterations`
    counts the iterations between checkpoints within an epoch; if None, there are none.

    `prepare` is called before the stage begins, such as to take over the weights of the stage before; once also when
    the stage is built, so that a mistake does not wait for the end of the stage before. The training must end at
    `deadline`. After `patience` epochs without a better validation the stage has ended early; if None, it never does.

    Raises
    ------
    PETError
        If the evaluator has no key metric.
    """

    def __init__(
        self,
        name: str,
        trainer: Trainer,
        *,
        network: nn.Module,
        optimizer: Optimizer | None,
        evaluator: Evaluator,
        output_dir: str | Path,
        val_interval: int,
        suv_scale: float,
        warmup: int = 50,
        decay: float = 0.998,
        iterations: int | None = 400,
        item: int = 3,
        is_last: bool = False,
        objects: Mapping[str, Any] | None = None,
        prepare: Callable[[], object] | None = None,
        deadline: Deadline | None = None,
        patience: int | None = None,
    ) -> None:
        if cast(Any, evaluator.state).key_metric_name is None:
            raise PETError(f"stage {name}: the validation has no key metric, expected one to choose the weights by")
        if prepare is not None:
            prepare()
        output = Path(output_dir)
        self.name = name
        self.trainer = trainer
        self.evaluator = evaluator
        self.prepare = prepare
        self.average = WeightAverage(network, decay, suv_scale=suv_scale)
        self.log = log = EpochLog(output / "progress.tsv", stage=name, evaluator=evaluator)
        picture = ValidationPicture(evaluator, item=item, black=7 / suv_scale)
        figure = output / ("progress.png" if is_last else f"progress_{name.lower()}.png")
        saved = trained_objects(trainer) if objects is None else objects
        self.checkpoint = Checkpoint(
            output / name.lower(),
            {**saved, "average": self.average, "log": log},
            iterations=iterations,
            evaluator=evaluator if is_last else None,
            export={"average": output / "model.pt"} if is_last else None,
        )
        handlers: list[Any] = [] if optimizer is None else [WarmupCosine(optimizer, warmup=warmup)]
        handlers += [
            self.average,
            ValidationHandler(val_interval, evaluator, exec_at_start=False),
            log,
            ProgressFigure(figure, table=log.path, stage=name, picture=picture),
            self.checkpoint,
        ]
        self.early_end = None if patience is None else EarlyEnd(self.checkpoint, patience=patience)
        if self.early_end is not None:
            handlers.append(self.early_end)
        if deadline is not None:
            handlers.append(TimeLimit(deadline, self.checkpoint, stage=name))
        for handler in handlers:
            handler.attach(trainer)

    @property
    def progress(self) -> tuple[int, int]:
        """Iterations done, and to do in all: no more, once the stage has ended early."""
        state = self.trainer.state
        if self.early_end is not None and self.early_end.is_reached(self.trainer):
            return state.iteration, state.iteration
        return state.iteration, cast(int, state.epoch_length) * cast(int, state.max_epochs)

    def run(self) -> None:
        """Train to the end or to the deadline; a stage that was interrupted goes on."""
        if self.prepare is not None:
            self.prepare()
        # The stages share an evaluator, and its last epoch in the stage before is none of this one.
        cast(Any, self.evaluator).network = self.average.network
        self.evaluator.state.epoch = 0
        self.trainer.run()


def trained_objects(trainer: Trainer) -> dict[str, Any]:
    """Return what training changes: networks, optimizers, schedules, scalers.

    They are found among the public attributes of the trainer, and of its state, where MONAI's trainers of two networks
    keep them.
    """
    kinds = (nn.Module, Optimizer, LRScheduler, GradScaler)
    found = {**vars(trainer.state), **vars(trainer)}
    public = {name: value for name, value in found.items() if not name.startswith("_")}
    return {name: value for name, value in public.items() if isinstance(value, kinds) and value.state_dict()}


def start_from(network: nn.Module, stage: Stage) -> None:
    """Give a network the averaged weights of an earlier stage; UniPET gets them as its body."""
    load = network.load_base if isinstance(network, UniPET) else network.load_state_dict
    load(stage.average.network.state_dict())


def warmup_cosine(iteration: int, total: int, *, warmup: int, final: float) -> float:
    """Return the part of the full learning rate in an iteration, counted from 1, of a run of ``total`` iterations.

    It rises linearly over ``warmup`` iterations to 1 and falls along half a cosine to ``final`` in the last one.
    """
    if iteration <= warmup:
        return iteration / warmup
    progress = min((iteration - warmup) / max(total - warmup, 1), 1.0)
    return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2


class WarmupCosine:
    """Handler that sets the learning rate before every iteration; the optimizer's own, of every group, is the largest.

    The rate is a function of the iteration and of the run's length alone. MONAI's WarmupCosineSchedule keeps the length
    of the run in its state, so a run that is continued with more epochs would go on at a rate of 0; and its first
    iteration has a rate of 0 too. The largest rate is reached after `warmup` iterations; the part `final` of it is left
    at the end.
    """

    def __init__(self, optimizer: Optimizer, *, warmup: int = 0, final: float = 0.0) -> None:
        if warmup < 0 or not 0 <= final <= 1:
            raise ValueError(f"warmup {warmup}, final {final}: expected no negative number and a part of 1")
        self.optimizer = optimizer
        self.warmup = warmup
        self.final = final
        self.rates = [group["lr"] for group in optimizer.param_groups]

    def attach(self, engine: Engine) -> None:
        """Set the rate when an iteration starts."""
        engine.add_event_handler(Events.ITERATION_STARTED, self._set)

    def _set(self, engine: Engine) -> None:
        total = cast(int, engine.state.max_epochs) * cast(int, engine.state.epoch_length)
        factor = warmup_cosine(engine.state.iteration, total, warmup=self.warmup, final=self.final)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor


class EarlyEnd:
    """Handler that ends a training after `patience` epochs without a validation better than the best so far.

    What it goes by is the best iteration of the checkpoint, so a resumed training ends where an uninterrupted one does.
    ignite's EarlyStopping counts validations since the process started. Put it behind the checkpoint, which must be one
    with an evaluator: without a validation nothing ends.

    Raises
    ------
    ValueError
        If the patience is less than one epoch.
    """

    def __init__(self, checkpoint: Checkpoint, *, patience: int) -> None:
        if patience < 1:
            raise ValueError(f"patience {patience}, expected at least 1 epoch, or null for none")
        self.checkpoint = checkpoint
        self.patience = patience

    def attach(self, engine: Engine) -> None:
        """Look when the training starts, for it may have ended in an earlier run, and after every epoch."""
        engine.add_event_handler(Events.STARTED, self._look)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._look)

    def is_reached(self, engine: Engine) -> bool:
        """Return whether the training has ended early, or would at the end of this epoch."""
        best, length = self.checkpoint.best_iteration, cast(int, engine.state.epoch_length)
        return best > 0 and engine.state.iteration - best >= self.patience * length

    def _look(self, engine: Engine) -> None:
        if self.is_reached(engine):
            logger.info("no better validation in %d epochs, the training ends early", self.patience)
            engine.terminate()
