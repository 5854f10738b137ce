"""Moving average of a network's weights: what gets validated and shipped, with the scale that it was trained in."""

from collections import OrderedDict
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn

from pipeline.transforms import scale_of, with_scale

__all__ = ["WeightAverage"]


class WeightAverage:
    """Handler that keeps an exponential moving average of a network's weights.

    After iteration t: average <- d average + (1 - d) weights, with d = min(decay, (1 + t) / (10 + t)), so that the
    untrained weights of the beginning are soon forgotten. ignite's EMAHandler counts its warm-up from the start of the
    process, so a resumed run would not repeat the uninterrupted one, and it begins with the weights that it was built
    with, before a stage hands over.

    The attribute `network` holds the average and is never in training mode; the state is its own. The state carries
    `suv_scale`, SUVbw [g/mL] per network unit; if None, it carries none.
    """

    def __init__(self, network: nn.Module, decay: float = 0.999, *, suv_scale: float | None = None) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be from 0 to below 1, got {decay}")
        self.source = network
        self.decay = decay
        self.suv_scale = suv_scale
        self.network = deepcopy(network).eval().requires_grad_(False)

    def attach(self, engine: Engine) -> None:
        """Begin with the weights that the run begins with, and follow them after every iteration."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._update)

    def state_dict(self) -> "OrderedDict[str, Any]":
        """Return the averaged weights, with their scale."""
        state = OrderedDict(self.network.state_dict())
        return state if self.suv_scale is None else with_scale(state, self.suv_scale)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over averaged weights.

        Raises
        ------
        ValueError
            If they carry another scale.
        """
        if (found := scale_of(state_dict)) not in (None, self.suv_scale):
            raise ValueError(f"weights of suv_scale {found:g}, expected {self.suv_scale:g}")
        self.network.load_state_dict(state_dict)

    def _start(self, engine: Engine) -> None:
        # Weights may have been loaded since the average was made.
        if engine.state.iteration == 0:
            self.network.load_state_dict(self.source.state_dict())

    @torch.no_grad()
    def _update(self, engine: Engine) -> None:
        t = engine.state.iteration
        weight = 1 - min(self.decay, (1 + t) / (10 + t))
        for mean, value in zip(self.network.parameters(), self.source.parameters(), strict=True):
            mean.lerp_(value, weight)
        for kept, current in zip(self.network.buffers(), self.source.buffers(), strict=True):
            kept.copy_(current)
