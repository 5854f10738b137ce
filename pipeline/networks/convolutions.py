"""3D convolutions: one whose result at a voxel does not depend on how much is computed around it, and UniPET's own."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ModulatedConv3d", "conv3d"]

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
