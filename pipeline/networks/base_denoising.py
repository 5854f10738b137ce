"""Base denoising network (BDN): residual blocks of modulated convolutions around an image skip."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import Tensor, nn

from pipeline.networks.noise.local import NOISE_CHANNELS, LocalNoise

__all__ = ["BaseDenoisingNetwork", "Downsample", "ModulatedConv3d", "ResidualBlock", "Upsample", "conv3d"]

_MOST_CHANNELS = 64


def conv3d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, padding: tuple[int, int, int] = (0, 0, 0)
) -> Tensor:
    """Convolve x (B, in, X, Y, Z) with weight (out, in, k, k, k), zero-padded by so many voxels along X, Y, Z.

    Without gradients, on a CPU, a voxel's result is the same to the last bit whatever the extent of x, so that a
    part can stand for the whole. Four things would break that:

    - float32 leaves oneDNN for a matrix product where channels x X x Y of the input are 20480 or fewer, and the two
      sum in different orders. oneDNN is called by name instead; on small volumes it is also several times faster.
    - oneDNN has other kernels for other memory formats: the format is always channels last.
    - A sum over many channels is cut into blocks that fit the cache beside the rest, so their number changes with the
      extent. It is cut here instead, at every 64 channels.
    - float64 always is a matrix product, whose order of summation at its rim changes with its size. It is computed
      plane by plane: equal planes give equal results, however many there are. Parts that are cut along Y or Z are not
      covered by this; they differ by rounding.

    bfloat16 and float16 always go to oneDNN, whose result for a volume of one plane is garbage if it pads along X
    itself: it is given the padding. Under autocast, and with gradients, this is torch's own convolution.
    """
    if torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type):
        return F.conv3d(x, weight, bias, padding=padding)
    if x.device.type == "cpu" and x.dtype == torch.float64:
        return _plane_by_plane(x, weight, bias, padding)
    if x.device.type != "cpu" or x.shape[1] <= _MOST_CHANNELS:
        return _convolved(x, weight, bias, padding)
    parts = zip(x.split(_MOST_CHANNELS, dim=1), weight.split(_MOST_CHANNELS, dim=1), strict=True)
    total = _convolved(*next(parts), bias, padding)
    for part_of_x, part_of_weight in parts:
        total += _convolved(part_of_x, part_of_weight, None, padding)
    return total


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int, int]) -> Tensor:
    if x.shape[2] == 1 and padding[0]:
        x, padding = F.pad(x, (0, 0, 0, 0, padding[0], padding[0])), (0, *padding[1:])
    x, weight = _channels_last(x), weight.contiguous(memory_format=torch.channels_last_3d)
    if x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        return torch.mkldnn_convolution(x, weight, bias, padding, (1, 1, 1), (1, 1, 1), 1)
    return F.conv3d(x, weight, bias, padding=padding)


def _channels_last(x: Tensor) -> Tensor:
    x = x.contiguous(memory_format=torch.channels_last_3d)
    if x.shape[1] > 1:
        return x
    # One channel is both formats at once, and torch then takes the other, for its output too, at ten times the cost.
    _, _, n_x, n_y, n_z = x.shape
    return x.as_strided(x.shape, (n_x * n_y * n_z, 1, n_y * n_z, n_z, 1))


def _plane_by_plane(x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int, int]) -> Tensor:
    thickness = weight.shape[2]
    x = F.pad(x, (0, 0, 0, 0, padding[0], padding[0]))
    starts = range(x.shape[2] - thickness + 1)
    # Contiguous: the matrix product's order of summation also depends on where its operand lies in memory.
    planes = [x[:, :, i : i + thickness].clone(memory_format=torch.contiguous_format) for i in starts]
    return torch.cat([F.conv3d(plane, weight, bias, padding=(0, *padding[1:])) for plane in planes], dim=2)


class ModulatedConv3d(nn.Module):
    """Bias-free 3D convolution with weight modulation and demodulation.

    With a style ``s`` of shape (B, in_channels), sample b is convolved with

        w'[o, i, k] = w[o, i, k] (1 + s[b, i])
        w''[o, i, k] = w'[o, i, k] / sqrt(sum_{i, k} w'[o, i, k]^2 + eps)

    computed without ever forming one kernel per sample: scaling the input channels by 1 + s, one shared
    convolution, and scaling the output channels by the demodulation factor is the same linear map. Without a
    style it is a plain convolution with ``weight``.

    References
    ----------
    Karras et al., Analyzing and Improving the Image Quality of StyleGAN, CVPR 2020, Eq. 1 and 3.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, *, eps: float = 1e-8) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd to keep the volume's shape, got {kernel_size}")
        self.padding = kernel_size // 2
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, *(kernel_size,) * 3))
        # Rows of unit expected norm: plain and demodulated passes then start out alike.
        nn.init.normal_(self.weight, std=self.weight[0].numel() ** -0.5)

    def demodulation(self, style: Tensor) -> Tensor:
        """Factor that gives every modulated kernel unit norm, shape (B, out_channels), for a style (B, in_channels)."""
        squared_norms = self.weight.square().sum(dim=(2, 3, 4))  # (out, in)
        # A product and a sum, not a matrix product: autocast would run that at low precision.
        gains = (1 + style.to(self.weight.dtype)).square()
        return torch.rsqrt((gains[:, None] * squared_norms[None]).sum(dim=2) + self.eps)

    def folded_weight(self, style: Tensor) -> Tensor:
        """Plain kernel that acts as this layer does under one style, shape (out, in, k, k, k), style (in_channels,)."""
        scale_out = self.demodulation(style[None])[0]
        return self.weight * (1 + style)[None, :, None, None, None] * scale_out[:, None, None, None, None]

    def forward(self, x: Tensor, style: Tensor | None = None) -> Tensor:
        """Convolve x of shape (B, in_channels, X, Y, Z), by the plain weight or under a style (B, in_channels)."""
        padding = (self.padding,) * 3
        if style is None:
            return conv3d(x, self.weight, padding=padding)
        y = conv3d(x * (1 + style)[:, :, None, None, None].to(x.dtype), self.weight, padding=padding)
        return y * self.demodulation(style)[:, :, None, None, None].to(y.dtype)


