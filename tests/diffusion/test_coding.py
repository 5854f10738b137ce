"""What is diffused: there and back, of order one at any dose, and a function of the neighbourhood alone."""

import pytest
import torch

from pipeline.diffusion import clipped_image, noise_scaled_residual


def noisy(scale: float, *, level: float = 1.0, n: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    full = torch.full((1, 1, n, n, n), level)
    return full + scale * torch.randn(full.shape, generator=g), full


@pytest.mark.parametrize("coding", [noise_scaled_residual, clipped_image])
def test_what_is_encoded_is_decoded(coding):
    low, full = noisy(0.2)
    code = coding(low)
    torch.testing.assert_close(code.decode(code.encode(full)), full)


@pytest.mark.parametrize("scale", [0.05, 0.5])
def test_white_noise_of_any_dose_becomes_the_same(scale):
    low, full = noisy(scale)
    x0 = noise_scaled_residual(low).encode(full)
    # |mixed second difference| of white noise has a mean of 2 sqrt(2 / pi); that of its root, squared, is 0.85 of it.
    assert float(x0.std()) == pytest.approx(1 / (2 * 2 * (2 / torch.pi) ** 0.5 * 0.85), rel=0.1)


def test_no_voxel_is_clipped():
    low, full = noisy(0.2)
    low[0, 0, 12, 12, 12] = full[0, 0, 12, 12, 12] = 50.0
    code = noise_scaled_residual(low)
    assert float(code.decode(code.encode(full)).max()) == pytest.approx(50.0)
    assert float(code.scale.max()) < 5


def test_a_constant_image_hardly_changes_whatever_is_drawn():
    low = torch.full((1, 1, 10, 10, 10), 3.0)
    code = noise_scaled_residual(low)
    assert float((code.decode(torch.full_like(low, 3.0)) - low).abs().max() / 3) < 0.02


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 9, 3), (16, 16, 16)])
def test_any_shape_is_coded(shape):
    code = noise_scaled_residual(torch.rand(2, 1, *shape))
    assert code.condition.shape == (2, 3, *shape)
    assert bool(code.condition.isfinite().all())
    assert float(code.scale.min()) > 0


def test_a_part_is_coded_as_in_the_whole_but_for_its_rim():
    low, _ = noisy(0.2, n=24)
    part = noise_scaled_residual(low[:, :, 4:20]).condition[:, :, 4:-4]
    torch.testing.assert_close(part, noise_scaled_residual(low).condition[:, :, 8:16], rtol=1e-4, atol=1e-5)


def test_the_published_coding_is_minus_1_to_1():
    low = torch.tensor([0.0, 4.0, 8.0, 50.0]).view(1, 1, 4, 1, 1)
    assert clipped_image(low).condition.flatten().tolist() == [-1, 0, 1, 1]
    assert clipped_image(low).encode(low).flatten()[:3].tolist() == [-1, 0, 1]
