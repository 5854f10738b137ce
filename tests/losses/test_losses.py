"""Losses: identities and values computed by hand."""

import pytest
import torch

from pipeline import evaluation
from pipeline.losses import (
    ReconstructionLoss,
    channel_statistics,
    critic_loss,
    generator_loss,
    gradient_penalty,
    local_variance,
    style_alignment_loss,
    stylized_region,
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_channel_statistics_by_hand():
    feature = torch.tensor([1.0, 2.0, 3.0, 6.0]).reshape(1, 1, 4, 1, 1)
    # mean 3, unbiased variance (4 + 1 + 0 + 9) / 3
    torch.testing.assert_close(channel_statistics([feature]), torch.tensor([[3.0, (14 / 3) ** 0.5]]))


def test_style_loss_is_zero_for_equal_and_positive_for_different_styles():
    a, b = [noise(2, 4, 5, 5, 5), noise(2, 3, 5, 5, 5)], [noise(2, 4, 5, 5, 5, seed=1), noise(2, 3, 5, 5, 5, seed=2)]
    assert style_alignment_loss(a, a) == 0
    assert style_alignment_loss(a, b) > 0


def test_style_loss_ignores_where_things_are():
    a = [noise(1, 4, 6, 5, 4)]
    torch.testing.assert_close(style_alignment_loss(a, [a[0].flip(2)]), torch.tensor(0.0), atol=1e-6, rtol=0)


def test_style_loss_of_a_shift_is_the_shift_of_the_means():
    a = [noise(2, 4, 5, 5, 5)]
    # Means move by 0.5, deviations do not: half of the entries differ by 0.5.
    torch.testing.assert_close(style_alignment_loss(a, [a[0] + 0.5]), torch.tensor(0.25))


def test_style_loss_of_a_gain_is_the_gain_of_mean_and_deviation():
    a = [noise(2, 4, 5, 5, 5)]
    expected = 0.5 * channel_statistics(a).abs().mean()
    torch.testing.assert_close(style_alignment_loss([a[0] * 1.5], a), expected)


def test_style_loss_is_symmetric_in_its_value_and_grows_with_the_noise():
    clean = [noise(2, 4, 8, 8, 8)]
    noisy = [[clean[0] + s * noise(2, 4, 8, 8, 8, seed=1)] for s in (0.3, 1.0, 3.0)]
    losses = [style_alignment_loss(n, clean) for n in noisy]
    assert 0 < losses[0] < losses[1] < losses[2]
    torch.testing.assert_close(losses[1], style_alignment_loss(clean, noisy[1]))


def test_losses_keep_float64_and_widen_bfloat16():
    for dtype, expected in ((torch.float64, torch.float64), (torch.bfloat16, torch.float32)):
        a, b = noise(2, 1, 4, 4, 4).to(dtype), noise(2, 1, 4, 4, 4, seed=1).to(dtype)
        assert ReconstructionLoss(noise_floor=0.1)(a, b, b + 1).dtype == expected
        assert style_alignment_loss([a], [b]).dtype == expected
        assert gradient_penalty(lambda u: u.flatten(1).sum(1), a, b).dtype == expected


def test_style_loss_does_not_train_the_full_dose_pass():
    low = noise(1, 2, 4, 4, 4).requires_grad_(True)
    full = noise(1, 2, 4, 4, 4, seed=1).requires_grad_(True)
    style_alignment_loss([low], [full]).backward()
    assert low.grad.abs().sum() > 0
    assert full.grad is None


def test_wasserstein_losses_by_hand():
    real, fake = torch.tensor([3.0, 5.0]), torch.tensor([1.0, 2.0])
    assert critic_loss(real, fake) == 1.5 - 4.0
    assert generator_loss(fake) == -1.5


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0, 3.0])
def test_penalty_of_a_linear_critic_is_its_distance_from_slope_one(slope):
    direction = noise(1, 1, 4, 4, 4)
    direction = direction / direction.norm() * slope
    penalty = gradient_penalty(lambda x: (x * direction).flatten(1).sum(1), noise(3, 1, 4, 4, 4), noise(3, 1, 4, 4, 4))
    torch.testing.assert_close(penalty, torch.tensor((slope - 1.0) ** 2), atol=1e-5, rtol=1e-5)


def test_penalty_of_a_quadratic_critic_on_a_known_line():
    # critic |x|^2 / 2 has gradient x; with real == fake every point of the line is x itself.
    x = noise(2, 1, 3, 3, 3)
    penalty = gradient_penalty(lambda u: u.flatten(1).square().sum(1) / 2, x, x)
    torch.testing.assert_close(penalty, (x.flatten(1).norm(dim=1) - 1).square().mean())


def test_penalty_is_taken_at_the_given_point_of_the_line():
    # Gradient of |x|^2 / 2 at p real + (1 - p) fake is that point itself.
    real, fake = noise(2, 1, 3, 3, 3), noise(2, 1, 3, 3, 3, seed=1)
    position = torch.tensor([0.0, 0.75]).reshape(2, 1, 1, 1, 1)
    penalty = gradient_penalty(lambda u: u.flatten(1).square().sum(1) / 2, real, fake, position=position)
    points = torch.stack([fake[0], 0.75 * real[1] + 0.25 * fake[1]])
    torch.testing.assert_close(penalty, (points.flatten(1).norm(dim=1) - 1).square().mean())


def test_penalty_reaches_the_critic_and_not_the_images():
    real, fake = (noise(2, 1, 4, 4, 4, seed=i).requires_grad_(True) for i in range(2))
    weight = torch.tensor(2.0, requires_grad=True)
    gradient_penalty(lambda u: weight * u.flatten(1).square().sum(1), real, fake).backward()
    assert weight.grad.abs() > 0
    assert real.grad is None
    assert fake.grad is None


