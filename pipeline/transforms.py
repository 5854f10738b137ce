"""Transforms of SUV volumes: to what a network sees and back, the scale that weights carry, random ones of training."""

import math
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, RandomizableTransform
from torch import Tensor

from pipeline.constants import FWHM_PER_SIGMA, OSEM_NOISE_POWER
from pipeline.pet import PETSeries

__all__ = [
    "RandInsertLesiond",
    "RandScaleUptaked",
    "ScaleSUVd",
    "insert_lesion",
    "lesion_profile",
    "pet_to_tensor",
    "scale_of",
    "scale_suv",
    "tensor_to_pet",
    "with_scale",
]

_SCALE_KEY = "unipet_suv_scale"


def pet_to_tensor(series: PETSeries) -> MetaTensor:
    """Return a SUVbw volume as MetaTensor (1, X, Y, Z), float32, with its RAS+ affine [mm]."""
    return MetaTensor(torch.from_numpy(series.suv)[None], affine=torch.from_numpy(series.affine))


def tensor_to_pet(pred: Tensor, source: PETSeries, *, suv_scale: float, note: str) -> PETSeries:
    """Return a network's output (1, X, Y, Z) in scaled SUV as a series with the grid and the header of its source.

    Activity is not negative: where the network says so, the voxel is 0, or the source's own value if that is
    negative, too. ``note`` goes into the provenance of the series.
    """
    suv = (pred.detach().cpu().float() * suv_scale)[0].numpy()
    return source.with_suv(np.maximum(suv, np.minimum(source.suv, 0)), note=note)


def scale_suv(suv: Tensor, *, suv_scale: float) -> Tensor:
    """Return SUV [g/mL] in network units: suv / suv_scale. With 2, soft tissue lies near 1."""
    return suv / suv_scale


def with_scale(state_dict: Mapping[str, Tensor], suv_scale: float) -> "OrderedDict[str, Tensor]":
    """Return a state dict that carries its scale, SUVbw [g/mL] per network unit; keys and tensors are the same.

    The scale stands in the metadata that torch keeps, and saves, beside the tensors. Programs that do not know of it,
    such as MONAI's tools, see a plain state dict.
    """
    marked = OrderedDict(state_dict)
    metadata = dict(getattr(state_dict, "_metadata", {}))
    metadata[_SCALE_KEY] = {"suv_scale": float(suv_scale)}
    marked._metadata = metadata  # type: ignore[attr-defined]
    return marked


def scale_of(state_dict: Mapping[str, Tensor]) -> float | None:
    """Return the scale that a state dict carries, SUVbw [g/mL] per network unit; None if it carries none."""
    return getattr(state_dict, "_metadata", {}).get(_SCALE_KEY, {}).get("suv_scale")


