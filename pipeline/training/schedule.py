"""Learning rate by iteration: linear warm-up, then half a cosine."""

import math
from collections.abc import Mapping
from typing import cast

from ignite.engine import Engine, Events
from torch.optim import Optimizer

__all__ = ["WarmupCosine", "warmup_cosine"]


def warmup_cosine(iteration: int, total: int, *, warmup: int, final: float) -> float:
    """Part of the full learning rate in an iteration, counted from 1, of a run of ``total`` iterations.

    It rises linearly over ``warmup`` iterations to 1 and falls along half a cosine to ``final`` in the last one.
    """
    if iteration <= warmup:
        return iteration / warmup
    progress = min((iteration - warmup) / max(total - warmup, 1), 1.0)
    return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2


class WarmupCosine:
    """Handler that sets the learning rate before every iteration; the optimizer's own is the largest.

    The rate is a function of the iteration and of the run's length. A run that is continued with another
    ``max_epochs`` joins the curve of its new length within ``warmup`` iterations, without a jump.

    Parameters
    ----------
    optimizer
        Every parameter group keeps its own largest rate.
    warmup
        Iterations until the largest rate is reached.
    final
        Part of the largest rate that is left at the end.
    """

    def __init__(self, optimizer: Optimizer, *, warmup: int = 0, final: float = 0.0) -> None:
        if warmup < 0 or not 0 <= final <= 1:
            raise ValueError(f"warmup {warmup}, final {final}: expected no negative number and a part of 1")
        self.optimizer = optimizer
        self.warmup = warmup
        self.final = final
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.total = 0
        self.factor = 0.0
        self.joined_at = 0
        self.joined_from: float | None = None

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_STARTED, self._set)

    def state_dict(self) -> dict[str, float | int | None]:
        names = ("total", "factor", "joined_at", "joined_from")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: Mapping[str, float | int | None]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def _set(self, engine: Engine) -> None:
        iteration = engine.state.iteration
        # Both are set by the time that an engine runs.
        total = cast(int, engine.state.max_epochs) * cast(int, engine.state.epoch_length)
        if self.total not in (0, total):
            self.joined_at, self.joined_from = iteration - 1, self.factor
        self.total = total
        factor = warmup_cosine(iteration, total, warmup=self.warmup, final=self.final)
        since = iteration - self.joined_at
        if self.joined_from is not None and since < self.warmup:
            factor = self.joined_from + (factor - self.joined_from) * since / self.warmup
        self.factor = factor
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
