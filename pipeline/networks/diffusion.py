"""Denoising network of a diffusion: the body of the others, in 3D or slice by slice, modulated by the time."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from monai.networks.nets.diffusion_model_unet import get_timestep_embedding
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import Tensor, nn

from pipeline.networks.modulated_body import zero_linear

__all__ = ["DiffusionBody"]


class DiffusionBody(nn.Module):
    """U-shaped body of residual blocks at half the resolution, called as MONAI's DiffusionModelUNet is.

    Its levels, blocks and widths are those of :class:`~pipeline.networks.BaseDenoisingNetwork`. The features within a
    block are scaled and shifted by the time, which maps that start at zero read from its embedding; so is a linear map
    of the input's channels, voxel by voxel, that is added to the output: at most times what a network is to predict is
    mostly such. There is neither attention nor normalisation, so that a window gives what the whole volume gives.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the images.
    spatial_dims
        3, or 2 for a network that sees each slice X x Y of a volume alone.
    channels
        Width of the first level; it doubles with every level.
    n_blocks
        Residual blocks of every level, as many numbers down as up around one.
    embedding_size
        Length of the embedding of the time.
    initial_scale
        Where the factors on what a block, and a deeper level, adds start.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 1,
        *,
        spatial_dims: int = 3,
        channels: int = 32,
        n_blocks: Sequence[int] = (2, 2, 2, 2, 2),
        embedding_size: int = 64,
        initial_scale: float = 0.2,
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}")
        if len(n_blocks) % 2 == 0 or min(n_blocks) < 0:
            raise ValueError(f"n_blocks must be as many numbers down as up around one, got {n_blocks}")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.spatial_dims = spatial_dims
        self.embedding_size = embedding_size
        depth, cell = len(n_blocks) // 2, 2**spatial_dims
        self.alignment = 2 ** (depth + 1)
        widths = [channels * 2 ** (depth - abs(i - depth)) for i in range(len(n_blocks))]
        self.conv0 = _conv(spatial_dims, cell * in_channels, channels, bias=True)
        self.embed = nn.Sequential(nn.Linear(embedding_size, embedding_size), nn.SiLU())
        self.levels = nn.ModuleList(
            nn.ModuleList(_TimedBlock(spatial_dims, width, embedding_size, initial_scale) for _ in range(n))
            for width, n in zip(widths, n_blocks, strict=True)
        )
        self.downs = nn.ModuleList(
            _conv(spatial_dims, cell * widths[i], widths[i + 1], kernel_size=1) for i in range(depth)
        )
        self.ups = nn.ModuleList(
            _conv(spatial_dims, widths[i], cell * widths[i + 1], kernel_size=1, gain=initial_scale)
            for i in range(depth, 2 * depth)
        )
        self.reconstruct = _conv(spatial_dims, channels, cell * out_channels, bias=True, gain=0.0)
        self.direct = zero_linear(embedding_size, out_channels * in_channels)
        self.to(memory_format=torch.channels_last_3d if spatial_dims == 3 else torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """Return (B, out_channels, X, Y, Z) of x (B, in_channels, X, Y, Z), at times (B,) from 0 to about 1000."""
        embedded = self.embed(get_timestep_embedding(timesteps, self.embedding_size).to(self.direct.weight))
        direct = self.direct(embedded).unflatten(1, (self.out_channels, self.in_channels))
        with torch.autocast(x.device.type, enabled=False):  # of low precision, it would leave noise of its own
            linear = torch.einsum("boi,bixyz->boxyz", direct.to(x.dtype), x)
        if self.spatial_dims == 3:
            return linear + self._deep(x, embedded)
        slices = x.movedim(4, 1).flatten(0, 1)
        deep = self._deep(slices, embedded.repeat_interleave(x.shape[4], dim=0))
        return linear + deep.unflatten(0, (x.shape[0], x.shape[4])).movedim(1, 4)

    def _deep(self, x: Tensor, embedded: Tensor) -> Tensor:
        """Output (N, out_channels, *) of images x (N, in_channels, *), (N, embedding_size) beside it."""
        dims, n_down = self.spatial_dims, len(self.downs)
        missing = [-n % self.alignment for n in x.shape[2:]]
        padded = F.pad(x, [p for n in reversed(missing) for p in (0, n)], mode="replicate") if any(missing) else x
        h, skips = self.conv0(pixelunshuffle(padded, dims, 2)), []
        for i, blocks in enumerate(self.levels):
            if 0 < i <= n_down:
                skips.append(h)
                h = self.downs[i - 1](pixelunshuffle(h, dims, 2))
            elif i > n_down:
                h = skips.pop() + pixelshuffle(self.ups[i - 1 - n_down](h), dims, 2)
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, embedded)
        out = pixelshuffle(self.reconstruct(h), dims, 2).to(x.dtype)
        return out[(..., *(slice(n) for n in x.shape[2:]))]


class _TimedBlock(nn.Module):
    """x + res_scale * conv2(act(conv1(x) * (1 + scale) + shift)), scale and shift affine in an embedding."""

    def __init__(self, spatial_dims: int, channels: int, embedding_size: int, initial_scale: float) -> None:
        super().__init__()
        self.conv1 = _conv(spatial_dims, channels, channels)
        self.conv2 = _conv(spatial_dims, channels, channels)
        self.style = zero_linear(embedding_size, 2 * channels)
        self.act = nn.PReLU()
        self.res_scale = nn.Parameter(torch.full((channels,), initial_scale))

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        """Return features (N, C, *) of such, under embeddings (N, embedding_size)."""
        along = (1,) * (x.ndim - 2)
        y = self.conv1(x)
        scale, shift = self.style(embedded).to(y.dtype).unflatten(1, (-1, *along)).chunk(2, dim=1)
        y = self.conv2(self.act(y * (1 + scale) + shift))
        return x + y * self.res_scale.view(-1, *along).to(y.dtype)


def _conv(
    spatial_dims: int, n_in: int, n_out: int, *, kernel_size: int = 3, bias: bool = False, gain: float = 1.0
) -> nn.Module:
    """Convolution that keeps the shape, its kernels of expected norm ``gain``, its bias 0."""
    conv = Conv[Conv.CONV, spatial_dims](n_in, n_out, kernel_size, padding=kernel_size // 2, bias=bias)
    nn.init.normal_(conv.weight, std=gain * conv.weight[0].numel() ** -0.5)
    if bias:
        nn.init.zeros_(conv.bias)
    return conv
