"""What a scan would be like from another scanner: other filters, other voxels, another uptake.

A post-filter and a change of voxels are linear: applied to the images of all doses alike, they give the images that the
same counts would have given. So a few reconstructions, unfiltered, stand for those of many scanners.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from torch import Tensor

from pipeline.constants import FWHM_PER_SIGMA

__all__ = ["KeepLargeScaled", "RandReconstructiond", "RandScaleUptaked", "gaussian_filter", "resampled"]

_TRUNCATE = 3.5  # standard deviations, where a Gaussian ends
_ENDS = 0.5  # part of the shortened scans that keep an end of the scan
_COARSE = 6.0  # [mm] that a volume is averaged to before it is smoothed over tens of millimetres


def gaussian_filter(x: Tensor, sigma: Sequence[float]) -> Tensor:
    """Return x (C, X, Y, Z) after a Gaussian of these standard deviations along X, Y, Z [voxel]; its border repeats.

    On the tensor's own device, plane after plane of shifted copies: torch's convolutions take several times as long.
    """
    for dim, width in zip((1, 2, 3), sigma, strict=True):
        reach = math.ceil(_TRUNCATE * width)
        if width < 0.05:  # what is left of the neighbours is less than 1e-80
            continue
        n = x.shape[dim]
        weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / width) ** 2)
        weights /= weights.sum()
        index = torch.arange(-reach, n + reach, device=x.device).clamp(0, n - 1)
        padded = x.index_select(dim, index)
        out = torch.zeros_like(x)
        for k, weight in enumerate(weights.tolist()):
            out.add_(padded.narrow(dim, k, n), alpha=weight)
        x = out
    return x


def resampled(x: Tensor, step: Sequence[float], *, offset: Sequence[float] = (0.0, 0.0, 0.0)) -> Tensor:
    """Return x (C, X, Y, Z) at voxels ``offset + step k``, all inside of it, by cubic convolution.

    Parameters
    ----------
    step
        New voxel size over the old one, along X, Y, Z.
    offset
        Where the first new voxel lies [old voxel].

    References
    ----------
    Keys, IEEE Trans ASSP 1981;29:1153, with a = -1/2.
    """
    for dim, width, first in zip((1, 2, 3), step, offset, strict=True):
        n = x.shape[dim]
        if width == 1 and first == 0:
            continue
        size = int((n - 1 - first) / width) + 1
        positions = first + width * torch.arange(size, dtype=torch.float64)
        below = positions.floor().long()
        t = (positions - below).to(x.dtype)
        weights = (
            ((-0.5 * t + 1.0) * t - 0.5) * t,
            (1.5 * t - 2.5) * t * t + 1,
            ((-1.5 * t + 2.0) * t + 0.5) * t,
            (0.5 * t - 0.5) * t * t,
        )
        shape = [-1 if k == dim else 1 for k in range(4)]
        out: Tensor | None = None
        for k, weight in enumerate(weights):
            index = (below + k - 1).clamp(0, n - 1).to(x.device)
            term = x.index_select(dim, index) * weight.view(shape).to(x.device)
            out = term if out is None else out.add_(term)
        assert out is not None
        x = out
    return x


class RandReconstructiond(RandomizableTransform, MapTransform):
    """Filter scans and bring them to other voxels, all keys alike: what another scanner would have shown of them.

    The data have ``voxel_size``, a float tensor (3,) [mm], which becomes that of the result. Labels are brought to
    the new voxels by their nearest, and not filtered.

    Parameters
    ----------
    keys
        Images, (1, X, Y, Z).
    label_keys
        Label maps, (1, X, Y, Z); those that are missing are left out.
    fwhm
        Narrowest and widest Gaussian after reconstruction, full width at half maximum [mm]. Along Z the width is that
        in plane, none, or another one, a third of the scans each.
    voxel_size
        Smallest and largest voxel size [mm]; that in plane and that along Z are drawn evenly in their logarithms.
    anisotropy
        Smallest and largest voxel size along Z over that in plane.
    prob
        Part of the scans that are filtered and brought to other voxels; of the others half are filtered.
    max_voxels
        Longer scans are shortened along Z to so many voxels, a plane at least; half of these keep an end of the scan.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        label_keys: Sequence[str] = ("lesions",),
        fwhm: tuple[float, float] = (0.0, 8.5),
        voxel_size: tuple[float, float] = (1.6, 6.0),
        anisotropy: tuple[float, float] = (0.5, 2.2),
        prob: float = 0.85,
        max_voxels: int = 4_000_000,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        for name, (low, high), lowest in (("fwhm", fwhm, 0), ("voxel_size", voxel_size, 0.1)):
            if not lowest <= low <= high:
                raise ValueError(f"{name} is {low} to {high}, expected a range from {lowest} mm up")
        if not 0 < anisotropy[0] <= 1 <= anisotropy[1]:
            raise ValueError(f"anisotropy is {anisotropy}, expected a range that holds 1")
        if max_voxels < 1:
            raise ValueError(f"max_voxels is {max_voxels}, expected at least 1")
        self.label_keys = tuple(label_keys)
        self.fwhm = fwhm
        self.voxel_size = voxel_size
        self.anisotropy = anisotropy
        self.max_voxels = max_voxels

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data as another scanner would have shown them."""
        d = dict(data)
        old = [float(size) for size in d["voxel_size"]]
        self.randomize(None)
        new, widths = self._draw(old)
        shape = d[self.keys[0]].shape[1:]
        offset = [
            float(self.R.uniform(0, max(min(b / a, n - 1.0), 0.0))) for a, b, n in zip(old, new, shape, strict=True)
        ]
        step = [b / a for a, b in zip(old, new, strict=True)]
        if new == old:
            offset = [0.0] * 3
        first, stop = self._planes(shape, step)
        offset[2] = min(offset[2], stop - first - 1.0)
        labels = [key for key in self.label_keys if key in d]
        for key in (*self.keys, *labels):
            d[key] = d[key][..., first:stop]
        for key in self.key_iterator(d):
            sigma = [w / FWHM_PER_SIGMA / v for w, v in zip(widths, old, strict=True)]
            d[key] = resampled(gaussian_filter(d[key], sigma), step, offset=offset)
        for key in labels:
            d[key] = _nearest(d[key], step, offset)
        d["voxel_size"] = torch.tensor(new)
        return d

    def _draw(self, old: list[float]) -> tuple[list[float], list[float]]:
        """Voxel size and widths of the filter along X, Y, Z [mm]."""
        is_resampled, new = self._do_transform, list(old)
        if is_resampled:
            in_plane = self._log_uniform(*self.voxel_size)
            low, high = self.voxel_size
            axial = self._log_uniform(
                max(low, self.anisotropy[0] * in_plane), max(min(high, self.anisotropy[1] * in_plane), low)
            )
            # Where X and Y differ, they keep their ratio.
            new = [in_plane, in_plane * old[1] / old[0], axial]
        elif self.R.random() < 0.5:
            return new, [0.0] * 3
        # Noise of voxels as they were would come out uneven between new ones.
        low, high = (max(0.7 * old[0], self.fwhm[0]) if is_resampled else self.fwhm[0]), self.fwhm[1]
        width = float(self.R.uniform(min(low, high), high))
        kind = self.R.randint(3)
        axial = (width, 0.0, float(self.R.uniform(*self.fwhm)))[kind]
        if is_resampled and new[2] != old[2]:
            axial = max(axial, 0.7 * old[2])
        return new, [width, width, axial]

    def _planes(self, shape: Sequence[int], step: Sequence[float]) -> tuple[int, int]:
        """First and last plane of what fits into the largest number of voxels."""
        size_x, size_y = (int((n - 1) / width) + 1 for n, width in zip(shape[:2], step[:2], strict=True))
        n = math.ceil(max(self.max_voxels // (size_x * size_y), 1) * step[2])
        if n >= shape[2]:
            return 0, shape[2]
        first = int(self.R.randint(shape[2] - n + 1))
        if self.R.random() < _ENDS:
            first = int(self.R.choice([0, shape[2] - n]))
        return first, first + n

    def _log_uniform(self, low: float, high: float) -> float:
        return math.exp(self.R.uniform(math.log(low), math.log(high)))


class RandScaleUptaked(RandomizableTransform, MapTransform):
    """Multiply SUV volumes by one random factor: lesions and organs of every uptake.

    Beside MONAI's RandScaleIntensityd, it draws the factor evenly in its logarithm.

    Parameters
    ----------
    keys
        Volumes, all of which get the same factor.
    factors
        Smallest and largest factor.
    prob
        Probability of a factor other than 1.
    """

    def __init__(self, keys: KeysCollection, *, factors: tuple[float, float], prob: float = 1.0) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        low, high = factors
        if not 0 < low <= high:
            raise ValueError(f"factors must be positive and rise, got {factors}")
        self.factors = (low, high)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with each volume multiplied by one factor."""
        self.randomize(None)
        d = dict(data)
        low, high = self.factors
        factor = math.exp(self.R.uniform(math.log(low), math.log(high))) if self._do_transform else 1.0
        for key in self.key_iterator(d):
            d[key] = d[key] * factor
        return d


