"""Between the resolutions of a U-shaped body: 2x2x2 voxels become channels of one, and back."""

import torch
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import Tensor, nn

from pipeline.networks.modulated_conv import ModulatedConv3d

__all__ = ["Downsample", "Upsample"]


class Downsample(nn.Module):
    """Halve the resolution: space to depth by 2, then a modulated 1x1x1 convolution.

    A strided convolution whose windows do not overlap: a voxel of the result depends on its own 2x2x2 voxels and on
    nothing beside them, so a part of a volume that starts at an even voxel gives what the whole gives.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = ModulatedConv3d(8 * in_channels, out_channels, 1)
        self.scale = nn.Parameter(torch.ones(out_channels))

    def forward(self, x: Tensor, style: Tensor | None = None) -> Tensor:
        """(B, out, X/2, Y/2, Z/2) of x (B, in, X, Y, Z) with even sides; a style has shape (B, 8 in)."""
        y = self.conv(pixelunshuffle(x, 3, 2), style)
        return y * self.scale[:, None, None, None].to(y.dtype)


class Upsample(nn.Module):
    """Double the resolution: a modulated 1x1x1 convolution, then depth to space by 2."""

    def __init__(self, in_channels: int, out_channels: int, *, initial_scale: float = 1.0) -> None:
        super().__init__()
        self.conv = ModulatedConv3d(in_channels, 8 * out_channels, 1)
        self.scale = nn.Parameter(torch.full((8 * out_channels,), initial_scale))

    def forward(self, x: Tensor, style: Tensor | None = None) -> Tensor:
        """(B, out, 2X, 2Y, 2Z) of x (B, in, X, Y, Z); a style has shape (B, in)."""
        y = self.conv(x, style)
        return pixelshuffle(y * self.scale[:, None, None, None].to(y.dtype), 3, 2)
