"""Lesions inserted into pairs of scans: a network keeps those that are like what it has seen."""

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from torch import Tensor

from pipeline.constants import FWHM_PER_SIGMA, OSEM_NOISE_POWER

__all__ = ["RandInsertLesiond", "insert_lesion", "lesion_profile"]

_STRIDE = 4  # of the voxels among which centres are drawn


def lesion_profile(
    shape: tuple[int, int, int],
    *,
    center: tuple[float, float, float],
    radii: tuple[float, float, float],
    fwhm: float,
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0),
    device: torch.device | str = "cpu",
) -> Tensor:
    """Ellipsoid of height 1 as a scanner shows it, shape (X, Y, Z).

    A sphere of radius R smoothed by a Gaussian has the closed form below; an ellipsoid is that of the sphere of its
    volume along stretched axes. What is small comes out faint.

    Parameters
    ----------
    center
        [voxel].
    radii
        [mm].
    fwhm
        Resolution of the scanner [mm].
    voxel_size
        [mm].
    """
    axes = [
        (torch.arange(n, dtype=torch.float64, device=device) - c) * side / r
        for n, c, side, r in zip(shape, center, voxel_size, radii, strict=True)
    ]
    distance = axes[0][:, None, None].square() + axes[1][None, :, None].square() + axes[2][None, None, :].square()
    # In units of sqrt(2) sigma; not quite 0, where the form is 0 / 0.
    unit = math.sqrt(2) * fwhm / FWHM_PER_SIGMA
    radius = float(np.prod(radii)) ** (1 / 3) / unit
    r = (distance.sqrt() * radius).clamp_min(1e-4)
    edges = (torch.erf(r + radius) - torch.erf(r - radius)) / 2
    spread = ((-(r - radius).square()).exp() - (-(r + radius).square()).exp()) / (2 * math.sqrt(math.pi) * r)
    return (edges - spread).float()


def insert_lesion(
    image: Tensor, label: Tensor, profile: Tensor, *, uptake: float, threshold: float = 0.1
) -> tuple[Tensor, Tensor]:
    """Low-dose image and full-dose label (1, X, Y, Z), SUV, with a lesion of ``uptake`` [g/mL] times its profile.

    The full dose's own noise, and what the low dose has more of it, grow where the uptake does, as SD ~ uptake^0.6:
    a lesion without noise would teach that what is hot is smooth. Local uptake is the 5x5x5 mean.
    """
    kernel = [min(5, n - 1 + n % 2) for n in label.shape[1:]]  # no longer than the image, and odd
    mean = F.avg_pool3d(label[None], kernel, stride=1, padding=[n // 2 for n in kernel], count_include_pad=False)[0]
    mean = mean.clamp_min(threshold)
    added = uptake * profile
    gain = ((mean + added) / mean) ** OSEM_NOISE_POWER
    full = label + added + (gain - 1) * (label - mean)
    return full + gain * (image - label), full


class RandInsertLesiond(RandomizableTransform, MapTransform):
    """Insert ellipsoidal lesions at random places of the body into a pair of scans.

    Diversity of lesions is what keeps new ones: a network learns those that it has seen. Diameters are drawn evenly in
    their logarithm, as are the factors by which the uptake exceeds what surrounds it; axes differ by up to a third.

    The data have ``voxel_size``, a float tensor (3,) [mm]. Each lesion is given the next free number in ``lesions``,
    (1, X, Y, Z), int16, which is made if it is missing.

    Parameters
    ----------
    keys
        Low-dose image and full-dose label, in this order, (1, X, Y, Z), SUV [g/mL].
    prob
        Part of the scans that get any.
    max_lesions
        Most lesions of a scan.
    diameters
        Smallest and largest mean diameter [mm].
    contrasts
        Smallest and largest uptake over that of the surroundings, less 1.
    fwhm
        Smallest and largest resolution of the scanner [mm].
    body_threshold
        Lesions are centred where the label exceeds this SUV.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        prob: float = 0.8,
        max_lesions: int = 40,
        diameters: tuple[float, float] = (6.0, 35.0),
        contrasts: tuple[float, float] = (0.5, 10.0),
        fwhm: tuple[float, float] = (3.5, 8.5),
        body_threshold: float = 0.3,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        if len(self.keys) != 2:
            raise ValueError(f"keys must be low-dose image and full-dose label, got {len(self.keys)} of them")
        if max_lesions < 1 or not (0 < diameters[0] <= diameters[1] and 0 < contrasts[0] <= contrasts[1]):
            raise ValueError(f"max_lesions {max_lesions}, diameters {diameters}, contrasts {contrasts}: out of range")
        self.max_lesions = max_lesions
        self.diameters = diameters
        self.contrasts = contrasts
        self.fwhm = fwhm
        self.body_threshold = body_threshold

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the same lesions in both images."""
        self.randomize(None)
        d = dict(data)
        if not self._do_transform:
            return d
        low, full = (d[key].clone() for key in self.keys)
        lesions = d["lesions"].clone() if "lesions" in d else torch.zeros_like(full, dtype=torch.int16)
        where = torch.nonzero(full[0, ::_STRIDE, ::_STRIDE, ::_STRIDE] > self.body_threshold) * _STRIDE
        number = int(lesions.max())
        for _ in range(int(self.R.randint(1, self.max_lesions + 1)) if len(where) else 0):
            number += 1
            self._insert(low, full, lesions, where[int(self.R.randint(len(where)))], d["voxel_size"], number)
        d[self.keys[0]], d[self.keys[1]], d["lesions"] = low, full, lesions
        return d

    def _insert(
        self, low: Tensor, full: Tensor, lesions: Tensor, place: Tensor, voxel_size: Tensor, number: int
    ) -> None:
        """Insert one lesion near a voxel, in place."""
        center = place.cpu().numpy() + self.R.uniform(-_STRIDE / 2, _STRIDE / 2, size=3)
        radii = self._draw(self.diameters) / 2 * self.R.uniform(0.8, 1.25, size=3)
        fwhm = float(self.R.uniform(*self.fwhm))
        contrast = self._draw(self.contrasts)
        sides = voxel_size.cpu().numpy().astype(float)
        reach = np.ceil((radii + 1.5 * fwhm) / sides) + 3
        box = tuple(
            slice(max(int(c - r), 0), min(int(c + r) + 1, n))
            for c, r, n in zip(center, reach, full.shape[1:], strict=True)
        )
        part, label = low[(slice(None), *box)], full[(slice(None), *box)]
        if label.numel() == 0:
            return
        profile = lesion_profile(
            (part.shape[1], part.shape[2], part.shape[3]),
            center=(center[0] - box[0].start, center[1] - box[1].start, center[2] - box[2].start),
            radii=(radii[0], radii[1], radii[2]),
            fwhm=fwhm,
            voxel_size=(sides[0], sides[1], sides[2]),
            device=full.device,
        )
        surroundings = float((label[0] * profile).sum() / profile.sum().clamp_min(1e-6))
        uptake = contrast * max(surroundings, self.body_threshold)
        new_low, new_full = insert_lesion(part, label, profile, uptake=uptake)
        part.copy_(new_low)
        label.copy_(new_full)
        lesions[(slice(None), *box)].masked_fill_(profile[None] > 0.5 * float(profile.max()), number)

    def _draw(self, limits: tuple[float, float]) -> float:
        return math.exp(self.R.uniform(math.log(limits[0]), math.log(limits[1])))