class ResidualBlock(nn.Module):
    """x + res_scale * conv2(act(conv1(x))), both convolutions modulated when a style is given."""

    def __init__(self, channels: int, activation: nn.Module, *, initial_scale: float = 1.0) -> None:
        super().__init__()
        self.conv1 = ModulatedConv3d(channels, channels)
        self.conv2 = ModulatedConv3d(channels, channels)
        self.res_scale = nn.Parameter(torch.full((channels,), initial_scale))
        self.act = activation

    def forward(self, x: Tensor, style1: Tensor | None = None, style2: Tensor | None = None) -> Tensor:
        """Return features (B, C, X, Y, Z) of such; a style (B, C) scales the input channels of its convolution."""
        y = self.conv2(self.act(self.conv1(x, style1)), style2)
        return x + y * self.res_scale[:, None, None, None].to(y.dtype)


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


class BaseDenoisingNetwork(nn.Module):
    """Residual network from a scaled SUV volume to a scaled SUV volume, usable alone and as the body of UniPET.

    Parameters
    ----------
    channels
        Width of the residual blocks; it doubles with every level.
    n_blocks
        Number of residual blocks. A sequence makes the body U-shaped: (2, 3, 2) are two blocks, three at half the
        resolution and twice the width, and two again, to which what the deeper level found is added. (1, 1, 3, 1, 1)
        has two deeper levels.
    resolution_factor
        1: the first level runs at the image's resolution, as published. 2: the image is rearranged to 8 channels at
        half resolution (space to depth), the blocks run there at an eighth of the cost, and a sub-pixel head
        brings the result back.
    initial_scale
        Where ``res_scale``, and the scale of what a deeper level adds, start: 1 as published. 0.2 keeps the features
        of an untrained body from growing with every block, and trains faster.
    local_noise
        What makes the noise map of a scan into channels beside the image; None leaves the image alone.
    adds_image
        Whether the network finds what must be added to the image, as published; if not, it finds the image itself.

    Notes
    -----
    Where the image is added the last convolution starts at zero, so an untrained network is the identity. The PReLU of
    all blocks is one shared parameter, as in the released code of UniPET (arXiv 2606.11131).
    """

    def __init__(
        self,
        channels: int = 64,
        n_blocks: int | Sequence[int] = 8,
        *,
        resolution_factor: int = 1,
        initial_scale: float = 1.0,
        local_noise: LocalNoise | None = None,
        adds_image: bool = True,
    ) -> None:
        super().__init__()
        if resolution_factor not in (1, 2):
            raise ValueError(f"resolution_factor must be 1 or 2, got {resolution_factor}")
        path = (n_blocks,) if isinstance(n_blocks, int) else tuple(n_blocks)
        if len(path) % 2 == 0 or min(path) < 0:
            raise ValueError(f"n_blocks must be a number, or as many numbers down as up around one, got {n_blocks}")
        self.resolution_factor = resolution_factor
        self.channels = channels
        self.n_blocks = path
        image_channels = resolution_factor**3
        self.local_noise = local_noise
        self.adds_image = adds_image
        guide_channels = 0 if local_noise is None else NOISE_CHANNELS
        self.conv0 = nn.Conv3d(image_channels + guide_channels, channels, 3, padding=1)
        activation = nn.PReLU()
        depth = len(path) // 2
        widths = [channels * 2 ** (depth - abs(i - depth)) for i in range(len(path))]
        self.blocks = nn.ModuleList(
            ResidualBlock(width, activation, initial_scale=initial_scale)
            for width, n in zip(widths, path, strict=True)
            for _ in range(n)
        )
        self.downs = nn.ModuleList(Downsample(widths[i], widths[i + 1]) for i in range(depth))
        self.ups = nn.ModuleList(
            Upsample(widths[i], widths[i + 1], initial_scale=initial_scale) for i in range(depth, 2 * depth)
        )
        self.reconstruct = nn.Conv3d(channels, image_channels, 3, padding=1)
        if adds_image:
            nn.init.zeros_(self.reconstruct.weight)
            nn.init.zeros_(self.reconstruct.bias)

    @property
    def reads(self) -> tuple[str, ...]:
        """What of a whole scan is given beside a part of it, see `read_by`."""
        return () if self.local_noise is None else ("noise_map",)

    @property
    def steps(self) -> list[nn.Module]:
        """Residual blocks, and what leads between levels, in the order in which features pass them.

        A Downsample leaves its input behind as a skip; an Upsample's output is added to the latest skip.
        """
        blocks, depth = iter(self.blocks), len(self.downs)
        steps: list[nn.Module] = []
        for i, n in enumerate(self.n_blocks):
            if i > 0:
                steps.append(self.downs[i - 1] if i <= depth else self.ups[i - 1 - depth])
            steps += [next(blocks) for _ in range(n)]
        return steps

    @property
    def modulated_convs(self) -> list[ModulatedConv3d]:
        """Convolutions that take a style, in the order in which features pass them."""
        return [conv for step in self.steps for conv in step.modules() if isinstance(conv, ModulatedConv3d)]

    @property
    def alignment(self) -> int:
        """Voxels of the image per voxel of the deepest level: a part that starts at a multiple is as the whole."""
        return self.resolution_factor * 2 ** len(self.downs)

    @property
    def receptive_radius(self) -> int:
        """Voxels of the input, to each side, on which an output voxel can depend."""
        radius = 0
        for voxel in range(self.alignment):  # it depends on where in a voxel of the deepest level the output lies
            low = high = voxel
            scale, reach = self.resolution_factor, 1  # conv0 and reconstruct have a reach of 1 each
            for step in reversed(self.steps):
                if isinstance(step, ResidualBlock):
                    reach += 2
                else:
                    low, high = _grown(low, high, scale=scale, reach=reach)
                    scale, reach = (2 * scale if isinstance(step, Upsample) else scale // 2), 0
            low, high = _grown(low, high, scale=scale, reach=reach + 1)
            radius = max(radius, voxel - low, high - voxel)
        return radius

    def normalise_kernels(self) -> None:
        """Give every modulated kernel the unit norm that demodulation gives it, without changing the plain pass.

        The norms are moved to where they act the same: from the first convolution of a block, through the positively
        homogeneous PReLU, into the second, and from the second into ``res_scale``; between levels into ``scale``.
        """
        with torch.no_grad():
            for step in self.steps:
                if isinstance(step, ResidualBlock):
                    step.conv2.weight.mul_(_unit_rows(step.conv1.weight)[None, :, None, None, None])
                    step.res_scale.mul_(_unit_rows(step.conv2.weight))
                else:
                    step.scale.mul_(_unit_rows(step.conv.weight))

    def padded(self, x: Tensor) -> Tensor:
        """Return x (B, 1, X, Y, Z) with every side extended to a multiple of ``alignment``."""
        missing = [-n % self.alignment for n in x.shape[2:]]
        if not any(missing):
            return x
        # Replicated, not zero: a dark plane at the border would look like the end of the body.
        return F.pad(x, [p for n in reversed(missing) for p in (0, n)], mode="replicate")

    def measure_noise(self, x: Tensor) -> Tensor | None:
        """Return the noise map of whole scans x (B, 1, X, Y, Z), scaled SUV; None if this network reads none."""
        return None if self.local_noise is None else self.local_noise.measure(x, cell=self.resolution_factor)

    def guide(self, x: Tensor, noise_map: Tensor | None = None) -> Tensor | None:
        """Return what goes beside the padded image x (B, 1, X, Y, Z) into the first convolution, (B, 2, X', Y', Z').

        Where x is but a part of a scan, that part of the whole scan's noise map, (B, 2, X', Y', Z') at the working
        resolution, is given beside it. None if this network reads no local noise.
        """
        if self.local_noise is None:
            return None
        channels = self.local_noise(self.measure_noise(x) if noise_map is None else noise_map)
        missing = [(n + -n % self.alignment) // self.resolution_factor for n in x.shape[2:]]
        missing = [n - m for n, m in zip(missing, channels.shape[2:], strict=True)]
        return F.pad(channels, [p for n in reversed(missing) for p in (0, n)], mode="replicate")

    def shallow_features(self, x: Tensor, noise_map: Tensor | None = None) -> Tensor:
        """Output of the first convolution at the working resolution of the padded x (B, 1, X, Y, Z)."""
        guide = self.guide(x, noise_map)
        x = self.padded(x)
        if self.resolution_factor > 1:
            x = pixelunshuffle(x, 3, self.resolution_factor)
        if guide is not None:
            x = torch.cat([x, guide.to(x.dtype)], dim=1)
        return conv3d(x, self.conv0.weight, self.conv0.bias, padding=(1, 1, 1))

    def block_features(self, shallow: Tensor, styles: Sequence[Tensor | None] | None = None) -> list[Tensor]:
        """Features after every step, each of its level's width and resolution.

        Parameters
        ----------
        shallow
            Output of the first convolution.
        styles
            One for each of ``modulated_convs``, shape (B, its input channels), or None for plain weights.
        """
        h, skips, features = shallow, [], []
        remaining = iter([None] * len(self.modulated_convs) if styles is None else styles)
        for step in self.steps:
            if isinstance(step, ResidualBlock):
                h = step(h, next(remaining), next(remaining))
            elif isinstance(step, Downsample):
                skips.append(h)
                h = step(h, next(remaining))
            else:
                h = skips.pop() + step(h, next(remaining))
            features.append(h)
        return features

    def to_image(self, features: Tensor, x: Tensor, gain: Tensor | None = None) -> Tensor:
        """Denoised volume (B, 1, X, Y, Z): the image x plus what the last features say must change.

        A gain (B,) multiplies the change. A network that does not add the image says what the volume is.
        """
        residual = conv3d(features, self.reconstruct.weight, self.reconstruct.bias, padding=(1, 1, 1))
        if self.resolution_factor > 1:
            residual = pixelshuffle(residual, 3, self.resolution_factor)
        residual = residual[:, :, : x.shape[2], : x.shape[3], : x.shape[4]].to(x.dtype)
        if not self.adds_image:
            return residual
        return x + (residual if gain is None else gain[:, None, None, None, None].to(x.dtype) * residual)

    def forward(self, x: Tensor, noise_map: Tensor | None = None) -> Tensor:
        """Denoise x of shape (B, 1, X, Y, Z), scaled SUV, with plain weights; see :meth:`guide` for the map."""
        h, skips = self.shallow_features(x, noise_map), []
        for step in self.steps:
            if isinstance(step, Downsample):
                skips.append(h)
            h = skips.pop() + step(h) if isinstance(step, Upsample) else step(h)
        return self.to_image(h, x)


def _grown(low: int, high: int, *, scale: int, reach: int) -> tuple[int, int]:
    """Voxels low to high of the image, extended to whole cells of ``scale`` voxels and ``reach`` cells more."""
    return (low // scale - reach) * scale, (high // scale + reach + 1) * scale - 1


def _unit_rows(weight: Tensor) -> Tensor:
    """Scale each output channel's kernel to unit norm in place; the norms that it had."""
    norms = weight.flatten(1).norm(dim=1)
    weight /= norms[:, None, None, None, None]
    return norms
