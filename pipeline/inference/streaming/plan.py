"""How a volume will be run: which of the exact ways, in how thick slabs, at what cost and memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.inference.halo import halo_planes
from pipeline.inference.streaming.layers import Stage, chain, network_stages
from pipeline.inference.streaming.planes import KEPT_PLANES
from pipeline.inference.streaming.slabs import Slab, body_slabs, computed_fraction, every_slab
from pipeline.networks import BaseDenoisingNetwork, UniPET
from pipeline.networks.noise_statistics import statistics_bytes

__all__ = ["Plan", "make_plan", "thinner"]

# Bytes of a convolution's output. The C library maps blocks above 32 MiB anew for every call, page by page.
_CPU_BYTES = 16 * 2**20
_CUDA_BYTES = 512 * 2**20
_THICKEST = 16


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Decision on how to run one volume."""

    way: str
    """``streaming``: every voxel of every layer once. ``halo``: slabs with all that they depend on."""
    shape: tuple[int, ...]
    """The volume at the network's working resolution (X, Y, Z)."""
    thickness: int
    """Planes of a slab at the working resolution."""
    slabs: tuple[Slab, ...]
    """What is computed."""
    resolution_factor: int
    """Voxels per voxel at the working resolution, along each axis."""
    receptive_radius: int
    """Reach of the network [voxels]."""
    cost: float
    """Work relative to one pass over the whole volume."""
    n_bytes: int | None
    """Peak memory above that of input and weights; None where the network does not tell."""

    def __str__(self) -> str:
        planes = self.thickness * self.resolution_factor
        how = "streaming" if self.way == "streaming" else f"halo of {self.receptive_radius} voxels"
        memory = "" if self.n_bytes is None else f", about {self.n_bytes / 2**30:.2g} GiB"
        return f"{how}, slabs of {planes} planes, {self.cost:.2f} of one pass over the volume{memory}"