class KeepLargeScaled(MapTransform):
    """Give the full dose what the low dose has at large scale: label + G(image - label), within the body.

    A mean over a large region is no noise to take away: what the reconstruction of few counts makes of it differs from
    scanner to scanner, and a network that learnt to undo it in one would do so in all.

    Parameters
    ----------
    keys
        Low-dose image and full-dose label, in this order, (1, X, Y, Z), SUV [g/mL]; the data have ``voxel_size`` [mm].
        Several images as channels, (C, X, Y, Z), give the label as many: one for each.
    fwhm
        Of the Gaussian G, full width at half maximum [mm].
    threshold
        SUV of the label's mean over some 6 mm from which a place belongs to the body.
    """

    def __init__(self, keys: KeysCollection, *, fwhm: float = 30.0, threshold: float = 0.1) -> None:
        super().__init__(keys)
        if len(self.keys) != 2:
            raise ValueError(f"keys must be low-dose image and full-dose label, got {len(self.keys)} of them")
        self.fwhm = fwhm
        self.threshold = threshold

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with another label."""
        d = dict(data)
        low, full = (d[key] for key in self.keys)
        shape = full.shape[1:]
        sides = [float(size) for size in d["voxel_size"]]
        factors = [min(max(int(_COARSE / side), 1), n) for side, n in zip(sides, shape, strict=True)]
        mean = F.avg_pool3d(full, factors, ceil_mode=True, count_include_pad=False)
        difference = F.avg_pool3d(low - full, factors, ceil_mode=True, count_include_pad=False)
        body = (mean > self.threshold).to(mean.dtype)
        sigma = [self.fwhm / FWHM_PER_SIGMA / (side * f) for side, f in zip(sides, factors, strict=True)]
        filtered = gaussian_filter(torch.cat([difference * body, body]), sigma)
        smooth, weight = filtered[: len(difference)], filtered[len(difference) :]
        kept = body * smooth / weight.clamp_min(1e-3)
        padded = [n * f for n, f in zip(kept.shape[1:], factors, strict=True)]
        fine = F.interpolate(kept[None], size=padded, mode="trilinear", align_corners=False)[0]
        d[self.keys[1]] = full + fine[:, : shape[0], : shape[1], : shape[2]]
        return d


def _nearest(x: Tensor, step: Sequence[float], offset: Sequence[float]) -> Tensor:
    """Return labels x (1, X, Y, Z) at the voxels of `resampled`, each that of the nearest voxel."""
    for dim, width, first in zip((1, 2, 3), step, offset, strict=True):
        n = x.shape[dim]
        size = int((n - 1 - first) / width) + 1
        index = (first + width * torch.arange(size, dtype=torch.float64)).round().long()
        x = x.index_select(dim, index.clamp(0, n - 1).to(x.device))
    return x
