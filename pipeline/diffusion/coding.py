"""What a diffusion diffuses in place of the full dose, and what its network sees of the low dose."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Code", "Coding", "clipped_image", "noise_scaled_residual"]

_RADIUS = 3  # voxels to each side of a local mean
_FLOOR_SUV = 0.01  # smallest noise, of SUV that is 0 everywhere [g/mL]
_FLOOR = 0.001  # smallest noise, relative to the local mean
_NOISE_PER_DIFFERENCE = (
    2.0  # SD of the residual over the mean mixed difference: 1.2 at DRF 2 to 2.6 at DRF 100, simulated
)


@dataclass(frozen=True)
class Code:
    """The full dose as offset + scale * x0, where a diffusion works on x0, and what its network sees beside x0."""

    condition: Tensor
    """What the network sees of the low dose, (B, C, X, Y, Z)."""
    offset: Tensor
    """Scaled SUV, (B, 1, X, Y, Z)."""
    scale: Tensor
    """Scaled SUV per unit of x0, above 0, (B, 1, X, Y, Z)."""

    def encode(self, full: Tensor) -> Tensor:
        """Return x0 of a full dose, (B, 1, X, Y, Z) both."""
        return (full - self.offset) / self.scale

    def decode(self, x0: Tensor) -> Tensor:
        """Return the full dose of x0, (B, 1, X, Y, Z) both."""
        return self.offset + self.scale * x0


Coding = Callable[[Tensor], Code]
"""From low doses (B, 1, X, Y, Z), scaled SUV. Of the low dose alone, because in use there is no full dose."""


def noise_scaled_residual(low: Tensor, *, suv_scale: float = 2.0) -> Code:
    """Diffuse what the full dose adds to the low dose, in units of the low dose's local noise.

    The noise is the mean of |mixed second difference in plane| over 7x7x7 voxels, by its square root, which edges
    hardly move. In these units the residual of every dose and organ is of order one, as the noise that a diffusion
    adds to it. Nothing is clipped: a voxel of SUV 100 keeps it but for a few times its own noise.

    The condition has three channels: the low dose less its local mean in units of the noise; the logarithm of the
    noise, SUV; and that of 1 + the local mean, SUV.

    Parameters
    ----------
    low
        Low doses, shape (B, 1, X, Y, Z), scaled SUV.
    suv_scale
        SUVbw [g/mL] per network unit.
    """
    with torch.no_grad(), torch.autocast(low.device.type, enabled=False):
        low = low.float()
        difference = low
        for dim in (2, 3):
            difference = difference - difference.roll(1, dim)
        root = difference.abs().sqrt()
        for dim in (2, 3):  # at the first plane the neighbour would be the last
            root.narrow(dim, 0, 1).copy_(root.narrow(dim, min(1, root.shape[dim] - 1), 1))
        mean = _local_mean(low)
        noise = _NOISE_PER_DIFFERENCE * _local_mean(root).square()
        floor = _FLOOR * mean.clamp_min(0) + _FLOOR_SUV / suv_scale
        scale = torch.hypot(noise, floor)
        condition = [(low - mean) / scale, (scale * suv_scale).log(), (mean.clamp_min(0) * suv_scale).log1p()]
        return Code(torch.cat(condition, dim=1), low, scale)


def clipped_image(low: Tensor, *, suv_max: float = 16.0, suv_scale: float = 2.0) -> Code:
    """Diffuse the full dose itself, 0 to `suv_max` as -1 to 1, beside the low dose clipped there, as published.

    References
    ----------
    Yu et al., EJNMMI 2025, s00259-025-07122-4.
    """
    half = low.new_full((1, 1, 1, 1, 1), suv_max / suv_scale / 2).expand_as(low)
    return Code(low.clamp(min=torch.zeros_like(low), max=2 * half) / half - 1, half, half)


def _local_mean(x: Tensor) -> Tensor:
    """Mean over 7x7x7 voxels of x (B, 1, X, Y, Z), of those that lie in the volume."""
    for dim in (2, 3, 4):
        n = x.shape[dim]
        total, count = torch.zeros_like(x), x.new_zeros(n)
        for k in range(max(-_RADIUS, 1 - n), min(_RADIUS, n - 1) + 1):
            to, where = slice(max(-k, 0), n - max(k, 0)), max(k, 0)
            length = n - abs(k)
            total.narrow(dim, to.start, length).add_(x.narrow(dim, where, length))
            count[to] += 1
        x = total / count.view([-1 if d == dim else 1 for d in range(5)])
    return x
