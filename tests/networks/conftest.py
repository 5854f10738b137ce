"""Networks in which nothing is hidden by a zero."""

from collections.abc import Callable

import pytest
import torch
from torch import nn


@pytest.fixture
def randomise() -> Callable[[nn.Module], nn.Module]:
    """Same network with every parameter drawn."""

    def draw(network: nn.Module) -> nn.Module:
        g = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=g) * (0.3 / parameter[0].numel()) ** 0.5)
        return network.eval()

    return draw
