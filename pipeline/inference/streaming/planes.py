"""Exact streaming of the base denoising network: every voxel of every layer is computed once, at a slab's memory."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import Tensor, nn

from pipeline.inference.streaming.slabs import Box, Slab, doubled, every_slab, network_stages
from pipeline.networks import BaseDenoisingNetwork, Downsample, ResidualBlock, Upsample, conv3d

__all__ = ["KEPT_PLANES", "stream"]

KEPT_PLANES = 2
"""Planes of its input that a 3x3x3 convolution keeps from slab to slab."""


def stream(
    network: BaseDenoisingNetwork,
    x: Tensor,
    *,
    thickness: int = 8,
    slabs: Sequence[Slab] | None = None,
    guide: Tensor | None = None,
    on_slab: Callable[[Slab], None] = lambda slab: None,
) -> Tensor:
    """network(x) for x (1, 1, X, Y, Z), computed in slabs of planes along X.

    On a CPU without gradients the result has the bits of ``network(x)`` in float32, float64, bfloat16 and float16,
    because :func:`~pipeline.networks.conv3d` gives a part the bits of the whole. Layers run in the precision of the
    network's weights; the image skip in that of x.

    Parameters
    ----------
    thickness
        Planes of a slab at the network's working resolution, rounded up to whole voxels of its deepest level.
    slabs
        What to compute, from :func:`~pipeline.inference.streaming.slabs.body_slabs`, instead of everything; the rest of
        the result is then zero.
    guide
        What goes beside the image, from the network's own ``guide(x)``; None measures it, in the precision of x.
    on_slab
        Is told every slab when it is done.
    """
    r = network.resolution_factor
    image = network.padded(x)
    guide = network.guide(x) if guide is None else guide
    if slabs is None:
        shape = [n // r for n in image.shape[2:]]
        multiple = network.alignment // r
        thickness = -(-thickness // multiple) * multiple
        slabs = every_slab(shape, thickness=thickness, stages=network_stages(network))
    out = torch.zeros_like(image)
    scratch = _Scratch()
    body = None
    for slab in slabs:
        if body is None or slab.begins:
            body = _StreamedBody(network, scratch, start=slab.start)
        stop = min(slab.stop, slab.n_planes)
        part = None if guide is None else guide[_voxels(slab.start, stop, slab.boxes[0], 1)]
        first, residual = body(image[_voxels(slab.start, stop, slab.boxes[0], r)], part, slab)
        if residual.shape[2]:
            where = _voxels(first, first + residual.shape[2], slab.boxes[-1], r)
            residual = pixelshuffle(residual, 3, r) if r > 1 else residual
            if network.adds_image:
                torch.add(image[where], residual.to(x.dtype), out=out[where])
            else:
                out[where] = residual.to(x.dtype)
        on_slab(slab)
    return out[..., : x.shape[2], : x.shape[3], : x.shape[4]]


def _voxels(start: int, stop: int, box: Box, r: int) -> tuple[slice, ...]:
    """Index into the image of a box of planes start to stop."""
    every = slice(None)
    y, z = (slice(r * side.start, r * side.stop) for side in (box.y, box.z))
    return every, every, slice(r * start, r * stop), y, z


class _StreamedBody:
    """The layers of the network, each with what it keeps."""

    def __init__(self, network: BaseDenoisingNetwork, scratch: "_Scratch", *, start: int) -> None:
        self.network = network
        self.first = _StreamedConv(network.conv0, scratch, "odd", start=start)
        self.steps: list[_StreamedBlock | _StreamedDown | _StreamedUp] = []
        opened: list[_StreamedDown] = []
        first_plane = start
        for step in network.steps:
            if isinstance(step, ResidualBlock):
                self.steps.append(_StreamedBlock(step, scratch, start=first_plane))
            elif isinstance(step, Downsample):
                opened.append(_StreamedDown(step))
                self.steps.append(opened[-1])
                first_plane //= 2
            elif isinstance(step, Upsample):
                self.steps.append(_StreamedUp(step, opened.pop()))
                first_plane *= 2
        self.last = _StreamedConv(network.reconstruct, scratch, "odd", start=start)

    def __call__(self, image: Tensor, guide: Tensor | None, slab: Slab) -> tuple[int, Tensor]:
        """Index of the first residual plane that a slab of image and guide completes, and all that it does."""
        r = self.network.resolution_factor
        h = pixelunshuffle(image, 3, r) if r > 1 else image
        h = h if guide is None else torch.cat([h, guide.to(h.dtype)], dim=1)
        h = self.first(h.to(self.network.conv0.weight.dtype), slab, 0)
        k = 1
        for step in self.steps:
            h = step(h, slab, k)
            k += step.n_stages
        residual = self.last(h, slab, k)
        return self.last.centre, residual


class _StreamedBlock:
    """Residual block. Its skip is a view of the first convolution's input, where the planes it waits for still are."""

    n_stages = 2

    def __init__(self, block: ResidualBlock, scratch: "_Scratch", *, start: int) -> None:
        self.block = block
        self.conv1 = _StreamedConv(block.conv1, scratch, "odd", start=start)
        self.conv2 = _StreamedConv(block.conv2, scratch, "even", start=start)

    def __call__(self, x: Tensor, slab: Slab, k: int) -> Tensor:
        """Planes that x completes; the block's first convolution is stage k of the network."""
        y = _activated(self.block.act, self.conv1(x, slab, k))
        y = self.conv2(y, slab, k + 1)
        offset = self.conv2.centre - self.conv1.first
        skip = self.conv1.buffer[:, :, offset : offset + y.shape[2]]
        skip = skip[_within(slab.boxes[k + 1], slab.boxes[k])]
        return y.mul_(self.block.res_scale[:, None, None, None]).add_(skip)


