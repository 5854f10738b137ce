"""Forward pass of a generator with what its losses need, as one module."""

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn

__all__ = ["GeneratorPass"]


class GeneratorPass(nn.Module):
    """Denoised volume and block features of one forward pass.

    A module of its own because gradients are gathered over processes for what a module's ``forward`` returns, and a
    network's ``forward`` returns the denoised volume alone.

    Parameters
    ----------
    network
        With a method ``denoise_with_features(x)`` or ``denoise_with_features(x, statistics)``; of any other network
        the features are empty, and statistics are not for it.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @property
    def gives_features(self) -> bool:
        """Whether there are features for a style alignment loss."""
        return hasattr(self.network, "denoise_with_features")

    def forward(self, image: Tensor, statistics: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """Denoised volume (B, 1, X, Y, Z) of an image, and the features of every block, (B, C, X', Y', Z') each.

        ``statistics`` (B, n) describe the whole scan of each patch, for networks whose style is read from them.
        """
        if not self.gives_features:
            return self.network(image), []
        arguments = (image,) if statistics is None else (image, statistics)
        return cast(Callable, self.network.denoise_with_features)(*arguments)
