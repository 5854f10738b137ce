"""Moving average of a network's weights, which is what gets validated and shipped."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn

__all__ = ["WeightAverage"]


class WeightAverage:
    """Handler that keeps an exponential moving average of a network's weights.

    After iteration t: average <- d average + (1 - d) weights, with d = min(decay, (1 + t) / (10 + t)), so that the
    untrained weights of the beginning are soon forgotten.

    Parameters
    ----------
    network
        The network in training.
    decay
        Part of the average that an iteration keeps.

    Attributes
    ----------
    network
        Network that holds the average, never in training mode. ``state_dict`` and ``load_state_dict`` are its own.
    """

    def __init__(self, network: nn.Module, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be from 0 to below 1, got {decay}")
        self.source = network
        self.decay = decay
        self.network = deepcopy(network).eval().requires_grad_(False)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._update)

    def state_dict(self) -> dict[str, Any]:
        return self.network.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state_dict)

    def _start(self, engine: Engine) -> None:
        # Weights may have been loaded since the average was made.
        if engine.state.iteration == 0:
            self.network.load_state_dict(self.source.state_dict())

    @torch.no_grad()
    def _update(self, engine: Engine) -> None:
        t = engine.state.iteration
        weight = 1 - min(self.decay, (1 + t) / (10 + t))
        torch._foreach_lerp_(list(self.network.parameters()), list(self.source.parameters()), weight)
        for average, value in zip(self.network.buffers(), self.source.buffers(), strict=True):
            average.copy_(value)
