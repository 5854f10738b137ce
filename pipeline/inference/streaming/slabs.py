"""Which slabs of a volume go through which layers, and in which boxes, so that the body comes out as if all were."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.networks import BaseDenoisingNetwork, Downsample, ResidualBlock
from pipeline.networks.noise.statistics import TISSUE_MASK_RADIUS, tissue_mask

__all__ = [
    "Box",
    "Slab",
    "Stage",
    "body_slabs",
    "chain",
    "computed_fraction",
    "every_slab",
    "network_stages",
    "occupied_cells",
    "plane_boxes",
    "stages_alignment",
    "total_lag",
]

_BOX_STEP = 8  # box sides are multiples of it, so that few shapes occur: a kernel is compiled for each


@dataclass(frozen=True)
class Stage:
    """A layer that is fed planes: a 3x3x3 convolution, or what leads between levels."""

    lag: int
    """Planes of its level by which it is behind: of a slab start to stop it is fed start - lag to stop - lag."""
    level: int = 0
    """0 is the working resolution; every level has half the resolution of the one before."""
    weight: int = 1
    """Work per voxel relative to a convolution of level 0; a level has twice the channels of the one before."""


def chain(n_convolutions: int) -> tuple[Stage, ...]:
    """Stages of 3x3x3 convolutions in a row."""
    return tuple(Stage(lag) for lag in range(n_convolutions))


def network_stages(network: BaseDenoisingNetwork) -> tuple[Stage, ...]:
    """Stages of a network: first convolution, two for each residual block, one between levels, last convolution."""
    stages = [Stage(0)]
    level, lag = 0, 1
    for step in network.steps:
        if isinstance(step, ResidualBlock):
            stages += [Stage(lag, level, 4**level), Stage(lag + 1, level, 4**level)]
            lag += 2
        elif isinstance(step, Downsample):
            lag += lag % 2  # planes go down in pairs
            stages.append(Stage(lag, level, 0))
            level, lag = level + 1, lag // 2
        else:
            stages.append(Stage(lag, level, 0))
            level, lag = level - 1, 2 * lag
    return (*stages, Stage(lag))


def total_lag(stages: Sequence[Stage]) -> int:
    """Planes of level 0 by which the result is behind what is fed."""
    return stages[-1].lag + 1


def stages_alignment(stages: Sequence[Stage]) -> int:
    """Planes of level 0 per plane of the deepest level: slabs begin and end at multiples of it."""
    return int(2 ** max(stage.level for stage in stages))


@dataclass(frozen=True)
class Box:
    """Part of a plane; in voxels of the level where it is used."""

    y: slice
    """Extent along Y."""
    z: slice
    """Extent along Z."""

    @property
    def size(self) -> int:
        """Number of voxels."""
        return (self.y.stop - self.y.start) * (self.z.stop - self.z.start)


@dataclass(frozen=True)
class Slab:
    """Planes that go through the network at once; in units of its working resolution.

    Every stage lags behind. So the slabs go on behind the last plane of the volume until the last stage has been fed
    all of them.
    """

    start: int
    """First plane along X."""
    stop: int
    """Plane after the last."""
    n_planes: int
    """Planes of the volume; slabs have none from there on."""
    stages: tuple[Stage, ...]
    """What the planes go through."""
    boxes: tuple[Box, ...]
    """What of the planes each stage is fed, in order."""
    begins: bool
    """Nothing before it is computed, or it is the first."""

    @property
    def size(self) -> int:
        """Work of all stages, in voxels that go through a convolution of the working resolution."""
        return sum(
            stage.weight * self.planes(k) * box.size
            for k, (stage, box) in enumerate(zip(self.stages, self.boxes, strict=True))
        )

    def planes(self, k: int) -> int:
        """Number of planes that stage k is fed."""
        start, stop, n_planes = self._fed(k)
        return max(min(stop, n_planes) - max(start, 0), 0)

    def ends(self, k: int) -> bool:
        """Whether stage k is fed, after the volume's last plane, the zeros that stand beyond it."""
        start, stop, n_planes = self._fed(k)
        return start <= n_planes < stop

    def fed_box(self, k: int) -> Box:
        """What the stage before k hands on, in voxels of the level of k."""
        if k == 0:
            return self.boxes[0]
        return _at_level(self.boxes[k - 1], self.stages[k - 1].level, self.stages[k].level)

    def _fed(self, k: int) -> tuple[int, int, int]:
        stage = self.stages[k]
        scale = 2**stage.level
        return self.start // scale - stage.lag, self.stop // scale - stage.lag, self.n_planes // scale


def doubled(box: Box) -> Box:
    """The same part of a plane one level up."""
    return Box(slice(2 * box.y.start, 2 * box.y.stop), slice(2 * box.z.start, 2 * box.z.stop))


