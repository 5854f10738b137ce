"""Local noise: how noisy each place of a scan is, measured from the image alone, for the network to see beside it.

The style says how noisy a scan is as a whole. Within one, noise varies: it rises where sensitivity falls, at the ends
of the scan and between two beds, and in thick parts of the body.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.constants import OSEM_NOISE_POWER
from pipeline.networks.noise.statistics import OFFSET_SUV, TISSUE_SUV, body_box, tissue_mask

__all__ = ["NOISE_CHANNELS", "LocalNoise", "noise_map"]

NOISE_CHANNELS = 2
"""Channels of a map: the noise between neighbours, and by how much that at twice the distance exceeds it."""

_BLOCK = (8, 8, 2)  # voxels; along Z no more, for noise changes from plane to plane
_MEAN_RADIUS = 3  # voxels in plane of the mean that the noise is relative to
_MARGIN = 2  # voxels in plane from the skin, whose edge is no noise
# Voxels that the mean of the slice counts for beside those of a place, and that of the scan beside a slice's.
_PRIOR = 64.0
_PLANES = 64  # along X at once: bounds the memory; a multiple of the block's edge
_HALO = 8
_TINY = 1e-3  # root of the noise of an image without any, so that its logarithm exists
_RANGE = 3.0  # standard deviations


def noise_map(x: Tensor, *, cell: int = 2, suv_scale: float = 2.0, tissue_threshold: float = TISSUE_SUV) -> Tensor:
    """Return the local noise of whole scans on a grid of cells.

    The measure is |mixed second difference in plane| over (local mean + offset)^0.6, as in
    :func:`~pipeline.networks.noise_statistics`; the mean of its square root over 24 x 24 x 2 voxels of the body, which
    edges hardly move. Where a place holds little body its slice decides, and the whole scan where the slice does.

    Parameters
    ----------
    x
        Scans, shape (B, 1, X, Y, Z), scaled SUV.
    cell
        Voxels of x per voxel of the map, along each axis: 1 or 2.
    suv_scale
        SUVbw [g/mL] per network unit.
    tissue_threshold
        A voxel belongs to the body if its 5x5x5 mean exceeds this, SUVbw [g/mL].

    Returns
    -------
    Tensor
        Logarithms, shape (B, 2, ceil(X / cell), ceil(Y / cell), ceil(Z / cell)), float32 at least.
    """
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        maps = [_of_scan(scan, tissue_threshold / suv_scale, OFFSET_SUV / suv_scale) for scan in x.split(1)]
        scale = tuple(edge / cell for edge in _BLOCK)
        fine = F.interpolate(torch.cat(maps), scale_factor=scale, mode="trilinear", align_corners=False)
        n_x, n_y, n_z = (-(-n // cell) for n in x.shape[2:])
        return fine[:, :, :n_x, :n_y, :n_z].contiguous()


class LocalNoise(nn.Module):
    """The noise map as channels beside the image: standardised, 3 standard deviations at most.

    What it is standardised by is kept in buffers, hence in the checkpoint; :meth:`fit` sets it from training scans.
    `suv_scale` is SUVbw [g/mL] per network unit, `tissue_threshold` that of :func:`noise_map`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, suv_scale: float = 2.0, tissue_threshold: float = TISSUE_SUV) -> None:
        super().__init__()
        self.suv_scale = suv_scale
        self.tissue_threshold = tissue_threshold
        self.register_buffer("mean", torch.zeros(NOISE_CHANNELS))
        self.register_buffer("std", torch.ones(NOISE_CHANNELS))

    def measure(self, x: Tensor, *, cell: int) -> Tensor:
        """Return the noise map of whole scans x (B, 1, X, Y, Z)."""
        return noise_map(x, cell=cell, suv_scale=self.suv_scale, tissue_threshold=self.tissue_threshold)

    @torch.no_grad()
    def fit(self, means: Tensor, variances: Tensor) -> None:
        """Standardise by the means and variances (N, 2) of the maps of N training scans.

        Raises
        ------
        ValueError
            If the noise is the same everywhere.
        """
        total = variances.mean(dim=0) + means.var(dim=0, correction=0)
        if not (total > 0).all():
            raise ValueError(f"the noise of {len(means)} scans is the same everywhere, expected noise that differs")
        self.mean.copy_(means.mean(dim=0))
        self.std.copy_(total.sqrt())

    def forward(self, measured: Tensor) -> Tensor:
        """Return the channels (B, 2, X', Y', Z') of a map of such."""
        shape = (1, -1, 1, 1, 1)
        standardised = (measured.to(self.mean.dtype) - self.mean.view(shape)) / self.std.view(shape)
        return standardised.clamp(-_RANGE, _RANGE)


