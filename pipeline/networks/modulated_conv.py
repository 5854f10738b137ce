"""3D convolution whose kernel is scaled per sample by a style: the layer that carries UniPET's style."""

import torch
from torch import Tensor, nn

from pipeline.networks.steady_conv import conv3d

__all__ = ["ModulatedConv3d"]


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
