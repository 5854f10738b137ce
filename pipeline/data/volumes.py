"""Whole volumes from a store, as validation wants them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from pipeline.data.manifest import Split
from pipeline.data.patches import Stores, Target, opened_stores
from pipeline.errors import PETError

__all__ = ["VolumeDataset"]


class VolumeDataset(Dataset):
    """Every low-dose image of a split with its full dose, in SUV.

    Items have the keys ``image`` and ``label``, float32 tensors (1, X, Y, Z), SUVbw [g/mL]; ``dose_reduction_factor``,
    a float32 tensor (), and ``subject``, its id. They come subject by subject, by rising dose reduction factor.

    Parameters
    ----------
    store
        A prepared store, its folder, or several of them.
    split
        Which subjects.
    dose_reduction_factors
        Which doses, of those that a subject has; None takes them all.
    target
        Image that becomes ``label``: ``full``, ``full_repeat`` or ``noise_free``.
    transform
        Dictionary transform of the items.

    Raises
    ------
    PETError
        If there is no such image, or a subject has no target.
    """

    def __init__(
        self,
        store: Stores,
        *,
        split: Split,
        dose_reduction_factors: Sequence[float] | None = None,
        target: Target = "full",
        transform: Callable[[dict[str, Any]], Any] | None = None,
    ) -> None:
        self.target = target
        self.transform = transform
        self._items = []
        for opened in opened_stores(store):
            for subject in opened.of_split(split):
                if target not in subject.volumes:
                    raise PETError(f"{opened.path}: {subject.id} has no {target}, expected what target names")
                for factor, name in subject.doses.items():
                    if factor > 1 and (dose_reduction_factors is None or factor in dose_reduction_factors):
                        self._items.append((opened, subject.id, factor, name))
        if not self._items:
            doses = "any" if dose_reduction_factors is None else ", ".join(f"{f:g}" for f in dose_reduction_factors)
            raise PETError(f"{store}: split {split} has no low-dose image (factors: {doses}), expected at least one")

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The index-th pair.

        Raises
        ------
        PETError
            If a chunk is damaged or a file is missing.
        """
        store, subject, factor, name = self._items[index]
        item = {
            "image": torch.from_numpy(store.volume(subject, name)[...])[None],
            "label": torch.from_numpy(store.volume(subject, self.target)[...])[None],
            "dose_reduction_factor": torch.tensor(factor, dtype=torch.float32),
            "subject": subject,
        }
        return item if self.transform is None else self.transform(item)
