"""UniPET: one denoising network for every dose, its convolutions modulated by the style of the scan."""

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from pipeline.networks.base_denoising import BaseDenoisingNetwork
from pipeline.networks.body import body_mask
from pipeline.networks.released_weights import convert_released_state_dict, released_architecture
from pipeline.networks.style_alignment import StyleAlignmentNetwork, halved

__all__ = ["UniPET"]


class UniPET(nn.Module):
    """Universal whole-body PET denoiser: base denoising network, style alignment network, style maps.

    Parameters
    ----------
    channels, n_blocks, resolution_factor
        Width, depth and working resolution of the base denoising network.
    style_width, latent_size, n_stages
        Width, latent length and number of stages of the style alignment network. The latents are shared out over
        the blocks in order; a remainder goes to the first latents.
    body_threshold
        Pool the style over voxels whose 5x5x5 mean exceeds this, in the network's scaled SUV: a whole scan is
        mostly air and a training patch is not. None pools over every voxel, as published.

    Notes
    -----
    The defaults are the published network with 2,748,487 parameters. Every modulated convolution has its own
    affine map from latent to style; the maps start at zero, so training starts from the plain body.

    References
    ----------
    UniPET, arXiv 2606.11131; Medical Image Analysis 2026, 104059.
    """

    def __init__(
        self,
        channels: int = 64,
        n_blocks: int = 8,
        *,
        resolution_factor: int = 1,
        style_width: int = 256,
        latent_size: int = 256,
        n_stages: int = 4,
        body_threshold: float | None = None,
    ) -> None:
        super().__init__()
        if n_blocks < n_stages:
            raise ValueError(f"n_blocks must be at least n_stages, got {n_blocks} blocks for {n_stages} latents")
        self.body_threshold = body_threshold
        self.base = BaseDenoisingNetwork(channels, n_blocks, resolution_factor=resolution_factor)
        self.san = StyleAlignmentNetwork(channels, width=style_width, latent_size=latent_size, n_stages=n_stages)
        self.style_maps = nn.ModuleList(nn.Linear(latent_size, channels) for _ in range(2 * n_blocks))
        for style_map in self.style_maps:
            nn.init.zeros_(style_map.weight)
            nn.init.zeros_(style_map.bias)

    @classmethod
    def from_released_state_dict(cls, state_dict: Mapping[str, Tensor]) -> "UniPET":
        """Network of the released architecture holding the weights of a state dict saved by the released code.

        Raises
        ------
        ValueError
            If a tensor is missing, unknown, or of the wrong shape.
        """
        network = cls(**released_architecture(state_dict))
        network.load_state_dict(convert_released_state_dict(state_dict))
        return network

    def load_base(self, base_state_dict: Mapping[str, Tensor]) -> None:
        """Start from a pretrained body: with styles at zero the result then equals that of the body.

        Demodulation gives every kernel unit norm. The norms that it takes away are moved to where they act the
        same: from the first convolution of a block, through the positively homogeneous PReLU, into the second,
        and from the second into ``res_scale``.
        """
        self.base.load_state_dict(base_state_dict)
        with torch.no_grad():
            for block in self.base.blocks:
                norm1 = block.conv1.weight.flatten(1).norm(dim=1)
                block.conv1.weight /= norm1[:, None, None, None, None]
                block.conv2.weight *= norm1[None, :, None, None, None]
                norm2 = block.conv2.weight.flatten(1).norm(dim=1)
                block.conv2.weight /= norm2[:, None, None, None, None]
                block.res_scale *= norm2

    def encode_style(self, x: Tensor) -> Tensor:
        """Style of each volume: latents (B, n_stages, latent_size) of x (B, 1, X, Y, Z), scaled SUV.

        A whole scan has one style: compute it once and pass it to :meth:`denoise` however the scan is cut.
        """
        return self._latents(self.base.shallow_features(x), x)

    def denoise(self, x: Tensor, latents: Tensor) -> Tensor:
        """Denoised volume of x (B, 1, X, Y, Z) under given latents (B, n_stages, latent_size)."""
        features = self.base.block_features(self.base.shallow_features(x), self.styles(latents))
        return self.base.to_image(features[-1], x)

    def denoise_with_features(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Denoised volume and the output of every block, which the style alignment loss compares."""
        shallow = self.base.shallow_features(x)
        features = self.base.block_features(shallow, self.styles(self._latents(shallow, x)))
        return self.base.to_image(features[-1], x), features

    def forward(self, x: Tensor) -> Tensor:
        """Denoised volume (B, 1, X, Y, Z) of x, scaled SUV, under its own style."""
        return self.denoise_with_features(x)[0]

    def styles(self, latents: Tensor) -> list[Tensor]:
        """Modulation of every convolution, two (B, channels) per block, from latents (B, n_stages, latent_size)."""
        n_blocks, n_stages = len(self.base.blocks), latents.shape[1]
        repeat, remainder = divmod(n_blocks, n_stages)
        stage_of_block = [stage for stage in range(n_stages) for _ in range(repeat + (stage < remainder))]
        return [style_map(latents[:, stage_of_block[i // 2]]) for i, style_map in enumerate(self.style_maps)]

    @torch.no_grad()
    def fold(self, latents: Tensor) -> BaseDenoisingNetwork:
        """Plain network that denoises as this one does under one style, latents (1, n_stages, latent_size)."""
        if latents.shape[0] != 1:
            raise ValueError(f"one style folds into one network, got latents of {latents.shape[0]} volumes")
        folded = deepcopy(self.base)
        styles = self.styles(latents)
        for i, (block, source) in enumerate(zip(folded.blocks, self.base.blocks, strict=True)):
            block.conv1.weight.copy_(source.conv1.folded_weight(styles[2 * i][0]))
            block.conv2.weight.copy_(source.conv2.folded_weight(styles[2 * i + 1][0]))
        return folded

    def _latents(self, shallow: Tensor, x: Tensor) -> Tensor:
        if self.body_threshold is None:
            return self.san(shallow)
        body = body_mask(x, self.body_threshold).to(x.dtype)
        if self.base.resolution_factor > 1:
            body = halved(body)
        return self.san(shallow, body)