def _of_scan(x: Tensor, threshold: float, offset: float) -> Tensor:
    """Return the map (1, 2, X / 8, Y / 8, Z / 2) of one scan, sizes rounded up; threshold and offset in its units."""
    box = body_box(x, threshold, edges=_BLOCK)
    part = x[box]
    sums = torch.cat([_sums(part, start, threshold, offset) for start in range(0, part.shape[2], _PLANES)], dim=2)[0]
    # Where the box ends there is no body.
    before = [(side.start or 0) // edge for side, edge in zip(box[2:], _BLOCK, strict=True)]
    n_blocks = [-(-n // edge) for n, edge in zip(x.shape[2:], _BLOCK, strict=True)]
    after = [n - b - m for n, b, m in zip(n_blocks, before, sums.shape[1:], strict=True)]
    fine, coarse, count = F.pad(sums, [p for pair in zip(before[::-1], after[::-1], strict=True) for p in pair])
    count = _around(count)
    slice_count = count.sum(dim=(0, 1), keepdim=True)
    levels = []
    for total in (_around(fine), _around(coarse)):
        slice_total = total.sum(dim=(0, 1), keepdim=True)
        of_scan = slice_total.sum() / slice_count.sum().clamp_min(1)
        of_slice = (slice_total + _PRIOR * of_scan) / (slice_count + _PRIOR)
        level = (total + _PRIOR * of_slice) / (count + _PRIOR)
        levels.append(2 * level.clamp_min(_TINY).log())
    return torch.stack([levels[0], levels[1] - levels[0]])[None]


def _sums(x: Tensor, start: int, threshold: float, offset: float) -> Tensor:
    """Sums over blocks of the planes from a start: roots of the noise at two distances, and voxels; (1, 3, ., ., .)."""
    stop = min(start + _PLANES, x.shape[2])
    low, high = max(start - _HALO, 0), min(stop + _HALO, x.shape[2])
    x = x[:, :, low:high]
    inside = _eroded(tissue_mask(x, threshold))
    scale = (_mean_in_plane(x).clamp_min(0) + offset) ** OSEM_NOISE_POWER
    values = [torch.where(inside, (_difference(x, step) / scale).sqrt(), 0.0) for step in (1, 2)]
    stacked = torch.cat([*values, inside.to(x.dtype)], dim=1)[:, :, start - low : stop - low]
    missing = [-n % edge for n, edge in zip(stacked.shape[2:], _BLOCK, strict=True)]
    stacked = F.pad(stacked, [p for n in reversed(missing) for p in (0, n)])
    for dim, edge in zip((2, 3, 4), _BLOCK, strict=True):
        stacked = stacked.unflatten(dim, (-1, edge)).sum(dim + 1)
    return stacked


def _difference(x: Tensor, step: int) -> Tensor:
    """|Mixed second difference| in plane about each voxel of x (B, 1, X, Y, Z), repeated values beyond the border."""
    for dim in (2, 3):
        below, above = step // 2, step - step // 2
        n = x.shape[dim]
        index = torch.arange(n, device=x.device)
        x = x.index_select(dim, (index + above).clamp_max(n - 1)) - x.index_select(dim, (index - below).clamp_min(0))
    return x.abs()


def _mean_in_plane(x: Tensor) -> Tensor:
    """Mean over 7 x 7 voxels in plane, repeated values beyond the border."""
    for dim in (2, 3):
        n = x.shape[dim]
        index = torch.arange(n, device=x.device)
        shifts = range(-_MEAN_RADIUS, _MEAN_RADIUS + 1)
        x = sum(x.index_select(dim, (index + k).clamp(0, n - 1)) for k in shifts) / len(shifts)  # type: ignore[assignment]
    return x


def _eroded(mask: Tensor) -> Tensor:
    """Mask (B, 1, X, Y, Z) less what lies within the margin of its edge, or of the volume's, in plane."""
    outside = F.pad(~mask, (0, 0, _MARGIN, _MARGIN, _MARGIN, _MARGIN), value=True)
    for dim in (2, 3):
        outside = outside.unfold(dim, 2 * _MARGIN + 1, 1).any(dim=-1)
    return ~outside


def _around(total: Tensor) -> Tensor:
    """Sums over each block (X, Y, Z) and its eight neighbours in plane."""
    for dim in (0, 1):
        padded = F.pad(total, (0, 0, 1, 1) if dim == 1 else (0, 0, 0, 0, 1, 1))
        total = sum(padded.narrow(dim, k, total.shape[dim]) for k in range(3))  # type: ignore[assignment]
    return total
