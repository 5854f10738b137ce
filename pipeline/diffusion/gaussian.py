"""Denoising diffusion: Gaussian noise comes in many small steps, and goes in as many or in fewer."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from monai.networks.schedulers import DDPMScheduler
from torch import Tensor

__all__ = ["GaussianDiffusion"]


class GaussianDiffusion:
    """Denoising diffusion on MONAI's DDPMScheduler, with a learned variance, sampled in any number of steps.

    The scheduler says betas, times, and what the first channel of the network's output is: ``epsilon``, ``sample`` or
    ``v_prediction``. A second channel v is the variance of a step, beta^((1 + v) / 2) beta~^((1 - v) / 2), between that
    of the process and that of its posterior. The steps are computed here: MONAI's own interpolates between the
    variances and not their logarithms; its DDPMScheduler always steps to the time before, however many are left out;
    and its DDIMScheduler steps to ``t - T // n``, which is not the next of the times that it names.

    Parameters
    ----------
    scheduler
        With ``clip_sample=False``: x0 has no bounds.
    learned_variance
        Whether the network gives the variance.
    vlb_weight
        Weight lambda of the variational bound, the sum over all steps, in bits per voxel.
    eta
        Randomness of sampling: 0 is DDIM, 1 DDPM with the variance of the posterior; None is ancestral sampling with
        the learned variance.

    Raises
    ------
    ValueError
        If the scheduler clips, or `eta` is None and no variance is learned.

    References
    ----------
    Ho et al., NeurIPS 2020; Nichol and Dhariwal, ICML 2021, Eq. 15 and 16; Song et al., DDIM, ICLR 2021, Eq. 12 and 16.
    """

    def __init__(
        self,
        scheduler: DDPMScheduler,
        *,
        learned_variance: bool = True,
        vlb_weight: float = 1e-3,
        eta: float | None = None,
    ) -> None:
        if scheduler.clip_sample:
            raise ValueError("DDPMScheduler: expected clip_sample false, for SUV has no upper bound")
        if eta is None and not learned_variance:
            raise ValueError("eta is null, expected a number: there is no learned variance to sample with")
        if eta is not None and not 0 <= eta <= 1:
            raise ValueError(f"eta is {eta}, expected 0 to 1, or null for the learned variance")
        self.scheduler = scheduler
        self.learned_variance = learned_variance
        self.vlb_weight = vlb_weight
        self.eta = eta
        self.n_outputs = 2 if learned_variance else 1
        # In float64: where the last steps' variances are differences of numbers near 1, float32 keeps three digits.
        self.alphas_cumprod = torch.cumprod(1 - scheduler.betas.double(), dim=0)

    def draw_times(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n times for training, (n,), from all of them alike."""
        return torch.randint(self.scheduler.num_train_timesteps, (n,), generator=generator)

    def noised(self, x0: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Return x_t of x0 with standard normal noise of its shape, at times (B,)."""
        return self.scheduler.add_noise(x0, noise, times)

    def losses(self, output: Tensor, *, x0: Tensor, noise: Tensor, times: Tensor) -> dict[str, Tensor]:
        """Return the mean squared error of the prediction and, of a learned variance, the weighted bound; scalars."""
        predicted = output[:, :1]
        if self.scheduler.prediction_type == "epsilon":
            target = noise
        elif self.scheduler.prediction_type == "sample":
            target = x0
        else:
            target = self.scheduler.get_velocity(x0, noise, times)
        found = {"simple": F.mse_loss(predicted, target)}
        if self.learned_variance:
            error = x0 - self._x0(predicted.detach(), self.noised(x0, noise, times), self._alpha(times).to(x0))
            weight = self.vlb_weight * self.scheduler.num_train_timesteps
            found["bound"] = weight * self.bound(output[:, 1:], error, times).mean()
        return found

    def bound(self, v: Tensor, error: Tensor, times: Tensor) -> Tensor:
        """Return each voxel's term of the variational bound, in bits, for the variance that v says.

        It is the Kullback-Leibler divergence of the true step back, which knows x0, from the network's, whose mean is
        taken as given. At t = 0 it is 0: nothing is drawn in the last step.

        Parameters
        ----------
        v
            The network's second channel, (B, 1, X, Y, Z).
        error
            x0 less the network's, of the same shape.
        times
            Shape (B,).
        """
        at = times.clamp_min(1)
        steps = _step_back(self._alpha(at), self._alpha(at - 1))
        beta, posterior, of_x0 = (value.to(v) for value in steps)
        log_variance = _interpolated(v, beta, posterior)
        excess = (posterior + (of_x0 * error).square()) * torch.exp(-log_variance)
        divergence = 0.5 * (log_variance - posterior.log() + excess - 1) / math.log(2)
        return divergence * (times > 0).to(v)[:, None, None, None, None]

    def times(self, n_steps: int) -> list[int]:
        """Return the times of sampling in so many steps, evenly spaced, from T - 1 to 0."""
        self.scheduler.set_timesteps(n_steps)
        return [int(time) for time in self.scheduler.timesteps]

    def step(
        self, output: Tensor, x: Tensor, *, time: int, following: int | None, draw: Callable[[], Tensor]
    ) -> Tensor:
        """Return x at the following time, None for x0, from x at a time and the network's output for it."""
        alpha = self.alphas_cumprod[time].to(x)
        x0 = self._x0(output[:, :1], x, alpha)
        if following is None:
            return x0
        # The step over all times between, whose betas multiply as one (Nichol and Dhariwal, section 4).
        exact, exact_following = self.alphas_cumprod[time], self.alphas_cumprod[following]
        beta, posterior, _ = (value.to(x) for value in _step_back(exact, exact_following))
        eta = 1.0 if self.eta is None else self.eta
        alpha_following = exact_following.to(x)
        epsilon = (x - alpha.sqrt() * x0) / (1 - alpha).sqrt()
        # DDIM, Eq. 12; with eta 1 the mean is that of the posterior.
        direction = (1 - alpha_following - eta**2 * posterior).clamp_min(0).sqrt()
        mean = alpha_following.sqrt() * x0 + direction * epsilon
        if self.eta is None:
            # Of single steps the range is narrow and v may leave it; of long ones it spans orders of magnitude.
            v = output[:, 1:].clamp(-1, 1)
            return mean + torch.exp(0.5 * _interpolated(v, beta, posterior)) * draw()
        return mean + eta * posterior.sqrt() * draw() if eta else mean

    def _alpha(self, times: Tensor) -> Tensor:
        """Part of the variance at times (B,) that is x0's, (B, 1, 1, 1, 1), in float64."""
        return self.alphas_cumprod[times.cpu()][:, None, None, None, None]

    def _x0(self, predicted: Tensor, x: Tensor, alpha: Tensor) -> Tensor:
        if self.scheduler.prediction_type == "epsilon":
            return (x - (1 - alpha).sqrt() * predicted) / alpha.sqrt()
        if self.scheduler.prediction_type == "sample":
            return predicted
        return alpha.sqrt() * x - (1 - alpha).sqrt() * predicted


def _step_back(alpha: Tensor, alpha_before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Variances of a step, beta and that of its posterior, and by how much the posterior's mean goes with x0."""
    beta = 1 - alpha / alpha_before
    return beta, (1 - alpha_before) / (1 - alpha) * beta, alpha_before.sqrt() * beta / (1 - alpha)


def _interpolated(v: Tensor, beta: Tensor, posterior: Tensor) -> Tensor:
    """Log variance for v from -1, that of the posterior, to 1, that of the process."""
    part = (v + 1) / 2
    return part * beta.log() + (1 - part) * posterior.log()