class ScaleSUVd(MapTransform, InvertibleTransform):
    """Divide SUV volumes by ``suv_scale`` [g/mL]; the inverse multiplies."""

    def __init__(self, keys: KeysCollection, *, suv_scale: float = 2.0, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if suv_scale <= 0:
            raise ValueError(f"suv_scale must be positive, got {suv_scale}")
        self.suv_scale = suv_scale

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with each volume divided by ``suv_scale``."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = scale_suv(d[key], suv_scale=self.suv_scale)
            self.push_transform(d, key)
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with each volume multiplied by ``suv_scale``."""
        d = dict(data)
        for key in self.key_iterator(d):
            self.pop_transform(d, key)
            d[key] = d[key] * self.suv_scale
        return d


class RandScaleUptaked(RandomizableTransform, MapTransform):
    """Multiply SUV volumes by one random factor: lesions and organs of every uptake.

    Beside MONAI's RandScaleIntensityd, it draws the factor evenly in its logarithm and says what it was, under the key
    ``uptake_factor``, a float32 tensor (): the statistics of the scan's noise go along with it.

    Parameters
    ----------
    keys
        Volumes, all of which get the same factor.
    factors
        Smallest and largest factor.
    prob
        Probability of a factor other than 1.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        factors: tuple[float, float],
        prob: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        low, high = factors
        if not 0 < low <= high:
            raise ValueError(f"factors must be positive and rise, got {factors}")
        self.factors = (low, high)
        self.factor = 1.0

    def randomize(self, data: Any = None) -> None:
        """Draw the factor of all keys."""
        super().randomize(None)
        low, high = self.factors
        self.factor = math.exp(self.R.uniform(math.log(low), math.log(high))) if self._do_transform else 1.0

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with each volume multiplied by one factor."""
        self.randomize()
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = d[key] * self.factor
        d["uptake_factor"] = torch.tensor(self.factor, dtype=torch.float32)
        return d


def lesion_profile(
    shape: tuple[int, int, int],
    *,
    center: tuple[float, float, float],
    radii: tuple[float, float, float],
    fwhm: float,
) -> Tensor:
    """Ellipsoid of height 1 as a scanner shows it, shape (X, Y, Z).

    A sphere of radius R smoothed by a Gaussian has the closed form below; an ellipsoid is that of the sphere of its
    volume along stretched axes. What is small comes out faint.

    Parameters
    ----------
    center, radii
        [voxel].
    fwhm
        Resolution of the scanner [voxel].
    """
    axes = [(torch.arange(n, dtype=torch.float64) - c) / r for n, c, r in zip(shape, center, radii, strict=True)]
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
    mean = F.avg_pool3d(label[None], 5, stride=1, padding=2, count_include_pad=False)[0].clamp_min(threshold)
    added = uptake * profile
    gain = ((mean + added) / mean) ** OSEM_NOISE_POWER
    full = label + added + (gain - 1) * (label - mean)
    return full + gain * (image - label), full


class RandInsertLesiond(RandomizableTransform, MapTransform):
    """Insert up to ``max_lesions`` ellipsoidal lesions at random places of the body into a patch.

    Diversity of lesions is what keeps new ones: a network learns those that it has seen. Diameters are drawn evenly in
    their logarithm, as are the factors by which the uptake exceeds what surrounds it; axes differ by up to a third.

    Parameters
    ----------
    keys
        Low-dose image and full-dose label, in this order, (1, X, Y, Z), SUV [g/mL].
    prob
        Probability that a patch gets any.
    max_lesions
        Most lesions of a patch.
    diameters
        Smallest and largest mean diameter [voxel].
    contrasts
        Smallest and largest uptake over that of the surroundings, less 1.
    fwhm
        Smallest and largest resolution of the scanner [voxel].
    body_threshold
        Lesions are centred where the label exceeds this SUV.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        prob: float = 0.5,
        max_lesions: int = 3,
        diameters: tuple[float, float] = (1.5, 7.0),
        contrasts: tuple[float, float] = (0.7, 10.0),
        fwhm: tuple[float, float] = (1.0, 1.8),
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
        low, full = self.keys
        where = torch.nonzero(d[full][0] > self.body_threshold)
        if not len(where):
            return d
        for _ in range(int(self.R.randint(1, self.max_lesions + 1))):
            center = where[int(self.R.randint(len(where)))]
            around = tuple(slice(max(int(c) - 3, 0), int(c) + 4) for c in center)
            surroundings = float(d[full][0][around].mean())
            radius = self._draw(self.diameters) / 2
            shape = self.R.uniform(0.8, 1.25, size=3)
            profile = lesion_profile(
                tuple(d[full].shape[1:]),
                center=tuple(float(c) + float(self.R.uniform(-0.5, 0.5)) for c in center),  # type: ignore[arg-type]
                radii=tuple(float(radius * s) for s in shape),  # type: ignore[arg-type]
                fwhm=float(self.R.uniform(*self.fwhm)),
            )
            uptake = self._draw(self.contrasts) * max(surroundings, self.body_threshold)
            d[low], d[full] = insert_lesion(d[low], d[full], profile, uptake=uptake)
        return d

    def _draw(self, limits: tuple[float, float]) -> float:
        return math.exp(self.R.uniform(math.log(limits[0]), math.log(limits[1])))
