"""A network that finds noise makes a denoiser."""

import pytest
import torch

from pipeline.networks import Residual


class Constant(torch.nn.Module):
    """Finds the same noise everywhere, and notes the shapes that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[torch.Size] = []

    def forward(self, x):
        self.shapes.append(x.shape)
        return torch.full_like(x, 0.25)


@pytest.mark.parametrize(("shape", "seen"), [((8, 8, 8), (8, 8, 8)), ((5, 8, 9), (8, 8, 12))])
def test_what_is_found_is_subtracted_on_the_grid_of_the_image(shape, seen):
    noise = Constant()
    x = torch.rand(2, 1, *shape)
    assert torch.equal(Residual(noise, multiple=4)(x), x - 0.25)
    assert noise.shapes == [(2, 1, *seen)]
