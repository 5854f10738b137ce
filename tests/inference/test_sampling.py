"""Sampling: one noise for the whole, mean and spread of samples, windows and batches that agree, SUV kept."""

import math

import pytest
import torch
from monai.data import MetaTensor
from monai.networks.schedulers import DDPMScheduler, RFlowScheduler
from torch import Tensor, nn

from pipeline.diffusion import Code, GaussianDiffusion, RectifiedFlow, noise_scaled_residual
from pipeline.inference import ConservingInferer, SamplingInferer, WindowInferer, with_uncertainty
from pipeline.networks import DiffusionBody
from pipeline.pet import PETError

SCHEDULER = DDPMScheduler(1000, "linear_beta", clip_sample=False, prediction_type="sample")
DDPM = GaussianDiffusion(SCHEDULER, learned_variance=False, eta=1.0)
DDIM = GaussianDiffusion(SCHEDULER, learned_variance=False, eta=0.0)  # closer to the posterior in few steps
FLOW = RectifiedFlow(RFlowScheduler(1000, use_discrete_timesteps=True))


def plain(low: Tensor) -> Code:
    """The full dose less the low dose, as it is."""
    return Code(low, low, torch.ones_like(low))


class Known(nn.Module):
    """The mean of x0 ~ N(0.5, 0.8^2) given x_t, whatever the low dose is."""

    n_calls = 0

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        self.n_calls += 1
        alpha = DDPM.alphas_cumprod[timesteps][:, None, None, None, None].to(x)
        gain = alpha.sqrt() * 0.64 / (alpha * 0.64 + 1 - alpha)
        return 0.5 + gain * (x[:, :1] - alpha.sqrt() * 0.5)


def sampler(process=DDPM, coding=plain, **kwargs) -> SamplingInferer:
    return SamplingInferer(process=process, coding=coding, **{"n_steps": 50, **kwargs})


def test_mean_and_uncertainty_are_those_of_the_posterior(volume):
    x = volume(16, 16, 16)
    mean, deviation = sampler(DDIM, n_samples=16, n_steps=200).with_uncertainty(x, Known())
    assert float((mean - x).mean()) == pytest.approx(0.5, rel=0.02)
    assert float(deviation.square().mean().sqrt()) == pytest.approx(0.8, rel=0.02)
    assert float((mean - x).std()) == pytest.approx(0.8 / math.sqrt(16), rel=0.03)


def test_samples_are_those_of_their_number(volume):
    """Three samples are the two of before and another one."""
    x = volume(6, 6, 6)
    two, three = (sampler(n_samples=n)(x, Known()) for n in (2, 3))
    _, spread = sampler(n_samples=2).with_uncertainty(x, Known())
    third = 3 * three - 2 * two
    first = sampler()(x, Known())
    torch.testing.assert_close((first - two).abs() * math.sqrt(2), spread, rtol=1e-4, atol=1e-6)
    assert (third - first).abs().mean() > 0.1


def test_one_sample_tells_no_uncertainty_and_every_step_is_one_evaluation(volume):
    network = Known()
    assert sampler(n_steps=7).with_uncertainty(volume(4, 4, 4), network)[1] is None
    assert network.n_calls == 7


