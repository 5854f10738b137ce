"""Style from statistics: seven numbers that say how noisy a scan is, and the layer that makes a style of them.

A scan has one style. What tells two doses apart is tiny beside what tells two people apart, so it is measured, not
learnt, by the same function in training and in use, and standardised across scans.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.constants import OSEM_NOISE_POWER, STYLE_RANGE

__all__ = [
    "NOISE_STATISTICS",
    "TISSUE_MASK_RADIUS",
    "StatisticsStyle",
    "noise_statistics",
    "tissue_mask",
]

NOISE_STATISTICS = ("quiet", "median", "uneven", "coarse", "coarser", "axial", "axial_coarse")
"""Names of the statistics, in order."""

STATISTICS_VERSION = 2
"""Raised whenever the same scan gives other statistics: caches of them are then measured anew."""

TISSUE_MASK_RADIUS = 2
"""Voxels to each side that decide whether a voxel belongs to the body."""

TISSUE_SUV = 0.1
"""5x5x5 mean from which a voxel counts as tissue, SUVbw [g/mL]: below that of lung, above that of air."""

OFFSET_SUV = 0.1
"""Keeps the uptake of lung and air from dividing by nearly nothing, SUVbw [g/mL]."""

_WIDTH = 7  # voxels of the window of a local mean
_REACH = _WIDTH + 2 * TISSUE_MASK_RADIUS  # voxels to a side that decide about a window
_FEWEST_WINDOWS = 50
_PLANES = 32  # windows along X at once: bounds the memory
_TINY = 1e-6  # noise of an image without any, so that its logarithm exists

# Mixed second differences: pairs of dimensions and the distance between their voxels.
_KINDS: list[list[tuple[tuple[int, int], int]]] = [
    *([((2, 3), step)] for step in (1, 2, 4)),
    *([((2, 4), step), ((3, 4), step)] for step in (1, 2)),
]


def noise_statistics(x: Tensor, *, suv_scale: float = 2.0, tissue_threshold: float = TISSUE_SUV) -> Tensor:
    """Return statistics of the local noise of whole scans, the same for any field of view around the body and any flip.

    The local noise is the mean of |mixed second difference| over a window of 7x7x7 voxels, which takes away whatever
    is linear, over (local mean + offset)^0.6, which takes away most of its dependence on uptake. Only windows that lie
    in the body altogether count.

    Parameters
    ----------
    x
        Scans, shape (B, 1, X, Y, Z), scaled SUV: the first statistic is in these units.
    suv_scale
        SUVbw [g/mL] per network unit.
    tissue_threshold
        A voxel belongs to the body if its 5x5x5 mean exceeds this, SUVbw [g/mL].

    Returns
    -------
    Tensor
        Shape (B, 7), float32 at least. ``quiet``: log of the local noise's 20th percentile, which rises by half the
        log of the dose reduction factor. The others are logs of ratios to it: ``median`` and ``uneven`` its 50th and
        80th percentile, ``coarse`` and ``coarser`` the noise between voxels at twice and four times the distance,
        ``axial`` and ``axial_coarse`` between planes and every other plane; these four say over how many voxels noise
        is correlated, which follows the scanner, its filters and its voxels. NaN where fewer than 50 windows lie in
        the body.
    """
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        threshold, offset = tissue_threshold / suv_scale, OFFSET_SUV / suv_scale
        scans = [scan[body_box(scan, threshold)] for scan in x.split(1)]
        return torch.cat([_of_scan(scan, threshold, offset) for scan in scans])


def statistics_bytes(shape: tuple[int, ...]) -> int:
    """Most memory that :func:`noise_statistics` takes above that of a float32 scan of a shape (X, Y, Z)."""
    n_planes = min(shape[0], _PLANES + _REACH - 1 + 2 * TISSUE_MASK_RADIUS)
    # About eleven volumes of a slab at once, and five values of every window of the scan, one of them sorted.
    return 4 * (12 * n_planes + 7 * shape[0]) * shape[1] * shape[2]


class StatisticsStyle(nn.Module):
    """One latent from the noise statistics of a scan: standardised, then two linear layers.

    Parameters
    ----------
    width
        Length of the hidden layer.
    latent_size
        Length of the latent.

    Notes
    -----
    What the statistics are standardised by is kept in buffers, hence in the checkpoint; :meth:`fit` sets it from the
    training scans. Beyond 3 standard deviations a statistic counts as 3: a scan unlike any in training gets the style
    of the nearest one, not an extrapolated one. A scan that cannot be measured, because it holds too little body,
    gets the average style.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, width: int = 32, latent_size: int = 32) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(len(NOISE_STATISTICS)))
        self.register_buffer("std", torch.ones(len(NOISE_STATISTICS)))
        self.hidden = nn.Linear(len(NOISE_STATISTICS), width)
        self.to_latent = nn.Linear(width, latent_size)
        self.activation = nn.SiLU()

    @torch.no_grad()
    def fit(self, statistics: Tensor) -> None:
        """Standardise by mean and standard deviation of the training scans' statistics (N, 7), of all their doses.

        Raises
        ------
        ValueError
            If a statistic is the same for all scans, or fewer than two scans could be measured.
        """
        measured = statistics[statistics.isfinite().all(dim=1)]
        if len(measured) < 2 or (measured.std(dim=0) <= 0).any():
            raise ValueError(
                f"{len(measured)} of {len(statistics)} scans could be measured, expected at least two that differ"
            )
        self.mean.copy_(measured.mean(dim=0))
        self.std.copy_(measured.std(dim=0))

    def standardised(self, statistics: Tensor) -> Tensor:
        """Return how many standard deviations of the training scans each of the statistics (B, n) lies from their mean.

        Shape (B, n), not clamped; NaN where a scan could not be measured.
        """
        return (statistics.to(self.mean.dtype) - self.mean) / self.std

    def forward(self, statistics: Tensor) -> Tensor:
        """Latents (B, 1, latent_size) of statistics (B, 7)."""
        with torch.autocast(statistics.device.type, enabled=False):
            standardised = self.standardised(statistics).nan_to_num(nan=0.0).clamp(-STYLE_RANGE, STYLE_RANGE)
            hidden = self.activation(self.hidden(standardised))
            return self.activation(self.to_latent(hidden))[:, None]


