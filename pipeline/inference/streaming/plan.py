"""How a volume will be streamed: in how thick slabs, at what cost, and in how much memory of how much there is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.inference.streaming.planes import KEPT_PLANES
from pipeline.inference.streaming.slabs import Slab, Stage, body_slabs, computed_fraction, every_slab, network_stages
from pipeline.memory import free_memory
from pipeline.networks import NOISE_CHANNELS, BaseDenoisingNetwork, ReadsScans, is_streamable, read_by
from pipeline.networks.noise.statistics import statistics_bytes

__all__ = ["Plan", "available_memory", "is_out_of_memory", "make_plan", "release_memory", "streamable_base", "thinner"]

# Bytes of a convolution's output. The C library maps blocks above 32 MiB anew for every call, page by page.
_CPU_BYTES = 16 * 2**20
_CUDA_BYTES = 512 * 2**20
_THICKEST = 16

# What torch and oneDNN say on a CPU when an allocation fails.
_SAYINGS = ("can't allocate memory", "could not create a primitive", "could not create a memory object")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Decision on how to run one volume."""

    shape: tuple[int, ...]
    """The volume at the network's working resolution (X, Y, Z)."""
    thickness: int
    """Planes of a slab at the working resolution."""
    slabs: tuple[Slab, ...]
    """What is computed."""
    resolution_factor: int
    """Voxels per voxel at the working resolution, along each axis."""
    cost: float
    """Work relative to one pass over the whole volume."""
    n_bytes: int
    """Peak memory above that of input and weights."""

    def __str__(self) -> str:
        planes = self.thickness * self.resolution_factor
        memory = f"about {self.n_bytes / 2**30:.2g} GiB"
        return f"streaming, slabs of {planes} planes, {self.cost:.2f} of one pass over the volume, {memory}"


def streamable_base(network: object) -> BaseDenoisingNetwork:
    """Return the part of a network that is streamed.

    Raises
    ------
    TypeError
        If the network has none.
    """
    base = cast(Any, network).base if isinstance(network, ReadsScans) else network
    if not is_streamable(base):
        name = type(network).__name__
        raise TypeError(f"cannot stream {name}, expected pipeline.networks.Streamable; use WindowInferer for others")
    return cast(BaseDenoisingNetwork, base)


def make_plan(
    network: Callable[..., Any],
    x: Tensor,
    *,
    thickness: int | None = None,
    cells: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Plan:
    """Plan the streaming of a network over x (1, 1, X, Y, Z), which costs one pass over what is computed.

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
        If the network cannot be streamed.
    """
    base = streamable_base(network)
    factor = base.resolution_factor
    multiple = base.alignment // factor
    shape = tuple(-(-n // base.alignment) * multiple for n in x.shape[2:])
    thickness = thickness or _fast_thickness(base.channels, shape, x.device, dtype or x.dtype)
    thickness = min(-(-thickness // multiple) * multiple, shape[0])
    stages = network_stages(base)
    if cells is None:
        slabs = every_slab(shape, thickness=thickness, stages=stages)
    else:
        missing = [n - m for n, m in zip(shape, cells.shape, strict=True)]
        cells = F.pad(cells, [p for n in reversed(missing) for p in (0, n)])
        slabs = body_slabs(cells, thickness=thickness, stages=stages)
    layers = _layer_voxels(slabs, stages, thickness) * base.channels * (dtype or next(base.parameters()).dtype).itemsize
    # Two and a half times: the kernels' own copies, and what the allocator cannot use again. Measured peaks were
    # 0.5 to 0.9 of this. Besides, there are the padded input, the result and the mask.
    n_bytes = layers * 5 // 2 + x.numel() * (2 * x.element_size() + 1)
    if base.local_noise is not None:
        n_bytes += 4 * NOISE_CHANNELS * x.numel() // factor**3
    if base.local_noise is not None or "statistics" in read_by(network):
        n_bytes = max(n_bytes, statistics_bytes(tuple(x.shape[2:])))
    return Plan(
        shape=shape,
        thickness=thickness,
        slabs=tuple(slabs),
        resolution_factor=factor,
        cost=computed_fraction(slabs, shape),
        n_bytes=n_bytes,
    )


def thinner(plan: Plan, network: Any, x: Tensor, *, cells: Tensor | None, dtype: torch.dtype | None) -> Plan | None:
    """Return a plan with slabs of half the thickness, None where they are as thin as can be already."""
    half = make_plan(network, x, thickness=max(plan.thickness // 2, 1), cells=cells, dtype=dtype)
    return half if half.thickness < plan.thickness else None


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


def _fast_thickness(channels: int, shape: Sequence[int], device: torch.device, dtype: torch.dtype) -> int:
    plane = shape[1] * shape[2] * channels * dtype.itemsize
    target = _CUDA_BYTES if device.type == "cuda" else _CPU_BYTES
    return min(max(target // max(plane, 1), 2), _THICKEST)


def available_memory(device: torch.device | str) -> int | None:
    """Return the bytes that can still be had on a device; None where the system does not say."""
    device = torch.device(device)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free_memory()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory could not be had; there are several ways to say so."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(saying in str(error) for saying in _SAYINGS)


def release_memory(device: torch.device | str) -> None:
    """Give cached memory of a GPU back; what is no longer referred to on a CPU is free already."""
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()
