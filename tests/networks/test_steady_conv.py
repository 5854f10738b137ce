"""A part of a volume gets the bits of the whole, and both get the right ones."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.networks import conv3d, tissue_mask

SHAPES = st.tuples(st.integers(1, 14), st.integers(1, 40), st.integers(1, 40))


def drawn(shape: tuple[int, ...], channels: tuple[int, int], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1, channels[0], *shape, generator=g).to(dtype)
    weight = torch.randn(channels[1], channels[0], 3, 3, 3, generator=g) * (27 * channels[0]) ** -0.5
    return x, weight.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@settings(max_examples=15, deadline=None)
@given(shape=SHAPES, channels=st.sampled_from([(64, 64), (48, 48), (1, 64), (64, 1), (8, 48), (5, 7)]), data=st.data())
def test_planes_have_the_bits_of_the_whole(dtype, shape, channels, data):
    x, weight = drawn(shape, channels, dtype)
    start = data.draw(st.integers(0, shape[0] - 1))
    stop = data.draw(st.integers(start + 1, shape[0]))
    with torch.no_grad():
        whole = conv3d(x, weight, padding=(1, 1, 1))
        part = conv3d(F.pad(x, (0, 0, 0, 0, 1, 1))[:, :, start : stop + 2], weight, padding=(0, 1, 1))
    assert torch.equal(part, whole[:, :, start:stop])
    exact = F.conv3d(x.double(), weight.double(), padding=1)
    assert (whole.double() - exact).abs().max() < 30 * torch.finfo(dtype).eps * exact.abs().max().clamp_min(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@settings(max_examples=15, deadline=None)
@given(shape=SHAPES, channels=st.sampled_from([(64, 64), (48, 8), (16, 16)]), data=st.data())
def test_boxes_have_the_bits_of_the_whole(dtype, shape, channels, data):
    x, weight = drawn(shape, channels, dtype)
    box = []
    for n in shape:
        start = data.draw(st.integers(0, n - 1))
        box.append(slice(start, data.draw(st.integers(start + 1, n)) + 2))
    with torch.no_grad():
        whole = conv3d(x, weight, padding=(1, 1, 1))
        part = conv3d(F.pad(x, (1,) * 6)[(..., *box)], weight)
    assert torch.equal(part, whole[(..., *[slice(side.start, side.stop - 2) for side in box])])


def test_gradients_are_those_of_torch():
    x, weight = drawn((4, 5, 6), (3, 2), torch.float32)
    x.requires_grad_(True)
    (ours,) = torch.autograd.grad(conv3d(x, weight, padding=(1, 1, 1)).square().sum(), x)
    (torchs,) = torch.autograd.grad(F.conv3d(x, weight, padding=1).square().sum(), x)
    torch.testing.assert_close(ours, torchs, rtol=0, atol=0)


def test_autocast_is_obeyed():
    x, weight = drawn((4, 5, 6), (3, 2), torch.float32)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert conv3d(x, weight, padding=(1, 1, 1)).dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(9, 8, 7), (1, 1, 1), (2, 12, 3)])
def test_tissue_mask_is_the_threshold_of_the_mean_of_five(shape):
    x = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean = F.avg_pool3d(F.pad(x, (2,) * 6), 5, stride=1)
    threshold = float(mean.median()) + 1e-9
    assert torch.equal(tissue_mask(x, threshold), mean > threshold)
