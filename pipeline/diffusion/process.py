"""What training and sampling ask of a process that adds noise and takes it away."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Process"]


class Process(Protocol):
    """Noise that comes to x0 (B, 1, X, Y, Z) with the time, and how a network's output takes it away again.

    Times count from 0, or little more, where x0 has hardly any noise, to about 1000, where it is noise alone.
    """

    n_outputs: int
    """Channels that the network gives."""

    def draw_times(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n times for training, (n,)."""

    def noised(self, x0: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Return x_t of x0 with standard normal noise of its shape, at times (B,)."""

    def losses(self, output: Tensor, *, x0: Tensor, noise: Tensor, times: Tensor) -> dict[str, Tensor]:
        """Return what training minimises the sum of, by name, scalars; output is (B, n_outputs, X, Y, Z)."""

    def times(self, n_steps: int) -> list[int]:
        """Return the times of sampling in so many steps, falling; the step of the last one leads to x0."""

    def step(
        self, output: Tensor, x: Tensor, *, time: int, following: int | None, draw: Callable[[], Tensor]
    ) -> Tensor:
        """Return x at the following time, None for x0, from x at a time and the network's output for it.

        ``draw`` returns standard normal noise like x, anew with every call, for steps that are random.
        """
