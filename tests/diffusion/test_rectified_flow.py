"""Rectified flow against the known map between two Gaussians."""

import pytest
import torch
from monai.networks.schedulers import RFlowScheduler

from pipeline.diffusion import RectifiedFlow

MEAN, SD = 1.5, 0.4


def flow() -> RectifiedFlow:
    return RectifiedFlow(RFlowScheduler(1000, use_discrete_timesteps=True))


def exact_velocity(x: torch.Tensor, time: int) -> torch.Tensor:
    """E[x0 - noise | x_t] for x0 ~ N(MEAN, SD^2)."""
    t = time / 1000
    variance = ((1 - t) * SD) ** 2 + t**2
    return MEAN + ((1 - t) * SD**2 - t) / variance * (x - (1 - t) * MEAN)


@pytest.mark.parametrize("n_steps", [1000, 100, 64])
def test_the_flow_between_two_gaussians_is_the_affine_map(n_steps):
    p, x = flow(), torch.linspace(-3, 3, 61).double().view(-1, 1, 1, 1, 1)
    start, times = x, p.times(n_steps)
    for time, following in zip(times, [*times[1:], None], strict=True):
        x = p.step(exact_velocity(x, time), x, time=time, following=following, draw=lambda: pytest.fail("random"))
    torch.testing.assert_close(x, MEAN + SD * start, rtol=0.02, atol=0.02 if n_steps > 64 else 0.04)


@pytest.mark.parametrize("n_steps", [1, 2, 3, 7, 30, 1000])
def test_steps_of_any_number_lead_from_noise_to_the_image(n_steps):
    p = flow()
    x0, noise = torch.tensor(0.7).view(1, 1, 1, 1, 1), torch.tensor(-1.2).view(1, 1, 1, 1, 1)
    x, times = noise, p.times(n_steps)
    for time, following in zip(times, [*times[1:], None], strict=True):
        torch.testing.assert_close(x, p.noised(x0, noise, torch.tensor([time])))
        x = p.step(x0 - noise, x, time=time, following=following, draw=lambda: noise)
    torch.testing.assert_close(x, x0)


def test_the_loss_of_the_velocity_is_zero():
    x0, noise = torch.randn(2, 3, 1, 2, 2, 2)
    losses = flow().losses(x0 - noise, x0=x0, noise=noise, times=torch.tensor([1.0, 400.0, 999.0]))
    assert float(losses["velocity"]) == 0


def test_times_that_are_not_whole_are_refused():
    with pytest.raises(ValueError, match="discrete"):
        RectifiedFlow(RFlowScheduler(1000, use_discrete_timesteps=False))
