"""Exact slabs with a halo: for any fully convolutional network of known reach, at the cost of computing halos twice."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.inference.streaming.slabs import Slab

__all__ = ["halo_planes", "run_with_halo"]


def halo_planes(*, receptive_radius: int, resolution_factor: int) -> int:
    """Planes that a slab must see to each side: the reach of the network, rounded up to its resolution."""
    return -(-receptive_radius // resolution_factor) * resolution_factor


def run_with_halo(
    network: Callable[..., Tensor],
    x: Tensor,
    *,
    receptive_radius: int,
    resolution_factor: int,
    slabs: Sequence[Slab],
    on_slab: Callable[[Slab], None] = lambda slab: None,
) -> Tensor:
    """network(x) for x (1, 1, X, Y, Z), from slabs along X that are computed with all that they depend on.

    Equal to the whole volume up to the rounding of kernels that differ with the shape of their input, which
    :func:`~pipeline.networks.conv3d` has not. Zero where no slab is.

    Parameters
    ----------
    receptive_radius
        Voxels of the input, to each side, on which an output voxel can depend.
    resolution_factor
        Slabs begin at multiples of it, as the network's coarsest voxels do.
    slabs
        In units of ``resolution_factor`` voxels; their first box holds, with the halo, what is wanted.
    """
    halo = halo_planes(receptive_radius=receptive_radius, resolution_factor=resolution_factor)
    out: Any = torch.zeros_like(x)
    every = slice(None)
    for slab in slabs:
        y, z = (
            slice(resolution_factor * side.start, resolution_factor * side.stop)
            for side in (slab.boxes[0].y, slab.boxes[0].z)
        )
        start, stop = resolution_factor * slab.start, min(resolution_factor * slab.stop, x.shape[2])
        low = max(start - halo, 0)
        piece = network(x[every, every, low : stop + halo, y, z])
        out[every, every, start:stop, y, z] = piece[:, :, start - low : stop - low]
        on_slab(slab)
    return out
