"""Random noise insertion: a full-dose volume becomes one of a random lower dose while training."""

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform

from pipeline.errors import PETError
from pipeline.simulation import GENERIC, Scanner
from pipeline.simulation.attenuation import attenuation_from_body
from pipeline.simulation.low_dose import LARGEST_FACTOR
from pipeline.simulation.noise_insertion import InsertionSettings, insert_noise, scanner_of

__all__ = ["RandInsertNoised", "slab_margin"]


def slab_margin(scanner: Scanner, *, slice_spacing: float) -> int:
    """Slices at each end of a slab whose noise lacks the neighbours beyond it: 1.5 widths of all axial blurs.

    Draw a slab so much longer at both ends than needed and crop it after the insertion.
    """
    axial_filter = scanner.post_filter if scanner.post_filter_axial is None else scanner.post_filter_axial
    return int(np.ceil(1.5 * float(np.hypot(scanner.psf_axial, axial_filter)) / slice_spacing))


class RandInsertNoised(RandomizableTransform, MapTransform):
    """Insert the noise of a random dose into full-dose SUV volumes (1, X, Y, Z), see `insert_noise`.

    Works on whole volumes and on slabs of full transaxial planes (draw them with `slab_margin`); not on patches,
    whose lines of response pass through what is not there. Slices all have the same sensitivity, as in the middle
    of a bed position: where a slab lies in its scan is not known.

    It costs the matrices of the field of view and two reconstructions: 1 CPU-s for a slab of 128 x 128 x 32 voxels
    without time of flight, 19 for a volume of 267 slices. Use it where loading has that time, or to fill a store.

    Parameters
    ----------
    keys
        Full-dose volumes in SUVbw [g/mL], before any scaling. Those of one call get the same dose, each its own
        noise.
    counts_per_slice
        Prompts of a full-dose scan per slice, or the range they are drawn from log-uniformly: how noisy the
        volumes are. From a scan whose liver was measured it is `FullDoseScan.prompts` over the number of slices.
    factors
        Range of the dose reduction factor, drawn log-uniformly.
    scanner
        What the volumes were scanned with, see `scanner_of`.
    prob
        Probability of any insertion.
    attenuation_key
        Volume of the attenuation [1/mm], (1, X, Y, Z); by default the body is taken for water.
    factor_key
        The factor is put there, 1 where nothing was inserted.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        counts_per_slice: float | tuple[float, float],
        factors: tuple[float, float] = (2.0, 100.0),
        scanner: Scanner = GENERIC,
        prob: float = 1.0,
        attenuation_key: str | None = None,
        factor_key: str = "dose_reduction_factor",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if not 1 < factors[0] <= factors[1] <= LARGEST_FACTOR:
            raise PETError(
                f"dose reduction factors from {factors[0]:g} to {factors[1]:g}, expected a range above 1 and up to "
                f"{LARGEST_FACTOR:g}"
            )
        low, high = (counts_per_slice,) * 2 if isinstance(counts_per_slice, int | float) else counts_per_slice
        if not 0 < low <= high:
            raise PETError(f"counts per slice from {low:g} to {high:g}, expected a range above 0")
        self.counts_per_slice = (float(low), float(high))
        self.factors = (float(factors[0]), float(factors[1]))
        self.scanner = replace(scanner, bed_length=None)
        self.attenuation_key = attenuation_key
        self.factor_key = factor_key
        self.factor = 1.0
        self.counts = self.counts_per_slice[0]

    def randomize(self, data: Any = None) -> None:
        """Draw whether to insert, the dose and the number of counts."""
        super().randomize(data)
        self.factor = float(np.exp(self.R.uniform(*np.log(self.factors)))) if self._do_transform else 1.0
        self.counts = float(np.exp(self.R.uniform(*np.log(self.counts_per_slice))))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        self.randomize()
        d[self.factor_key] = self.factor
        if self._do_transform:
            for key in self.key_iterator(d):
                d[key] = self._inserted(d[key], None if self.attenuation_key is None else d[self.attenuation_key])
        return d

    def _inserted(self, volume: MetaTensor, attenuation: torch.Tensor | None) -> MetaTensor:
        if volume.ndim != 4 or volume.shape[0] != 1 or not isinstance(volume, MetaTensor):
            raise PETError(
                f"{type(volume).__name__} of shape {tuple(volume.shape)}, expected a MetaTensor (1, X, Y, Z) in SUV"
            )
        suv = volume[0].detach().cpu().numpy().astype(np.float32)
        voxel_size = [float(side) for side in volume.pixdim]
        if attenuation is None:
            mu = attenuation_from_body(suv, voxel_size=voxel_size)
        else:
            mu = np.asarray(attenuation[0].detach().cpu(), dtype=np.float32)
        scanner = scanner_of(mu, voxel_size=voxel_size, preset=self.scanner)
        settings = InsertionSettings(scanner=scanner, attenuation=mu, counts=self.counts * suv.shape[2])
        rng = np.random.default_rng(self.R.randint(2**32, dtype=np.uint64))
        images = insert_noise(suv, [self.factor], settings, rng=rng)
        result = torch.from_numpy(images[self.factor])[None]
        return MetaTensor(result.to(volume.device), meta=volume.meta)