def test_the_seed_decides(volume):
    x = volume(6, 6, 6)
    one, same, other = (sampler(seed=seed)(x, Known()) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert (one - other).abs().mean() > 0.1


@pytest.mark.parametrize("process", [DDPM, FLOW])
def test_batches_agree_with_scans_alone(process, volume, randomised):
    network = randomised(DiffusionBody(2, 1, channels=4, n_blocks=(1, 1, 1)))
    x = torch.cat([volume(8, 8, 8, seed=seed) for seed in (1, 2)])
    run = sampler(process, n_steps=3)
    both = run(x, network)
    torch.testing.assert_close(both, torch.cat([run(scan, network) for scan in x.split(1)]))


class Local(nn.Module):
    """Changes every voxel by what lies beside it, and gives two channels."""

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        return torch.cat([0.5 * x[:, :1] + 0.1 * x[:, 1:2] * torch.tanh(x[:, :1]), 0 * x[:, :1]], dim=1)


def test_windows_agree_with_the_whole_volume(volume):
    process = GaussianDiffusion(DDPMScheduler(1000, "linear_beta", clip_sample=False, prediction_type="v_prediction"))
    x = volume(30, 20, 25)
    whole = sampler(process, n_steps=5)(x, Local())
    windows = sampler(process, n_steps=5, whole=1, roi_size=(16, 16, 16))(x, Local())
    torch.testing.assert_close(windows, whole, rtol=1e-4, atol=1e-4)


def test_windows_of_a_network_with_a_view_differ_little(volume, randomised):
    network = randomised(DiffusionBody(4, 1, channels=4, n_blocks=(1, 1, 1)))
    x = volume(48, 16, 16)
    run = {"process": FLOW, "coding": noise_scaled_residual, "n_steps": 3}
    whole = sampler(**run)(x, network)
    windows = sampler(**run, whole=1, roi_size=(32, 16, 16), overlap=0.5)(x, network)
    assert (windows - whole).abs().max() < 0.2 * (whole - x).abs().max()
    assert (windows - whole).square().mean().sqrt() < 0.05 * (whole - x).square().mean().sqrt()


def test_beyond_the_box_of_the_body_there_is_nothing(body):
    x = body((40, 24, 24), (slice(10, 30), slice(8, 16), slice(8, 16)))
    run = sampler(body_threshold=0.1, n_samples=2, coding=noise_scaled_residual)
    mean, deviation = run.with_uncertainty(x, Known())
    inside = (..., slice(10, 30), slice(8, 16), slice(8, 16))
    assert mean[inside].abs().min() > 0
    assert deviation[inside].min() > 0
    assert not mean[..., :5, :, :].any()
    assert not deviation[..., 35:, :, :].any()


def test_a_hot_voxel_keeps_its_suv():
    x = torch.ones(1, 1, 24, 24, 24)
    x += 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    x[..., 12, 12, 12] = 50.0  # SUV 100
    assert float(sampler(coding=noise_scaled_residual)(x, Known())[..., 12, 12, 12]) == pytest.approx(50, rel=0.05)


def test_conservation_keeps_the_uncertainty(body):
    x = body((40, 24, 24), (slice(10, 30), slice(8, 16), slice(8, 16)))
    affine = torch.diag(torch.tensor([4.0, 4.0, 4.0, 1.0]))
    run = sampler(n_samples=3, body_threshold=0.1)
    _, deviation = run.with_uncertainty(x, Known())
    around = ConservingInferer(run, body_threshold=0.1)
    mean, kept = around.with_uncertainty(MetaTensor(x, affine=affine), Known())
    assert torch.equal(kept, deviation)
    assert torch.equal(mean, around(MetaTensor(x, affine=affine), Known()))


def test_other_inferers_tell_no_uncertainty(volume):
    x = volume(8, 8, 8)
    result, deviation = with_uncertainty(WindowInferer(roi_size=(8, 8, 8)), x, nn.Identity())
    torch.testing.assert_close(result, x)
    assert deviation is None


def test_progress_is_told_after_every_step(volume):
    told = []
    sampler(n_steps=4, n_samples=2, on_progress=lambda p: told.append(p.done))(volume(4, 4, 4), Known())
    assert told == [k / 8 for k in range(1, 9)]


def test_what_is_wrong_is_refused(volume):
    with pytest.raises(ValueError, match="n_steps 0"):
        sampler(n_steps=0)
    x = volume(4, 4, 4)
    x[..., 0] = float("inf")
    with pytest.raises(PETError, match="16 of 64"):
        sampler()(x, Known())
