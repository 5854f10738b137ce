"""Exact whole-volume inference at the memory of a slab: every voxel of every layer is computed once."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import Tensor, nn

from pipeline.networks import BaseDenoisingNetwork, Downsample, ResidualBlock, UniPET, Upsample

__all__ = ["StreamingInferer", "stream"]


class StreamingInferer(Inferer):
    """Run UniPET, or its base denoising network, over whole scans slab by slab along X, without seams.

    The result is that of one pass over the whole volume, up to rounding: a convolution keeps the last two planes that
    it was fed, so a slab continues where the one before ended. X is the axis along which slabs are contiguous.
    UniPET's style is computed once per scan, from all of it, and folded into plain weights.

    Parameters
    ----------
    slab
        Planes fed at once; memory grows with it, the result does not change. Rounded up to the network's resolution.
    dtype
        Precision of the residual blocks, such as ``torch.bfloat16``; None is that of the weights. The image skip
        stays in the input's precision.
    """

    def __init__(self, *, slab: int = 16, dtype: torch.dtype | None = None) -> None:
        if slab < 1:
            raise ValueError(f"slab must be at least one plane, got {slab}")
        self.slab = slab
        self.dtype = dtype

    @torch.no_grad()
    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Denoised volumes, a plain tensor like inputs (B, 1, X, Y, Z).

        Raises
        ------
        TypeError
            If the network is neither UniPET nor a BaseDenoisingNetwork.
        """
        x = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        return torch.cat([stream(self._plain(network, scan), scan, slab=self.slab) for scan in x.split(1)])

    def _plain(self, network: Callable[..., Tensor], scan: Tensor) -> BaseDenoisingNetwork:
        """Network with plain weights that acts on this scan as the given one, in the wanted precision."""
        if isinstance(network, UniPET):
            plain = network.fold(network.encode_style(scan))
        elif isinstance(network, BaseDenoisingNetwork):
            plain = network if self.dtype is None else deepcopy(network)
        else:
            raise TypeError(f"cannot stream {type(network).__name__}, expected UniPET or BaseDenoisingNetwork")
        return plain if self.dtype is None else plain.to(self.dtype)


def stream(network: BaseDenoisingNetwork, x: Tensor, *, slab: int) -> Tensor:
    """network(x) for x (B, 1, X, Y, Z), computed in slabs of planes along X.

    Layers run in the precision of the network's weights; the image skip in that of x.
    """
    r = network.resolution_factor
    padded = network.padded(x)
    dtype = network.conv0.weight.dtype
    first, last = _StreamedConv(network.conv0), _StreamedConv(network.reconstruct)
    steps = [_streamed(step) for step in network.steps]
    out = padded.clone()
    step, n_planes, done = -(-slab // r) * r, padded.shape[2], 0
    for start in range(0, n_planes, step):
        ends = start + step >= n_planes
        piece = padded[:, :, start : start + step]
        h = first((pixelunshuffle(piece, 3, r) if r > 1 else piece).to(dtype), ends)
        skips: list[tuple[_Delay, Tensor]] = []
        for streamed in steps:
            h = streamed(h, ends, skips)
        residual = last(h, ends)
        if residual.shape[2]:
            residual = pixelshuffle(residual, 3, r) if r > 1 else residual
            out[:, :, done : done + residual.shape[2]] += residual.to(x.dtype)
            done += residual.shape[2]
    return out[..., : x.shape[2], : x.shape[3], : x.shape[4]]


def _streamed(step: nn.Module) -> "_StreamedBlock | _StreamedDown | _StreamedUp":
    if isinstance(step, ResidualBlock):
        return _StreamedBlock(step)
    return _StreamedDown(step) if isinstance(step, Downsample) else _StreamedUp(step)


class _StreamedBlock:
    """Residual block whose skip waits for its convolutions."""

    def __init__(self, block: ResidualBlock) -> None:
        self.block = block
        self.conv1, self.conv2, self.delay = _StreamedConv(block.conv1), _StreamedConv(block.conv2), _Delay()

    def __call__(self, x: Tensor, ends: bool, skips: list[tuple["_Delay", Tensor]]) -> Tensor:
        y = self.conv2(self.block.act(self.conv1(x, ends)), ends)
        return self.delay(x, y.shape[2]) + y * self.block.res_scale[:, None, None, None]


class _StreamedDown:
    """To the deeper level in pairs of planes; an odd one waits, and so does the skip."""

    def __init__(self, down: Downsample) -> None:
        self.down = down
        self.pairs, self.skip = _Delay(), _Delay()

    def __call__(self, x: Tensor, ends: bool, skips: list[tuple["_Delay", Tensor]]) -> Tensor:
        skips.append((self.skip, x))
        n_waiting = 0 if self.pairs.waiting is None else self.pairs.waiting.shape[2]
        paired = self.pairs(x, (n_waiting + x.shape[2]) // 2 * 2)
        if paired.shape[2]:
            return self.down(paired)
        return x.new_empty((x.shape[0], len(self.down.scale), 0, x.shape[3] // 2, x.shape[4] // 2))


class _StreamedUp:
    """Back from the deeper level, added to the skip that waited for it."""

    def __init__(self, up: Upsample) -> None:
        self.up = up

    def __call__(self, x: Tensor, ends: bool, skips: list[tuple["_Delay", Tensor]]) -> Tensor:
        delay, skip = skips.pop()
        waited = delay(skip, 2 * x.shape[2])
        return waited + self.up(x) if x.shape[2] else waited


class _StreamedConv:
    """3x3x3 convolution with zero padding, fed along X; its output lags one plane behind until the end."""

    def __init__(self, conv: nn.Module) -> None:
        self.weight: Tensor = conv.weight  # type: ignore[assignment]
        self.bias: Tensor | None = getattr(conv, "bias", None)
        self.kept: Tensor | None = None

    def __call__(self, x: Tensor, ends: bool) -> Tensor:
        """Planes of the output that x completes, (B, C, any number, Y, Z), all that remain if the stream ends."""
        border = x.new_zeros((*x.shape[:2], 1, *x.shape[3:]))
        pieces = [border if self.kept is None else self.kept, x, *([border] if ends else [])]
        u = torch.cat(pieces, dim=2).contiguous(memory_format=torch.channels_last_3d)
        # A copy: a view would keep the whole slab alive.
        self.kept = u[:, :, -2:].clone()
        if u.shape[2] < 3:
            return u.new_empty((u.shape[0], self.weight.shape[0], 0, *u.shape[3:]))
        return F.conv3d(u, self.weight, self.bias, padding=(0, 1, 1))


class _Delay:
    """Hands planes on in order, as many as asked for: the skip that waits for a block's convolutions."""

    def __init__(self) -> None:
        self.waiting: Tensor | None = None

    def __call__(self, x: Tensor, n_planes: int) -> Tensor:
        queue = x if self.waiting is None else torch.cat([self.waiting, x], dim=2)
        self.waiting = queue[:, :, n_planes:].clone()
        return queue[:, :, :n_planes]
