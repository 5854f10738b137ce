"""MONAI transform that reads PET as SUV."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from pipeline.pet import PETSeries, read_pet

__all__ = ["LoadPETd", "pet_to_tensor"]


def pet_to_tensor(series: PETSeries) -> MetaTensor:
    """SUVbw volume as MetaTensor (1, X, Y, Z), float32, with its RAS+ affine [mm]."""
    return MetaTensor(torch.from_numpy(series.suv)[None], affine=torch.from_numpy(series.affine))


class LoadPETd(MapTransform):
    """Replace paths by SUVbw volumes (1, X, Y, Z).

    MONAI's own loader falls back to other readers when one fails, and would then hand on raw counts; this one
    reads SUV or raises :class:`~pipeline.pet.PETError`.
    """

    def __init__(self, keys: KeysCollection, *, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            path = str(d[key])
            d[key] = pet_to_tensor(read_pet(path))
            d[key].meta["filename_or_obj"] = path
        return d
