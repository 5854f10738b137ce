"""Diffusion against what is known in one dimension: posteriors, equal distributions, the best variance."""

import math
from itertools import pairwise

import pytest
import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from pipeline.diffusion import GaussianDiffusion

N = 8_000
MEAN, SD, NOISE, LOW = 0.5, 0.8, 0.6, 1.3  # x0 ~ N(MEAN, SD^2); low = x0 + N(0, NOISE^2) was LOW
GAIN = SD**2 / (SD**2 + NOISE**2)
POSTERIOR_MEAN, POSTERIOR_SD = MEAN + GAIN * (LOW - MEAN), math.sqrt(GAIN) * NOISE


def process(*, eta: float | None = None, kind: str = "epsilon", learned: bool = True) -> GaussianDiffusion:
    scheduler = DDPMScheduler(1000, "linear_beta", clip_sample=False, prediction_type=kind)
    return GaussianDiffusion(scheduler, eta=eta, learned_variance=learned)


def exact_output(p: GaussianDiffusion, x: Tensor, time: int, following: int | None) -> Tensor:
    """What a perfect network gives for x0 ~ N(POSTERIOR_MEAN, POSTERIOR_SD^2): prediction and variance."""
    alpha = p.alphas_cumprod[time]
    variance = alpha * POSTERIOR_SD**2 + 1 - alpha
    x0 = POSTERIOR_MEAN + alpha.sqrt() * POSTERIOR_SD**2 / variance * (x - alpha.sqrt() * POSTERIOR_MEAN)
    epsilon = (x - alpha.sqrt() * x0) / (1 - alpha).sqrt()
    velocity = alpha.sqrt() * epsilon - (1 - alpha).sqrt() * x0
    first = {"epsilon": epsilon, "sample": x0, "v_prediction": velocity}[str(p.scheduler.prediction_type)]
    if following is None:
        return torch.cat([first, torch.zeros_like(first)], dim=1)
    before = p.alphas_cumprod[following]
    beta = 1 - alpha / before
    smallest = (1 - before) / (1 - alpha) * beta
    of_x0 = before.sqrt() * beta / (1 - alpha)
    best = smallest + of_x0**2 * POSTERIOR_SD**2 * (1 - alpha) / variance  # law of total variance
    v = 2 * (best / smallest).log() / (beta / smallest).log() - 1
    return torch.cat([first, v.expand_as(first)], dim=1)


def sampled(p: GaussianDiffusion, n_steps: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)

    def draw() -> Tensor:
        return torch.randn(N, 1, 1, 1, 1, generator=generator, dtype=torch.float64)

    x, times = draw(), p.times(n_steps)
    for time, following in zip(times, [*times[1:], None], strict=True):
        output = exact_output(p, x, time, following)
        x = p.step(output[:, : p.n_outputs], x, time=time, following=following, draw=draw)
    return x.flatten()


ALL_KINDS = [(None, 20), (0.0, 200)]


@pytest.mark.parametrize(
    ("kind", "eta", "n_steps"),
    [("epsilon", None, 1000), ("v_prediction", 1.0, 1000)]
    + [(kind, *rest) for kind in ("epsilon", "sample", "v_prediction") for rest in ALL_KINDS],
)
def test_sampling_reproduces_a_gaussian_posterior(kind, eta, n_steps):
    x = sampled(process(eta=eta, kind=kind), n_steps)
    assert float(x.mean()) == pytest.approx(POSTERIOR_MEAN, rel=0.02)
    assert float(x.std()) == pytest.approx(POSTERIOR_SD, rel=0.02)


def test_ddim_of_all_steps_with_eta_1_is_ancestral_sampling():
    by_ddim = sampled(process(eta=1.0, learned=False), 1000).sort().values
    p = process(eta=1.0, learned=False)
    generator = torch.Generator().manual_seed(1)
    scheduler = DDPMScheduler(1000, "linear_beta", clip_sample=False)
    x = torch.randn(N, 1, 1, 1, 1, generator=generator, dtype=torch.float64)
    for time in range(999, -1, -1):
        output = exact_output(p, x, time, None)[:, :1]
        x = scheduler.step(output, time, x, generator=generator)[0]
    by_monai = x.flatten().sort().values
    # Kolmogorov and Smirnov: of two samples of one distribution, 1.95 is passed once in a thousand times.
    grid = torch.linspace(-1, 3, 400, dtype=torch.float64)
    distance = (torch.searchsorted(by_ddim, grid) - torch.searchsorted(by_monai, grid)).abs().max() / N
    assert float(distance) * math.sqrt(N / 2) < 1.95


