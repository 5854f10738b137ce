"""Base denoising network (BDN): residual blocks of modulated convolutions around an image skip."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import Tensor, nn

from pipeline.networks.modulated_conv import ModulatedConv3d
from pipeline.networks.steady_conv import conv3d

__all__ = ["BaseDenoisingNetwork", "ResidualBlock"]


class ResidualBlock(nn.Module):
    """x + res_scale * conv2(act(conv1(x))), both convolutions modulated when a style is given."""

    def __init__(self, channels: int, activation: nn.Module) -> None:
        super().__init__()
        self.conv1 = ModulatedConv3d(channels, channels)
        self.conv2 = ModulatedConv3d(channels, channels)
        self.res_scale = nn.Parameter(torch.ones(channels))
        self.act = activation

    def forward(self, x: Tensor, style1: Tensor | None = None, style2: Tensor | None = None) -> Tensor:
        y = self.conv2(self.act(self.conv1(x, style1)), style2)
        return x + y * self.res_scale[:, None, None, None].to(y.dtype)


class BaseDenoisingNetwork(nn.Module):
    """Residual network from a scaled SUV volume to a scaled SUV volume, usable alone and as the body of UniPET.

    Parameters
    ----------
    channels
        Width of the residual blocks.
    n_blocks
        Number of residual blocks.
    resolution_factor
        1: the blocks run at the image's resolution, as published. 2: the image is rearranged to 8 channels at
        half resolution (space to depth), the blocks run there at an eighth of the cost, and a sub-pixel head
        brings the result back.

    Notes
    -----
    The last convolution starts at zero, so an untrained network is the identity. The PReLU of all blocks is one
    shared parameter, as in the released code of UniPET (arXiv 2606.11131).
    """

    def __init__(self, channels: int = 64, n_blocks: int = 8, *, resolution_factor: int = 1) -> None:
        super().__init__()
        if resolution_factor not in (1, 2):
            raise ValueError(f"resolution_factor must be 1 or 2, got {resolution_factor}")
        self.resolution_factor = resolution_factor
        self.channels = channels
        image_channels = resolution_factor**3
        self.conv0 = nn.Conv3d(image_channels, channels, 3, padding=1)
        activation = nn.PReLU()
        self.blocks = nn.ModuleList(ResidualBlock(channels, activation) for _ in range(n_blocks))
        self.reconstruct = nn.Conv3d(channels, image_channels, 3, padding=1)
        nn.init.zeros_(self.reconstruct.weight)
        nn.init.zeros_(self.reconstruct.bias)

    @property
    def receptive_radius(self) -> int:
        """Voxels of the input, to each side, on which an output voxel can depend."""
        reach = (2 * len(self.blocks) + 2) * self.resolution_factor
        return reach + self.resolution_factor - 1

    def padded(self, x: Tensor) -> Tensor:
        """x (B, 1, X, Y, Z) with every side extended to a multiple of the resolution factor."""
        r = self.resolution_factor
        missing = [-n % r for n in x.shape[2:]]
        if not any(missing):
            return x
        # Replicated, not zero: a dark plane at the border would look like the end of the body.
        return F.pad(x, [p for n in reversed(missing) for p in (0, n)], mode="replicate")

    def shallow_features(self, x: Tensor) -> Tensor:
        """Output of the first convolution, (B, channels, ceil(X/r), ceil(Y/r), ceil(Z/r)), of x (B, 1, X, Y, Z)."""
        if self.resolution_factor > 1:
            x = pixelunshuffle(self.padded(x), 3, self.resolution_factor)
        return conv3d(x, self.conv0.weight, self.conv0.bias, padding=(1, 1, 1))

    def block_features(self, shallow: Tensor, styles: Sequence[Tensor | None] | None = None) -> list[Tensor]:
        """Output of every block; ``styles`` holds two per block, (B, channels) each, or is None for plain weights."""
        styles = [None] * (2 * len(self.blocks)) if styles is None else styles
        features = [shallow]
        for i, block in enumerate(self.blocks):
            features.append(block(features[-1], styles[2 * i], styles[2 * i + 1]))
        return features[1:]

    def to_image(self, features: Tensor, x: Tensor) -> Tensor:
        """Denoised volume (B, 1, X, Y, Z): the image x plus what the last features say must change."""
        residual = conv3d(features, self.reconstruct.weight, self.reconstruct.bias, padding=(1, 1, 1))
        if self.resolution_factor > 1:
            residual = pixelshuffle(residual, 3, self.resolution_factor)
            residual = residual[:, :, : x.shape[2], : x.shape[3], : x.shape[4]]
        return x + residual.to(x.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Denoise x of shape (B, 1, X, Y, Z), scaled SUV, with plain weights."""
        h = self.shallow_features(x)
        for block in self.blocks:
            h = block(h)
        return self.to_image(h, x)
