"""The style of a whole scan at the memory of a slab: the encoder's pools are sums, so they can be gathered."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from monai.networks.utils import pixelunshuffle
from torch import Tensor

from pipeline.inference.streaming.planes import activated
from pipeline.inference.streaming.slabs import tissue_mask_pieces
from pipeline.networks import BaseDenoisingNetwork, UniPET, conv3d
from pipeline.networks.style_alignment import EncoderStage, halved

__all__ = ["stream_style"]

_PIECE_BYTES = 16 * 2**20


@torch.no_grad()
def stream_style(network: UniPET, x: Tensor, *, n_planes: int | None = None) -> Tensor:
    """network.encode_style(x) for x (1, 1, X, Y, Z), shape (1, n_stages, latent_size), up to the order of summation.

    A stage needs two passes over its input, one for the mean that its channel attention gates by and one with the
    gates; and a third over its output for the latent. What is kept between the passes is the output of the strided
    convolution, an eighth of the voxels at a quarter of the channels; everything wider is made again where it is
    needed. With a body mask, what lies out of reach of the body is left out: its weight is zero. A style from
    statistics needs none of this.

    Parameters
    ----------
    n_planes
        Planes of a stage's input worked on at once, rounded up to an even number; None chooses.
    """
    if network.style == "statistics":
        return network.encode_style(x)
    x = x.to(network.base.conv0.weight.dtype)
    r = network.base.resolution_factor
    if n_planes is None:
        plane = x.shape[3] * x.shape[4] * network.base.channels * x.element_size() // r**2
        n_planes = min(max(_PIECE_BYTES // plane, 2), 32)
    n_planes += n_planes % 2
    mask = None
    if network.tissue_threshold is not None:
        mask = _feature_mask(x, network.tissue_threshold / network.suv_scale, r=r, n_planes=n_planes)
        cell = max(2 ** len(network.san.stages), network.base.alignment // r)
        x, mask = _around_body(x, mask, r=r, cell=cell)
    x = network.base.padded(x)
    source: Callable[[int, int], Tensor] = _ShallowFeatures(network.base, x)
    size = tuple(n // r for n in x.shape[2:])
    if mask is not None:
        missing = [n - m for n, m in zip(size, mask.shape[2:], strict=True)]
        mask = F.pad(mask, [p for n in reversed(missing) for p in (0, n)])
    latents = []
    stages: list[EncoderStage] = list(network.san.stages)  # type: ignore[arg-type]
    for stage in stages:
        gate = _gate(stage, source, mask, size=size, n_planes=n_planes)
        down = _down(stage, source, gate, size=size, n_planes=n_planes)
        mask = None if mask is None else halved(mask)
        size = tuple(down.shape[2:])
        source = _Expanded(stage, down)
        mean = _mean_of(source, mask, size=size, n_planes=n_planes)
        latents.append(stage.activation(stage.to_latent(mean)))
    return torch.stack(latents, dim=1)


class _ShallowFeatures:
    """Planes of the first convolution's output, made from the image when asked for."""

    def __init__(self, base: BaseDenoisingNetwork, image: Tensor) -> None:
        self.base = base
        self.image = image

    def __call__(self, start: int, stop: int) -> Tensor:
        """Feature planes start to stop, (1, channels, stop - start, Y, Z)."""
        r, conv = self.base.resolution_factor, self.base.conv0
        low, high = max(start - 1, 0), min(stop + 1, self.image.shape[2] // r)
        piece = self.image[:, :, r * low : r * high]
        piece = pixelunshuffle(piece, 3, r) if r > 1 else piece
        piece = F.pad(piece, (0, 0, 0, 0, low - (start - 1), stop + 1 - high))
        return conv3d(piece.to(conv.weight.dtype), conv.weight, conv.bias, padding=(0, 1, 1))


class _Expanded:
    """Planes of a stage's output, made from its strided convolution's when asked for."""

    def __init__(self, stage: EncoderStage, down: Tensor) -> None:
        self.stage = stage
        self.down = down

    def __call__(self, start: int, stop: int) -> Tensor:
        """Feature planes start to stop, (1, width, stop - start, Y, Z)."""
        return activated(self.stage.activation, conv3d(self.down[:, :, start:stop], self.stage.expand.weight))


def _gate(
    stage: EncoderStage, source: Callable, mask: Tensor | None, *, size: tuple[int, ...], n_planes: int
) -> Tensor:
    """Gates of the stage's channel attention, (1, inner, 1, 1, 1)."""
    mean = _mean_of(lambda a, b: _reduced(stage, source(a, b)), mask, size=size, n_planes=n_planes)
    attention = stage.attention
    gate = torch.sigmoid(attention.excite(F.relu(attention.squeeze(mean))))
    return gate[:, :, None, None, None]


def _reduced(stage: EncoderStage, features: Tensor) -> Tensor:
    """What the stage's channel attention is fed, (1, inner, X, Y, Z)."""
    return activated(stage.activation, conv3d(features, stage.reduce.weight))


def _down(stage: EncoderStage, source: Callable, gate: Tensor, *, size: tuple[int, ...], n_planes: int) -> Tensor:
    """Output of the stage's strided convolution, (1, inner, ceil(X/2), ceil(Y/2), ceil(Z/2))."""
    pieces = []
    border: Tensor | None = None  # the plane before the piece, which the convolution's first output sees
    for start, stop in _spans(size[0], n_planes):
        z = _reduced(stage, source(start, stop)).mul_(gate)
        before = torch.zeros_like(z[:, :, :1]) if border is None else border
        # Output plane j sees input planes 2j - 1 to 2j + 1; of an odd number of planes the last sees one that is zero.
        parts = [before, z, *([torch.zeros_like(before)] if (stop - start) % 2 else [])]
        pieces.append(
            stage.activation(F.conv3d(torch.cat(parts, dim=2), stage.down.weight, stride=2, padding=(0, 1, 1)))
        )
        border = z[:, :, -1:].clone()
    return torch.cat(pieces, dim=2)


def _mean_of(
    source: Callable[[int, int], Tensor], mask: Tensor | None, *, size: tuple[int, ...], n_planes: int
) -> Tensor:
    """Mean over space of what the source gives, (1, C); over the mask unless that is empty."""
    if mask is not None and not bool(mask.any()):
        mask = None
    total = torch.zeros((), dtype=torch.float64)
    for start, stop in _spans(size[0], n_planes):
        features = source(start, stop).permute(0, 2, 3, 4, 1).flatten(2, 3)[0]  # (planes, Y Z, C)
        weights = features.new_ones(features.shape[:2]) if mask is None else mask[0, 0, start:stop].flatten(1)
        # A matrix product: nothing is stored but the sums; plane by plane, and over planes in float64.
        total = total.to(features.device) + (weights[:, None] @ features).double().sum(dim=0)
    weight = size[0] * size[1] * size[2] if mask is None else mask.sum(dtype=torch.float64)
    return (total / weight).to(features.dtype)


def _spans(n: int, n_planes: int) -> Iterator[tuple[int, int]]:
    for start in range(0, n, n_planes):
        yield start, min(start + n_planes, n)


def _feature_mask(x: Tensor, threshold: float, *, r: int, n_planes: int) -> Tensor:
    """Body mask at the resolution of the features, (1, 1, ceil(X/r), ceil(Y/r), ceil(Z/r))."""
    pieces = (piece.to(x.dtype) for piece in tissue_mask_pieces(x, threshold=threshold, n_planes=r * n_planes))
    return torch.cat([halved(piece) if r > 1 else piece for piece in pieces], dim=2)


def _around_body(x: Tensor, mask: Tensor, *, r: int, cell: int) -> tuple[Tensor, Tensor]:
    """Part of x and of its feature mask that can reach a voxel of the last stage that the mask counts."""
    # Stage k sees 2^k cells to each side, all of them and the first convolution 2^n in sum; cut where all stages'
    # voxels begin, and those of the body's deepest level, to which what is cut off is padded as the whole is.
    cut: list[slice] = []
    for dim in (2, 3, 4):
        where = mask.amax(dim=tuple({2, 3, 4} - {dim})).flatten().nonzero()
        if not len(where):
            return x, mask
        start, stop = int(where[0]) // cell * cell - cell, (int(where[-1]) // cell + 2) * cell
        cut.append(slice(max(start, 0), min(stop, mask.shape[dim])))
    voxels = [slice(r * side.start, r * side.stop) for side in cut]
    return x[:, :, voxels[0], voxels[1], voxels[2]], mask[:, :, cut[0], cut[1], cut[2]]
