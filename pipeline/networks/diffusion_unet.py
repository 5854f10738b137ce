"""The U-Net of published diffusions without attention, of MONAI's blocks."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from monai.networks.nets.diffusion_model_unet import (
    DiffusionUNetResnetBlock,
    DownBlock,
    UpBlock,
    get_timestep_embedding,
)
from torch import Tensor, nn

__all__ = ["DiffusionUNet"]


class DiffusionUNet(nn.Module):
    """MONAI's DiffusionModelUNet without attention: that one always has some at its deepest level, and needs einops.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the images.
    channels
        Width of every level, multiples of 32.
    n_blocks
        Residual blocks of a level on the way down; there is one more on the way up.

    References
    ----------
    Dhariwal and Nichol, Diffusion Models Beat GANs on Image Synthesis, NeurIPS 2021.
    """

    def __init__(self, in_channels: int, out_channels: int, *, channels: Sequence[int], n_blocks: int = 2) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.channels = tuple(channels)
        self.alignment = 2 ** (len(channels) - 1)
        first, deepest, size = channels[0], channels[-1], 4 * channels[0]
        self.conv_in = nn.Conv3d(in_channels, first, 3, padding=1)
        self.embed = nn.Sequential(nn.Linear(first, size), nn.SiLU(), nn.Linear(size, size))
        self.down = nn.ModuleList(
            DownBlock(3, before, width, size, num_res_blocks=n_blocks, add_downsample=i < len(channels) - 1)
            for i, (before, width) in enumerate(pairwise([first, *channels]))
        )
        self.middle = nn.ModuleList(DiffusionUNetResnetBlock(3, deepest, size, deepest) for _ in range(2))
        upwards = [deepest, *reversed(channels), first]
        self.up = nn.ModuleList(
            UpBlock(3, after, before, width, size, num_res_blocks=n_blocks + 1, add_upsample=i < len(channels) - 1)
            for i, (before, width, after) in enumerate(zip(upwards, upwards[1:], upwards[2:], strict=False))
        )
        self.out = nn.Sequential(nn.GroupNorm(32, first), nn.SiLU(), nn.Conv3d(first, out_channels, 3, padding=1))
        nn.init.zeros_(self.out[2].weight)
        nn.init.zeros_(self.out[2].bias)

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """Return (B, out_channels, X, Y, Z) of x (B, in_channels, X, Y, Z), at times (B,)."""
        embedded = self.embed(get_timestep_embedding(timesteps, self.channels[0]).to(x.dtype))
        missing = [-n % self.alignment for n in x.shape[2:]]
        h = F.pad(x, [p for n in reversed(missing) for p in (0, n)], mode="replicate") if any(missing) else x
        h = self.conv_in(h)
        skips = [h]
        for block in self.down:
            h, found = block(h, embedded)
            skips += found
        for block in self.middle:
            h = block(h, embedded)
        for block in self.up:
            n = len(block.resnets)
            h = block(h, skips[-n:], embedded)
            del skips[-n:]
        return self.out(h)[:, :, : x.shape[2], : x.shape[3], : x.shape[4]]