def _of_scan(x: Tensor, threshold: float, offset: float) -> Tensor:
    """Return the statistics (1, 7) of one scan (1, 1, X, Y, Z); threshold and offset are in its units."""
    if min(x.shape[2:]) < _REACH:
        return x.new_full((1, len(NOISE_STATISTICS)), torch.nan)
    n_windows = x.shape[2] - _REACH + 1
    slabs = [(start, min(start + _PLANES, n_windows)) for start in range(0, n_windows, _PLANES)]
    pieces = [_noise_in_the_body(x, start, stop, threshold, offset) for start, stop in slabs]
    # A tensor, so that a trace holds for any number.
    n = torch.cat([torch.ones_like(piece[0]) for piece in pieces]).sum(dtype=torch.float64)
    fine = _sorted(torch.cat([piece[0] for piece in pieces]))
    quiet = _percentile(fine, n, 20)
    others = [_percentile(fine, n, 50), _percentile(fine, n, 80)]
    for kind in range(1, len(_KINDS)):
        others.append(_percentile(_sorted(torch.cat([piece[kind] for piece in pieces])), n, 20))
    statistics = torch.stack([quiet, *(value - quiet for value in others)])
    return statistics.where(n >= _FEWEST_WINDOWS, torch.nan)[None]


def _noise_in_the_body(x: Tensor, start: int, stop: int, threshold: float, offset: float) -> list[Tensor]:
    """Return the local noise of each kind, (n,), in the n windows start to stop that lie in the body."""
    margin = TISSUE_MASK_RADIUS
    stop += _REACH - 1  # planes that these windows need
    low, high = max(start - margin, 0), min(stop + margin, x.shape[2])
    mask = tissue_mask(x[:, :, low:high], threshold)[:, :, start - low : stop - low]
    # The mask reaches beyond the skin by its radius: so much farther must a window keep away from its edge.
    inside = _window_mean(mask.to(x.dtype), (_REACH,) * 3) > 1 - 0.5 / _REACH**3
    x = x[:, :, start + margin : stop - margin, margin:-margin, margin:-margin]
    scale = (_window_mean(x, (_WIDTH,) * 3)[inside].clamp_min(0) + offset) ** OSEM_NOISE_POWER
    return [_local_noise(x, kind)[inside] / scale for kind in _KINDS]


