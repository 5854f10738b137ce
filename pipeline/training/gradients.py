"""Gradient clipping for MONAI's own trainers."""

from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from torch import nn

__all__ = ["ClipGradientNorm"]


class ClipGradientNorm:
    """Handler that limits the norm of a network's gradient before the optimizer steps."""

    def __init__(self, network: nn.Module, max_norm: float = 1.0) -> None:
        self.network = network
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self.clip)

    def clip(self, engine: Engine) -> None:
        """Clip the gradient that has just been computed."""
        nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)