class _StreamedDown:
    """To the deeper level in pairs of planes. An odd one waits, and so does the skip, for what comes back up."""

    n_stages = 1

    def __init__(self, down: Downsample) -> None:
        self.down = down
        self.pairs, self.skip = _Queue(), _Queue()

    def __call__(self, x: Tensor, slab: Slab, k: int) -> Tensor:
        """Planes of the deeper level that x completes."""
        box = slab.boxes[k]
        x = x[_within(box, slab.fed_box(k))]
        self.skip.push(x, box)
        self.pairs.push(x, box)
        planes = self.pairs.pop(self.pairs.n_planes // 2 * 2, box)
        if planes.shape[2]:
            return self.down(planes)
        return x.new_empty((1, len(self.down.scale), 0, x.shape[3] // 2, x.shape[4] // 2))


class _StreamedUp:
    """Back from the deeper level, added to the skip that waited for it."""

    n_stages = 1

    def __init__(self, up: Upsample, down: _StreamedDown) -> None:
        self.up = up
        self.down = down

    def __call__(self, x: Tensor, slab: Slab, k: int) -> Tensor:
        """Planes of the upper level that x completes."""
        box = slab.boxes[k]
        skip = self.down.skip.pop(2 * x.shape[2], doubled(box))
        return skip.add_(self.up(x[_within(box, slab.fed_box(k))])) if x.shape[2] else skip


class _StreamedConv:
    """3x3x3 convolution with zero padding, fed along X; its output lags one plane behind.

    Its input buffer is shared with other layers: ``name`` says which of the two, so that a block's first convolution
    still finds its own when the second has run.
    """

    def __init__(self, conv: nn.Module, scratch: "_Scratch", name: str, *, start: int) -> None:
        self.weight: Tensor = conv.weight  # type: ignore[assignment]
        self.bias: Tensor | None = getattr(conv, "bias", None)
        self.scratch = scratch
        self.name = name
        self.next = start  # the plane that is fed next
        self.kept: Tensor | None = None
        self.kept_box: Box | None = None

    def __call__(self, x: Tensor, slab: Slab, k: int) -> Tensor:
        """Planes of the output that x completes, (1, C, any number, Y, Z), as stage k of the network.

        x covers the box of the stage before; of it, this one's is convolved.
        """
        box, ends = slab.boxes[k], slab.ends(k)
        n_kept = 1 if self.kept is None else self.kept.shape[2]
        n = n_kept + x.shape[2] + ends
        u = self.buffer = self.scratch(self.name, x, n, box)
        self._restore(u[:, :, :n_kept], box)
        u[:, :, n_kept : n_kept + x.shape[2]] = x[_within(box, slab.fed_box(k))]
        if ends:
            u[:, :, -1] = 0
        self.first = self.next - n_kept
        self.centre = self.first + 1
        self.next += x.shape[2] + ends
        # A copy: a view would be overwritten with the buffer.
        self.kept, self.kept_box = u[:, :, -KEPT_PLANES:].clone(), box
        if n < 3:
            return u.new_empty((1, self.weight.shape[0], 0, *u.shape[3:]))
        return conv3d(u, self.weight, self.bias, padding=(0, 1, 1))

    def _restore(self, target: Tensor, box: Box) -> None:
        """Write the kept planes where they belong in this box; zero where they were not computed."""
        if self.kept is None or self.kept_box is None:
            target.zero_()
        else:
            _copy(target, box, self.kept, self.kept_box)


class _Queue:
    """Planes that wait, handed on in order."""

    def __init__(self) -> None:
        self.waiting: Tensor | None = None
        self.box: Box | None = None

    @property
    def n_planes(self) -> int:
        """How many wait."""
        return 0 if self.waiting is None else self.waiting.shape[2]

    def push(self, x: Tensor, box: Box) -> None:
        """Add planes x, which cover a box; those that wait are from now on known in it, as zero where they were not."""
        n = self.n_planes
        queue = x.new_empty((1, n + x.shape[2], *x.shape[3:], x.shape[1])).permute(0, 4, 1, 2, 3)
        if self.waiting is not None and self.box is not None:
            _copy(queue[:, :, :n], box, self.waiting, self.box)
        queue[:, :, n:] = x
        self.waiting, self.box = queue, box

    def pop(self, n_planes: int, box: Box) -> Tensor:
        """The n_planes that have waited longest, in a box within theirs; a copy."""
        if self.waiting is None or self.box is None:
            raise RuntimeError("no planes were pushed")
        planes = self.waiting[:, :, :n_planes][_within(box, self.box)]
        self.waiting = self.waiting[:, :, n_planes:]
        return planes.clone(memory_format=torch.channels_last_3d)


class _Scratch:
    """Input buffers by name, channels last, allocated anew only to grow."""

    def __init__(self) -> None:
        self.memory: dict[str, Tensor] = {}

    def __call__(self, name: str, like: Tensor, n_planes: int, box: Box) -> Tensor:
        """Buffer (1, C, n_planes, Y, Z) of a box's Y and Z, with arbitrary content, otherwise like a given tensor."""
        channels, y, z = like.shape[1], box.y.stop - box.y.start, box.z.stop - box.z.start
        size = n_planes * y * z * channels
        if name not in self.memory or len(self.memory[name]) < size:
            self.memory.pop(name, None)
            self.memory[name] = like.new_empty(size)
        return self.memory[name][:size].view(1, n_planes, y, z, channels).permute(0, 4, 1, 2, 3)


def _activated(activation: nn.Module, y: Tensor) -> Tensor:
    """activation(y), in place where the activation is one slope for all channels."""
    if isinstance(activation, nn.PReLU) and activation.num_parameters == 1:
        return F.leaky_relu_(y, activation.weight.item())
    return activation(y)


def _copy(target: Tensor, box: Box, source: Tensor, source_box: Box) -> None:
    """Write a source that covers one box into a target that covers another; zero where it knows nothing."""
    if source_box == box:
        target.copy_(source)
    else:
        target.zero_()
        common = Box(_overlap(box.y, source_box.y), _overlap(box.z, source_box.z))
        target[_within(common, box)] = source[_within(common, source_box)]


def _within(box: Box, outer: Box) -> tuple[slice, ...]:
    """Index of a box into a tensor (..., Y, Z) that covers an outer one."""
    y = slice(box.y.start - outer.y.start, box.y.stop - outer.y.start)
    z = slice(box.z.start - outer.z.start, box.z.stop - outer.z.start)
    return ..., y, z  # type: ignore[return-value]


def _overlap(a: slice, b: slice) -> slice:
    """Where two extents of an axis meet; empty, inside the first, where they do not."""
    start = min(max(a.start, b.start), a.stop)
    return slice(start, max(min(a.stop, b.stop), start))