def _local_noise(x: Tensor, kind: list[tuple[tuple[int, int], int]]) -> Tensor:
    """Mean of |mixed second difference| over each 7x7x7 window, over all whose four voxels lie in the window."""
    total = torch.zeros(())
    for dims, step in kind:
        difference = x
        for dim in dims:
            n = x.shape[dim] - step
            difference = difference.narrow(dim, step, n) - difference.narrow(dim, 0, n)
        window = [_WIDTH - step if dim in dims else _WIDTH for dim in (2, 3, 4)]
        total = total + _window_mean(difference.abs(), window)
    return total / len(kind)


def _window_mean(x: Tensor, window: list[int] | tuple[int, ...]) -> Tensor:
    """Mean over every window that lies in x (B, 1, X, Y, Z) altogether; each side is shorter by the window's less 1."""
    for dim, width in zip((2, 3, 4), window, strict=True):
        n = x.shape[dim] - width + 1
        # A sum of shifted copies: torch's own pooling takes ten times as long.
        total = x.narrow(dim, 0, n).clone()
        for k in range(1, width):
            total += x.narrow(dim, k, n)
        x = total / width
    return x


def _sorted(values: Tensor) -> Tensor:
    """Values (N,) in rising order, infinity behind them so that there is one."""
    return torch.cat([values, values.new_full((1,), torch.inf)]).sort().values


def _percentile(ordered: Tensor, n: Tensor, percent: float) -> Tensor:
    """Log of a percentile of n values in order, a scalar. torch.quantile takes no more than 2^24 values."""
    index = (percent / 100 * (n - 1)).long().clamp_min(0)
    return ordered.index_select(0, index[None])[0].clamp_min(_TINY).log()


def body_box(x: Tensor, threshold: float, *, edges: tuple[int, int, int] = (1, 1, 1)) -> tuple[slice, ...]:
    """Return the index of the part of a scan (1, 1, X, Y, Z) that decides about its body; most of a scan is air.

    Its sides begin at multiples of these edges. All of the scan where no voxel is of the body, and in a trace, which
    must hold for other scans.
    """
    every = slice(None)
    if torch.jit.is_tracing():
        return every, every, every, every, every
    mask = tissue_mask(x, threshold)[0, 0]
    box = [every, every]
    in_plane, along_x = mask.any(dim=0), mask.any(dim=2).any(dim=1)
    for occupied, edge in zip((along_x, in_plane.any(dim=1), in_plane.any(dim=0)), edges, strict=True):
        planes = torch.nonzero(occupied).flatten()
        if not len(planes):
            return every, every, every, every, every
        first = max(int(planes[0]) - TISSUE_MASK_RADIUS, 0) // edge * edge
        box.append(slice(first, int(planes[-1]) + TISSUE_MASK_RADIUS + 1))
    return tuple(box)


def tissue_mask(x: Tensor, threshold: float) -> Tensor:
    """Voxels of x (B, 1, X, Y, Z) whose 5x5x5 mean exceeds the threshold, bool of the same shape.

    What lies outside the volume counts as zero. A sum of shifted copies: torch's own pooling takes twenty times as
    long, and this one gives a part of a volume the bits that it gives the whole.
    """
    width = 2 * TISSUE_MASK_RADIUS + 1
    total = F.pad(x, (TISSUE_MASK_RADIUS,) * 6)
    for dim in (2, 3, 4):
        n = total.shape[dim] - width + 1
        running = total.narrow(dim, 0, n).clone()
        for k in range(1, width):
            running += total.narrow(dim, k, n)
        total = running
    return total > threshold * width**3