def make_plan(
    network: Callable[..., Any],
    x: Tensor,
    *,
    thickness: int | None = None,
    cells: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Plan:
    """Cheaper of the exact ways to run a network over x (1, 1, X, Y, Z).

    UniPET and its base network can be streamed, which costs one pass and is never beaten. Any other network that
    says its ``receptive_radius`` [voxels] and ``resolution_factor`` is run in slabs with a halo, for which every
    plane of a halo is paid twice; the thinner the slabs, the more.

    Parameters
    ----------
    thickness
        Planes of a slab at the working resolution; None chooses.
    cells
        Where the body is at the working resolution, bool (X, Y, Z); None computes everything.
    dtype
        Precision of the layers; None is that of the weights.

    Raises
    ------
    TypeError
        If the network is neither, so that no part of a volume can be told from the rest.
    """
    base = network.base if isinstance(network, UniPET) else network
    radius, factor = getattr(base, "receptive_radius", None), getattr(base, "resolution_factor", None)
    if radius is None or factor is None:
        raise TypeError(
            f"cannot stream {type(network).__name__}, expected UniPET, BaseDenoisingNetwork or a network with "
            "receptive_radius and resolution_factor; use WindowInferer for others"
        )
    if isinstance(base, BaseDenoisingNetwork):
        multiple = base.alignment // factor
        shape = tuple(-(-n // base.alignment) * multiple for n in x.shape[2:])
        thickness = thickness or _fast_thickness(base.channels, shape, x.device, dtype or x.dtype)
        thickness = -(-thickness // multiple) * multiple
    else:
        shape = tuple(-(-n // factor) for n in x.shape[2:])
        thickness = thickness or max(4 * halo_planes(receptive_radius=radius, resolution_factor=factor) // factor, 1)
    plan = Plan(
        way="streaming" if isinstance(base, BaseDenoisingNetwork) else "halo",
        shape=shape,
        thickness=min(thickness, shape[0]),
        slabs=(),
        resolution_factor=factor,
        receptive_radius=radius,
        cost=1.0,
        n_bytes=None,
    )
    itemsize = (dtype or _weight_dtype(base) or x.dtype).itemsize
    volumes = x.numel() * (2 * x.element_size() + 1)  # padded input, result, mask
    plan = _with_slabs(plan, base, cells=cells, volumes=volumes, itemsize=itemsize)
    if plan.n_bytes is None or not isinstance(network, UniPET) or network.style != "statistics":
        return plan
    return replace(plan, n_bytes=max(plan.n_bytes, statistics_bytes(tuple(x.shape[2:]))))


def _weight_dtype(network: Any) -> torch.dtype | None:
    return next((p.dtype for p in network.parameters()), None) if isinstance(network, nn.Module) else None


def thinner(plan: Plan, network: Any, x: Tensor, *, cells: Tensor | None, dtype: torch.dtype | None) -> Plan | None:
    """Plan with slabs of half the thickness, None where they are as thin as can be already."""
    half = make_plan(network, x, thickness=max(plan.thickness // 2, 1), cells=cells, dtype=dtype)
    return half if half.thickness < plan.thickness else None


def _with_slabs(plan: Plan, network: Any, *, cells: Tensor | None, volumes: int, itemsize: int) -> Plan:
    streams = plan.way == "streaming"
    halo = -(-plan.receptive_radius // plan.resolution_factor)
    stages = network_stages(network) if streams else chain(max(halo, 1))
    if cells is None:
        slabs = every_slab(plan.shape, thickness=plan.thickness, stages=stages)
    else:
        missing = [n - m for n, m in zip(plan.shape, cells.shape, strict=True)]
        cells = F.pad(cells, [p for n in reversed(missing) for p in (0, n)])
        slabs = body_slabs(cells, thickness=plan.thickness, stages=stages)
    if streams:
        layers = _layer_voxels(slabs, stages, plan.thickness) * network.channels * itemsize
        # Two and a half times: the kernels' own copies, and what the allocator cannot use again. Measured peaks were
        # 0.5 to 0.9 of this.
        n_bytes = layers * 5 // 2 + volumes
        return replace(plan, slabs=tuple(slabs), cost=computed_fraction(slabs, plan.shape), n_bytes=n_bytes)
    real = tuple(slab for slab in slabs if slab.start < plan.shape[0])
    return replace(plan, slabs=real, cost=_halo_cost(real, plan.shape, halo))


def _layer_voxels(slabs: Sequence[Slab], stages: Sequence[Stage], thickness: int) -> int:
    """Most voxels, as wide as the working resolution's, that streaming holds at once."""
    largest = max((box.size for slab in slabs for box in slab.boxes), default=0)
    # Per level twice the channels in a quarter of the plane. Kept planes of every convolution, and what waits beside a
    # deeper level; two input buffers, an output and its predecessor for the one that runs.
    kept = sum(KEPT_PLANES * largest // 2**stage.level for stage in stages if stage.weight)
    waiting = 0
    for down, up in _crossings(stages):
        waiting += (2 * up.lag - down.lag + thickness // 2**down.level) * largest // 2**down.level
    return kept + waiting + 4 * (thickness + KEPT_PLANES + 1) * largest


def _crossings(stages: Sequence[Stage]) -> list[tuple[Stage, Stage]]:
    """Stages that lead to a deeper level, each with the one that leads back."""
    opened: list[Stage] = []
    pairs = []
    for stage, after in pairwise(stages):
        if after.level > stage.level:
            opened.append(stage)
        elif after.level < stage.level:
            pairs.append((opened.pop(), stage))
    return pairs


def _halo_cost(slabs: Sequence[Slab], shape: Sequence[int], halo: int) -> float:
    work = 0
    for slab in slabs:
        n_planes = min(slab.stop + halo, shape[0]) - max(slab.start - halo, 0)
        work += n_planes * slab.boxes[0].size
    return work / (shape[0] * shape[1] * shape[2])


def _fast_thickness(channels: int, shape: Sequence[int], device: torch.device, dtype: torch.dtype) -> int:
    plane = shape[1] * shape[2] * channels * dtype.itemsize
    target = _CUDA_BYTES if device.type == "cuda" else _CPU_BYTES
    return min(max(target // max(plane, 1), 2), _THICKEST)
