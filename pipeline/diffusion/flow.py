"""Rectified flow: a straight line from noise to x0, along the velocity that a network predicts."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from monai.networks.schedulers import RFlowScheduler
from torch import Tensor

__all__ = ["RectifiedFlow"]


class RectifiedFlow:
    """Rectified flow on MONAI's RFlowScheduler: x_t = (1 - t / T) x0 + (t / T) noise, velocity x0 - noise.

    Parameters
    ----------
    scheduler
        With discrete time steps: of others, MONAI rounds every step down by itself, and they add up to more than one.

    Raises
    ------
    ValueError
        If the scheduler's time steps are not discrete.

    References
    ----------
    Liu et al., Flow Straight and Fast, ICLR 2023.
    """

    n_outputs = 1

    def __init__(self, scheduler: RFlowScheduler) -> None:
        if not scheduler.use_discrete_timesteps or scheduler.use_timestep_transform:
            raise ValueError("RFlowScheduler: expected discrete time steps and no transform of them")
        self.scheduler = scheduler

    def draw_times(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n times for training, (n,), from all of them alike."""
        return torch.rand(n, generator=generator) * self.scheduler.num_train_timesteps

    def noised(self, x0: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Return x_t of x0 with standard normal noise of its shape, at times (B,)."""
        return self.scheduler.add_noise(x0, noise, times)

    def losses(self, output: Tensor, *, x0: Tensor, noise: Tensor, times: Tensor) -> dict[str, Tensor]:
        """Return the mean squared error of the velocity, a scalar."""
        return {"velocity": F.mse_loss(output, x0 - noise)}

    def times(self, n_steps: int) -> list[int]:
        """Return the times of sampling in so many steps of about equal length, falling from T."""
        self.scheduler.set_timesteps(n_steps)
        return [int(time) for time in self.scheduler.timesteps]

    def step(
        self, output: Tensor, x: Tensor, *, time: int, following: int | None, draw: Callable[[], Tensor]
    ) -> Tensor:
        """Return x at the following time, None for x0: a step of Euler, never random."""
        return self.scheduler.step(output, time, x, following or 0)[0]