@pytest.mark.parametrize("n_steps", [1000, 999, 100, 30, 7])
def test_every_step_leads_to_the_next_time_of_the_list(n_steps):
    """A noisy image of a known x0 stays on the path of that x0 and noise, whatever times are left out."""
    p = process(eta=0.0)
    x0, noise = torch.tensor([0.7]).double().view(1, 1, 1, 1, 1), torch.tensor([-1.2]).double().view(1, 1, 1, 1, 1)
    times = p.times(n_steps)
    assert times[0] == 999
    assert times == sorted(set(times), reverse=True)
    x = p.noised(x0, noise, torch.tensor(times[:1]))
    for time, following in zip(times, [*times[1:], None], strict=True):
        x = p.step(torch.cat([noise, noise], dim=1), x, time=time, following=following, draw=lambda: noise)
        expected = x0 if following is None else p.noised(x0, noise, torch.tensor([following]))
        torch.testing.assert_close(x, expected, rtol=1e-3, atol=1e-4)


def test_monais_ddim_steps_to_other_times_than_it_names():
    """Why the steps are computed here: with 30 of 1000 its last steps lie 3 times off."""
    scheduler = DDIMScheduler(1000, "linear_beta", clip_sample=False)
    scheduler.set_timesteps(30)
    named = [int(time) for time in scheduler.timesteps]
    stepped_to = [time - 1000 // 30 for time in named]
    assert max(abs(a - b) for a, b in zip(stepped_to, named[1:], strict=False)) > 0
    x0, noise = torch.tensor([[[[[0.7]]]]]), torch.tensor([[[[[-1.2]]]]])
    x = scheduler.add_noise(x0, noise, torch.tensor(named[:1]))
    off = []
    for time, following in pairwise(named):
        x = scheduler.step(noise, time, scheduler.add_noise(x0, noise, torch.tensor([time])), eta=0.0)[0]
        off.append(abs(float(x - scheduler.add_noise(x0, noise, torch.tensor([following])))))
    assert max(off) > 0.005


@pytest.mark.parametrize("time", [1, 10, 200, 900])
def test_the_bound_is_least_at_the_best_variance(time):
    p = process()
    generator = torch.Generator().manual_seed(2)
    n = 40_000
    x0 = POSTERIOR_MEAN + POSTERIOR_SD * torch.randn(n, 1, 1, 1, 1, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, 1, 1, 1, 1, generator=generator, dtype=torch.float64)
    times = torch.tensor([time])
    output = exact_output(p, p.noised(x0, noise, times), time, time - 1)
    error = x0 - p._x0(output[:, :1], p.noised(x0, noise, times), p.alphas_cumprod[time])
    best = float(output[0, 1])
    candidates = torch.linspace(best - 0.4, best + 0.4, 41, dtype=torch.float64)
    of = [float(p.bound(v.expand_as(error), error, times.expand(n)).mean()) for v in candidates]
    reached = float(candidates[min(range(41), key=of.__getitem__)])
    # In terms of the variance itself: late in the process all v are nearly one.
    alpha, before = p.alphas_cumprod[time], p.alphas_cumprod[time - 1]
    log_range = float(((1 - alpha) / (1 - before)).log())
    assert (reached - best) / 2 * log_range == pytest.approx(0, abs=0.01)
    assert min(of) >= 0


def test_the_bound_of_a_perfect_mean_at_the_smallest_variance_is_zero_and_the_last_step_has_none():
    p = process()
    v, error = torch.full((3, 1, 1, 1, 1), -1.0), torch.zeros(3, 1, 1, 1, 1)
    torch.testing.assert_close(p.bound(v, error, torch.tensor([0, 1, 500])), torch.zeros_like(v), rtol=0, atol=1e-6)
    assert float(p.bound(v, error + 9, torch.tensor([0, 1, 500]))[0]) == 0


def test_the_bound_leaves_the_mean_alone():
    p = process(kind="v_prediction")
    output = torch.randn(4, 2, 3, 3, 3, requires_grad=True)
    x0, noise = torch.randn(2, 4, 1, 3, 3, 3)
    losses = p.losses(output, x0=x0, noise=noise, times=torch.tensor([1, 50, 500, 999]))
    gradient = torch.autograd.grad(losses["bound"], output)[0]
    assert not gradient[:, :1].any()
    assert gradient[:, 1:].any()


def test_the_loss_of_a_perfect_prediction_is_zero():
    x0, noise = torch.randn(2, 3, 1, 2, 2, 2)
    times = torch.tensor([0, 400, 999])
    p = process(kind="v_prediction", learned=False, eta=1.0)
    velocity = p.scheduler.get_velocity(x0, noise, times)
    assert float(p.losses(velocity, x0=x0, noise=noise, times=times)["simple"]) == 0


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="clip_sample"):
        GaussianDiffusion(DDPMScheduler(1000))
    with pytest.raises(ValueError, match="no learned variance"):
        process(learned=False)
    with pytest.raises(ValueError, match="expected 0 to 1"):
        process(eta=2.0)
