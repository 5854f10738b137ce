"""Convolutions: a part gets the bits of the whole, and modulated kernels act by their definition."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.networks import ModulatedConv3d, conv3d

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


def by_definition(x: torch.Tensor, weight: torch.Tensor, style: torch.Tensor, eps: float = 1e-8) -> torch.Tensor:
    out = []
    for sample, s in zip(x, style, strict=True):
        w = weight * (1 + s)[None, :, None, None, None]
        w = w / (w.square().sum(dim=(1, 2, 3, 4), keepdim=True) + eps).sqrt()
        out.append(F.conv3d(sample[None], w, padding=1))
    return torch.cat(out)


@pytest.fixture
def case() -> tuple[ModulatedConv3d, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    conv = ModulatedConv3d(5, 7).double()
    conv.weight.data = torch.randn(conv.weight.shape, generator=g, dtype=torch.double)
    x = torch.randn(3, 5, 6, 5, 4, generator=g, dtype=torch.double, requires_grad=True)
    style = torch.randn(3, 5, generator=g, dtype=torch.double, requires_grad=True)
    return conv, x, style


def test_equals_definition_in_value(case):
    conv, x, style = case
    # Demodulation is computed in float32 at least, which bounds the agreement.
    torch.testing.assert_close(conv(x, style), by_definition(x, conv.weight, style), rtol=2e-6, atol=2e-6)


def test_equals_definition_in_gradient(case):
    conv, x, style = case
    probe = torch.randn(3, 7, 6, 5, 4, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    wanted = torch.autograd.grad((by_definition(x, conv.weight, style) * probe).sum(), (x, style, conv.weight))
    got = torch.autograd.grad((conv(x, style) * probe).sum(), (x, style, conv.weight))
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_modulated_kernels_have_unit_norm(case):
    conv, _, style = case
    folded = conv.folded_weight(style[0])
    torch.testing.assert_close(folded.flatten(1).norm(dim=1), torch.ones(7, dtype=torch.double), rtol=1e-6, atol=0)


def test_folded_weight_acts_as_the_layer(case):
    conv, x, style = case
    torch.testing.assert_close(
        F.conv3d(x[:1], conv.folded_weight(style[0]), padding=1), conv(x[:1], style[:1]), rtol=1e-6, atol=1e-6
    )


def test_without_style_it_is_a_plain_convolution(case):
    conv, x, _ = case
    assert torch.equal(conv(x), F.conv3d(x, conv.weight, padding=1))


def test_even_kernel_is_refused():
    with pytest.raises(ValueError, match="odd"):
        ModulatedConv3d(1, 1, kernel_size=4)
