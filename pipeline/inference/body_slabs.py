"""Which slabs of a volume must be computed, and in which boxes, so that the body comes out as if all were."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.networks.body import BODY_MASK_RADIUS, body_mask

__all__ = ["Box", "Slab", "body_slabs", "computed_fraction", "every_slab", "occupied_cells", "plane_boxes"]

_BOX_STEP = 8  # box sides are multiples of it, so that few shapes occur: a kernel is compiled for each


@dataclass(frozen=True)
class Box:
    """Part of a plane; in units of the network's working resolution."""

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

    Convolution number k (from 0) lags k planes behind: it is fed planes start - k to stop - k. So the slabs go on
    behind the last plane of the volume until the last convolution has been fed all of them.
    """

    start: int
    """First plane along X."""
    stop: int
    """Plane after the last."""
    n_planes: int
    """Planes of the volume; slabs have none from there on."""
    boxes: tuple[Box, ...]
    """What of the planes each convolution is fed, in order."""
    begins: bool
    """Nothing before it is computed, or it is the first."""

    @property
    def size(self) -> int:
        """Number of voxels that all convolutions are fed."""
        return sum(self.planes(k) * box.size for k, box in enumerate(self.boxes))

    def planes(self, k: int) -> int:
        """Number of planes that convolution k is fed."""
        return max(min(self.stop - k, self.n_planes) - max(self.start - k, 0), 0)

    def ends(self, k: int) -> bool:
        """Whether convolution k is fed, after the volume's last plane, the zeros that stand beyond it."""
        return self.start - k <= self.n_planes < self.stop - k


def every_slab(shape: Sequence[int], *, thickness: int, n_convolutions: int) -> list[Slab]:
    """Slabs of so many planes that cover a volume of this shape (X, Y, Z); the last may be thinner."""
    n, end = shape[0], shape[0] + n_convolutions
    boxes = (Box(slice(0, shape[1]), slice(0, shape[2])),) * n_convolutions
    return [Slab(start, min(start + thickness, end), n, boxes, begins=start == 0) for start in range(0, end, thickness)]


def body_slabs(cells: Tensor, *, thickness: int, n_convolutions: int) -> list[Slab]:
    """Slabs with a box for each convolution, enough to compute what :func:`plane_boxes` says exactly.

    What an output in the body needs of the planes that convolution number k of L is fed lies within L - k voxels of
    it. So the box is that of the body in planes start - L to stop + L - 2k, grown by L - k: for 18 convolutions a
    margin of 18 voxels at the first, which shrinks to 1. By induction over the convolutions all that is needed is in
    the boxes, whatever stands beyond. Slabs with no body within reach are left out.

    Parameters
    ----------
    cells
        Where the body is at the working resolution, bool. Shape (X, Y, Z).
    thickness
        Planes of a slab.
    n_convolutions
        3x3x3 convolutions of the network, one after another.
    """
    n, reach = cells.shape[0], n_convolutions
    rows, columns = cells.any(dim=2), cells.any(dim=1)
    slabs: list[Slab] = []
    for start in range(0, n + reach, thickness):
        stop = min(start + thickness, n + reach)
        boxes: list[Box] = []
        for k in range(n_convolutions):
            planes = slice(max(start - reach, 0), max(stop + reach - 2 * k, 0))
            y = _extent(rows[planes].any(dim=0), reach - k)
            z = _extent(columns[planes].any(dim=0), reach - k)
            if y is not None and z is not None:
                boxes.append(Box(y, z))
            elif boxes:
                boxes.append(boxes[-1])
            else:
                break
        if boxes:
            begins = not slabs or slabs[-1].stop < start
            slabs.append(Slab(start, stop, n, tuple(boxes), begins=begins))
    return slabs


def plane_boxes(cells: Tensor) -> Tensor:
    """Bounding box of the body in every plane along X, as bool of the shape of cells (X, Y, Z)."""
    return _spanned(cells.any(dim=2))[:, :, None] & _spanned(cells.any(dim=1))[:, None, :]


def computed_fraction(slabs: Sequence[Slab], shape: Sequence[int]) -> float:
    """Part of the work on a whole volume of this shape (X, Y, Z) that the slabs are."""
    n_convolutions = len(slabs[0].boxes) if slabs else 1
    return sum(slab.size for slab in slabs) / (shape[0] * shape[1] * shape[2] * n_convolutions)


def occupied_cells(x: Tensor, *, threshold: float, cell: int, n_planes: int = 32) -> Tensor:
    """Cells of cell^3 voxels of x (1, 1, X, Y, Z) that hold any voxel of the body, bool.

    Shape (ceil(X / cell), ceil(Y / cell), ceil(Z / cell)). Worked off in pieces of ``n_planes`` planes, which hold
    the bits of the whole.
    """
    size = -(-n_planes // cell) * cell
    return torch.cat([_any_of(mask, cell) for mask in body_mask_pieces(x, threshold=threshold, n_planes=size)])


def body_mask_pieces(x: Tensor, *, threshold: float, n_planes: int) -> Iterator[Tensor]:
    """:func:`~pipeline.networks.body_mask` of x (1, 1, X, Y, Z) in pieces (1, 1, n_planes, Y, Z)."""
    for start in range(0, x.shape[2], n_planes):
        stop = min(start + n_planes, x.shape[2])
        low = max(start - BODY_MASK_RADIUS, 0)
        piece = body_mask(x[:, :, low : stop + BODY_MASK_RADIUS], threshold)
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


def _extent(occupied: Tensor, margin: int) -> slice | None:
    where = occupied.nonzero()
    if not len(where):
        return None
    start, stop, n = int(where[0]) - margin, int(where[-1]) + 1 + margin, len(occupied)
    return slice(max(start, 0) // _BOX_STEP * _BOX_STEP, min(-(-stop // _BOX_STEP) * _BOX_STEP, n))