def _halved(box: Box, level: int = 1) -> Box:
    scale = 2**level
    return Box(*(slice(side.start // scale, side.stop // scale) for side in (box.y, box.z)))


def _at_level(box: Box, level: int, wanted: int) -> Box:
    """Box of a level as one of the same or a neighbouring level."""
    return box if level == wanted else doubled(box) if level > wanted else _halved(box)


def every_slab(shape: Sequence[int], *, thickness: int, stages: tuple[Stage, ...]) -> list[Slab]:
    """Slabs of so many planes that cover a volume of this shape (X, Y, Z); the last may be thinner.

    Shape and thickness are multiples of `stages_alignment`.
    """
    whole = Box(slice(0, shape[1]), slice(0, shape[2]))
    boxes = tuple(_halved(whole, stage.level) for stage in stages)
    return [
        Slab(start, stop, shape[0], stages, boxes, begins=start == 0)
        for start, stop in _spans(shape[0], thickness, stages)
    ]


def body_slabs(cells: Tensor, *, thickness: int, stages: tuple[Stage, ...]) -> list[Slab]:
    """Slabs with a box for each stage, enough to compute what :func:`plane_boxes` says exactly.

    What an output in the body needs of the planes that a stage with lag k is fed lies within R = L - k voxels of it,
    where L is the lag of the result; in a U-shaped network k counts planes of the working resolution, and R is wider
    by what rounding to the voxels of deeper levels adds. So the box is that of the body in planes start - k - R to
    stop - k + R, grown by R: for 18 convolutions a margin of 18 voxels at the first, which shrinks to 1. By induction
    over the stages all that is needed is in the boxes, whatever stands beyond. Slabs with no body within reach are
    left out.

    Parameters
    ----------
    cells
        Where the body is at the working resolution, bool. Shape (X, Y, Z), multiples of
        `stages_alignment`, as the thickness.
    thickness
        Planes of a slab.
    stages
        What the planes go through.
    """
    n = cells.shape[0]
    rounding = stages_alignment(stages) - 1
    multiple = max(_BOX_STEP, stages_alignment(stages))
    rows, columns = cells.any(dim=2), cells.any(dim=1)
    slabs: list[Slab] = []
    for start, stop in _spans(n, thickness, stages):
        boxes: list[Box] = []
        for stage in stages:
            lag = stage.lag * 2**stage.level
            reach = total_lag(stages) - lag + rounding
            planes = slice(max(start - lag - reach, 0), max(stop - lag + reach, 0))
            y = _extent(rows[planes].any(dim=0), reach, multiple=multiple)
            z = _extent(columns[planes].any(dim=0), reach, multiple=multiple)
            if y is not None and z is not None:
                boxes.append(_halved(Box(y, z), stage.level))
            elif boxes:
                # Whatever it is, nothing in the body depends on it.
                boxes.append(_at_level(boxes[-1], stages[len(boxes) - 1].level, stage.level))
            else:
                break
        if boxes:
            begins = not slabs or slabs[-1].stop < start
            slabs.append(Slab(start, stop, n, stages, tuple(boxes), begins=begins))
    return slabs


def _spans(n_planes: int, thickness: int, stages: Sequence[Stage]) -> Iterator[tuple[int, int]]:
    alignment = stages_alignment(stages)
    end = n_planes + -(-total_lag(stages) // alignment) * alignment
    for start in range(0, end, thickness):
        yield start, min(start + thickness, end)


def plane_boxes(cells: Tensor) -> Tensor:
    """Bounding box of the body in every plane along X, as bool of the shape of cells (X, Y, Z)."""
    return _spanned(cells.any(dim=2))[:, :, None] & _spanned(cells.any(dim=1))[:, None, :]


def computed_fraction(slabs: Sequence[Slab], shape: Sequence[int]) -> float:
    """Part of the work on a whole volume of this shape (X, Y, Z) that the slabs are."""
    stages = slabs[0].stages if slabs else chain(1)
    per_voxel = sum(stage.weight / 8**stage.level for stage in stages)
    return sum(slab.size for slab in slabs) / (shape[0] * shape[1] * shape[2] * per_voxel)


def occupied_cells(x: Tensor, *, threshold: float, cell: int, n_planes: int = 32) -> Tensor:
    """Cells of cell^3 voxels of x (1, 1, X, Y, Z) that hold any voxel of the body, bool.

    Shape (ceil(X / cell), ceil(Y / cell), ceil(Z / cell)). Worked off in pieces of ``n_planes`` planes, which hold
    the bits of the whole.
    """
    size = -(-n_planes // cell) * cell
    return torch.cat([_any_of(mask, cell) for mask in tissue_mask_pieces(x, threshold=threshold, n_planes=size)])


def tissue_mask_pieces(x: Tensor, *, threshold: float, n_planes: int) -> Iterator[Tensor]:
    """:func:`~pipeline.networks.tissue_mask` of x (1, 1, X, Y, Z) in pieces (1, 1, n_planes, Y, Z)."""
    for start in range(0, x.shape[2], n_planes):
        stop = min(start + n_planes, x.shape[2])
        low = max(start - TISSUE_MASK_RADIUS, 0)
        piece = tissue_mask(x[:, :, low : stop + TISSUE_MASK_RADIUS], threshold)
        yield piece[:, :, start - low : stop - low]


def _any_of(mask: Tensor, cell: int) -> Tensor:
    if cell == 1:
        return mask[0, 0]
    missing = [-n % cell for n in mask.shape[2:]]
    mask = F.pad(mask, [p for n in reversed(missing) for p in (0, n)])
    x, y, z = (n // cell for n in mask.shape[2:])
    return mask.reshape(x, cell, y, cell, z, cell).any(dim=5).any(dim=3).any(dim=1)


def _spanned(occupied: Tensor) -> Tensor:
    """From the first to the last that is set in every row of occupied (N, M), bool."""
    count = occupied.long()
    return (count.cumsum(dim=1) > 0) & (count.flip(1).cumsum(dim=1).flip(1) > 0)


def _extent(occupied: Tensor, margin: int, *, multiple: int) -> slice | None:
    where = occupied.nonzero()
    if not len(where):
        return None
    start, stop, n = int(where[0]) - margin, int(where[-1]) + 1 + margin, len(occupied)
    return slice(max(start, 0) // multiple * multiple, min(-(-stop // multiple) * multiple, n))
