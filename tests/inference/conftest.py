"""Networks and volumes for the inference tests."""

from collections.abc import Callable

import pytest
import torch
from torch import nn


@pytest.fixture(scope="session")
def randomised() -> Callable[[nn.Module], nn.Module]:
    """Function that draws every parameter of a network, so that nothing is hidden by a zero, and returns it."""

    def draw(network: nn.Module, seed: int = 0) -> nn.Module:
        g = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=g) * (0.5 / parameter[0].numel()) ** 0.5)
        return network.eval()

    return draw


@pytest.fixture(scope="session")
def volume() -> Callable[..., torch.Tensor]:
    """Function that gives a random volume (1, 1, X, Y, Z) in 0 to 1."""

    def draw(*shape: int, seed: int = 1) -> torch.Tensor:
        return torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(seed))

    return draw


@pytest.fixture(scope="session")
def body() -> Callable[..., torch.Tensor]:
    """Function that gives air with a warm block in it (1, 1, X, Y, Z)."""

    def draw(shape: tuple[int, ...], block: tuple[slice, ...], seed: int = 2) -> torch.Tensor:
        g = torch.Generator().manual_seed(seed)
        x = torch.rand(1, 1, *shape, generator=g) * 0.01
        x[(..., *block)] += 0.5 + torch.rand(x[(..., *block)].shape, generator=g)
        return x

    return draw