def test_critic_loss_falls_as_the_critic_tells_them_apart_and_the_generator_wants_the_opposite():
    real, fake = torch.zeros(4), noise(4).requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic_loss(real, fake), fake)
    (opposite,) = torch.autograd.grad(generator_loss(fake), fake)
    torch.testing.assert_close(gradient, torch.full((4,), 0.25))
    torch.testing.assert_close(opposite, -gradient)


def test_penalty_trains_the_critic_in_float32_under_autocast():
    critic = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.LazyLinear(1))
    x, y = noise(2, 1, 5, 5, 5), noise(2, 1, 5, 5, 5, seed=1)
    critic(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = gradient_penalty(critic, x, y, position=torch.full((2, 1, 1, 1, 1), 0.3))
    outside = gradient_penalty(critic, x, y, position=torch.full((2, 1, 1, 1, 1), 0.3))
    assert inside.dtype == torch.float32
    assert inside == outside
    inside.backward()
    assert critic[0].weight.grad.abs().sum() > 0


def test_local_variance_of_a_checkerboard_and_of_a_constant():
    assert local_variance(torch.full((1, 1, 5, 5, 5), 100.1)).max() < 1e-6
    i = torch.arange(6)
    board = ((i[:, None, None] + i[None, :, None] + i[None, None]) % 2).float()[None, None]
    # Inside, 13 or 14 of the 27 voxels are one: p (1 - p).
    torch.testing.assert_close(local_variance(board)[0, 0, 2, 2, 2], torch.tensor(13 / 27 * 14 / 27))


def test_the_loss_has_the_local_variance_of_the_measure_up_to_the_border():
    volume = torch.rand(1, 1, 5, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    measured = evaluation.local_variance(volume[0, 0].numpy())
    torch.testing.assert_close(local_variance(volume)[0, 0], torch.from_numpy(measured), rtol=1e-12, atol=1e-14)


def test_stylized_region_is_a_ramp_only_where_it_is_steep():
    ramp = torch.zeros(1, 1, 20, 5, 5)
    ramp[:, :, 10:] = torch.arange(10.0)[:, None, None] * 0.1
    # Variance of (-a, 0, a) repeated is 2 a^2 / 3 = 0.0067 for a = 0.1 SUV.
    region = stylized_region(ramp, threshold=1e-3)
    assert region[0, 0, 13:17].min() == 1
    assert region[0, 0, :8].max() == 0
    assert stylized_region(ramp, threshold=0.01).sum() == 0


def pair(seed: int = 0, side: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = 0.5 + torch.rand(1, 1, side, side, side, generator=generator)
    return target, torch.randn(1, 1, side, side, side, generator=generator)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_reconstruction_loss_is_the_share_of_the_noise_that_remains(scale):
    target, noise = pair()
    loss = ReconstructionLoss(noise_floor=1e-6, suv_scale=scale)
    for amplitude in (0.01, 1.0):
        found = loss(target + 0.1 * amplitude * noise, target, target + amplitude * noise)
        assert found.item() == pytest.approx(0.1, rel=1e-3)
    # Each volume by its own noise: shares of 0.1 and 0.5.
    images = torch.cat([target + 0.01 * noise, target + noise])
    preds = torch.cat([target + 0.001 * noise, target + 0.5 * noise])
    assert loss(preds, torch.cat([target, target]), images).item() == pytest.approx(0.3, rel=1e-3)


def test_reconstruction_loss_by_hand():
    # Uniform, so that every local mean is 2 g/mL: weights of 2.1^-1.2, noise 1, remaining 0.5, floor 0.5.
    target = torch.full((1, 1, 3, 3, 3), 1.0)
    loss = ReconstructionLoss(variance_power=1.2, noise_floor=0.5, suv_scale=2.0)
    root = 2.1**-0.6
    expected = (0.25 * 2.1**-1.2 + 1e-3 * 0.25) ** 0.5 / (root + 0.5)
    assert loss(target + 0.25, target, target - 0.5).item() == pytest.approx(expected, rel=1e-5)


def test_the_minimum_of_the_reconstruction_loss_is_the_mean_of_skewed_noise():
    noise = torch.distributions.Exponential(1.0).sample((1, 1, 40, 40, 40)) - 1
    target = 3 + noise
    loss = ReconstructionLoss(variance_power=0.0, suv_scale=1.0)
    offset = torch.zeros((), requires_grad=True)
    loss(torch.full_like(target, 3.0) + offset, target, target + 1).backward()
    # The gradient of a mean of squares vanishes at the mean; that of absolute differences at the median, 0.31 below.
    assert offset.grad.abs() < 0.02


def test_only_what_is_hot_among_its_surroundings_and_underestimated_counts_more():
    target = torch.full((1, 1, 24, 24, 24), 1.0)
    target[:, :, 10:14, 10:14, 10:14] = 6.0
    image = target + 1
    plain, more = ReconstructionLoss(suv_scale=1.0), ReconstructionLoss(suv_scale=1.0, underestimate_weight=0.5)
    low, high = target.clone(), target.clone()
    low[:, :, 12, 12, 12] -= 1
    high[:, :, 12, 12, 12] += 1
    assert more(low, target, image) > 1.1 * plain(low, target, image)
    assert more(high, target, image) == plain(high, target, image)
    liver = torch.full_like(target, 4.0)
    assert more(liver - 1, liver, liver + 1) == plain(liver - 1, liver, liver + 1)


@pytest.mark.parametrize("floor", [0.0, -1.0])
def test_a_noise_floor_that_weighs_everything_with_nothing_is_refused(floor):
    with pytest.raises(ValueError, match="noise_floor must be above 0"):
        ReconstructionLoss(noise_floor=floor)
