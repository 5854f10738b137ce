"""ModulatedConv3d against its definition with one kernel per sample."""

import pytest
import torch
import torch.nn.functional as F

from pipeline.networks import ModulatedConv3d


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
