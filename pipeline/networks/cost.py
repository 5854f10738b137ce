"""What a network costs."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["multiply_adds_per_voxel", "n_parameters"]


def multiply_adds_per_voxel(
    network: nn.Module, *inputs: Tensor, size: Sequence[int] = (64, 64, 64), **named: Any
) -> float:
    """Return the multiply-adds of one pass of a network per voxel of the image, convolutions and matrix products only.

    Parameters
    ----------
    network
        Any; it keeps its gradients and mode.
    inputs, named
        What the network is given, such as a batch (1, 1, X, Y, Z); by default a batch of zeros of `size`.
    size
        Voxels (X, Y, Z) of that batch.
    """
    if not inputs and not named:
        parameter = next(network.parameters())
        inputs = (torch.zeros(1, 1, *size, device=parameter.device, dtype=parameter.dtype),)
    volume = next(value for value in (*inputs, *named.values()) if isinstance(value, Tensor) and value.ndim == 5)
    n_voxels = volume.shape[0] * volume[0, 0].numel()
    # With gradients: without, a CPU's convolutions are called by a name that torch does not count.
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        network(*inputs, **named)
    return counter.get_total_flops() / 2 / n_voxels


def n_parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
