"""A base denoising network whose convolutions are modulated by latents: of a style, a dose, or a time."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from pipeline.networks.base_denoising import BaseDenoisingNetwork, ModulatedConv3d

__all__ = ["ModulatedBody", "zero_linear"]


class ModulatedBody(nn.Module):
    """A body and one affine map for each of its modulated convolutions, from a latent to the convolution's style.

    The maps start at zero, so a network starts as its plain body. Subclasses say where the latents come from.

    Parameters
    ----------
    base
        The body.
    latent_size
        Length of a latent.
    """

    def __init__(self, base: BaseDenoisingNetwork, *, latent_size: int) -> None:
        super().__init__()
        self.base = base
        self.output_gain: nn.Linear | None = None
        self.style_maps = nn.ModuleList(zero_linear(latent_size, conv.weight.shape[1]) for conv in base.modulated_convs)

    def styles(self, latents: Tensor) -> list[Tensor]:
        """Modulation of every convolution, (B, its inputs), from latents (B, number of latents, latent_size).

        The latents are shared out over the steps in order; a remainder goes to the first ones.
        """
        steps, n_latents = self.base.steps, int(latents.shape[1])
        repeat, remainder = divmod(len(steps), n_latents)
        latent_of_step = [i for i in range(n_latents) for _ in range(repeat + (i < remainder))]
        latent_of_conv = [
            i
            for step, i in zip(steps, latent_of_step, strict=True)
            for m in step.modules()
            if isinstance(m, ModulatedConv3d)
        ]
        return [style_map(latents[:, i]) for style_map, i in zip(self.style_maps, latent_of_conv, strict=True)]

    def gain(self, latents: Tensor) -> Tensor | None:
        """Factor (B,) on what is added to the image; None when the network has none."""
        return None if self.output_gain is None else 1 + self.output_gain(latents.mean(dim=1))[:, 0]

    @torch.no_grad()
    def fold(self, latents: Tensor) -> BaseDenoisingNetwork:
        """Plain network that denoises as this one does under one style, latents (1, number of latents, latent_size).

        Raises
        ------
        ValueError
            If latents of several volumes are given.
        """
        if latents.shape[0] != 1:
            raise ValueError(f"one style folds into one network, got latents of {latents.shape[0]} volumes")
        folded = deepcopy(self.base)
        for conv, style in zip(folded.modulated_convs, self.styles(latents), strict=True):
            conv.weight.copy_(conv.folded_weight(style[0]))
        if (gain := self.gain(latents)) is not None:
            folded.reconstruct.weight *= gain
            folded.reconstruct.bias *= gain
        return folded

    def modulated(self, shallow: Tensor, x: Tensor, latents: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Denoised volume of x (B, 1, X, Y, Z) with its shallow features, and the features after every step."""
        features = self.base.block_features(shallow, self.styles(latents))
        return self.base.to_image(features[-1], x, self.gain(latents)), features


def zero_linear(in_features: int, out_features: int) -> nn.Linear:
    """Return a linear layer whose output is zero until it is trained."""
    layer = nn.Linear(in_features, out_features)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
