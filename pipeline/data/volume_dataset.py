"""What validation reads from a store: whole volumes."""

from collections.abc import Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from torch.utils.data import Dataset

from pipeline.data.datasets import Stores, Target, Transform, opened_stores
from pipeline.data.manifest import Split
from pipeline.errors import PETError

__all__ = ["VolumeDataset"]


class VolumeDataset(Dataset):
    """Every low-dose image of a split with its full dose, in SUV: subject by subject, by rising dose reduction factor.

    Items have the keys ``image``, with its affine [mm], and ``label``, float32 tensors (1, X, Y, Z), SUVbw [g/mL];
    ``dose_reduction_factor``, a float32 tensor (), and ``subject``, its id.

    `dose_reduction_factors` selects among the doses that a subject has; None takes them all. The other arguments are
    those of `PatchDataset`.

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
        transform: Transform | None = None,
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
        """Return the index-th pair.

        Raises
        ------
        PETError
            If a chunk is damaged or a file is missing.
        """
        store, subject, factor, name = self._items[index]
        affine = torch.tensor(store.subject(subject).affine, dtype=torch.float64)
        item = {
            "image": MetaTensor(torch.from_numpy(store.volume(subject, name)[...])[None], affine=affine),
            "label": torch.from_numpy(store.volume(subject, self.target)[...])[None],
            "dose_reduction_factor": torch.tensor(factor, dtype=torch.float32),
            "subject": subject,
        }
        return item if self.transform is None else self.transform(item)
