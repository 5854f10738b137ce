"""What training and validation read from a store: random patches of any dose, and whole volumes."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Randomizable
from numpy.typing import NDArray
from torch.utils.data import Dataset

from pipeline.data.manifest import Split
from pipeline.data.store.patch_centres import random_body_voxel, random_lesion_voxel
from pipeline.data.store.store import Store, StoredSubject
from pipeline.data.store.volume_file import VolumeFile
from pipeline.errors import PETError

__all__ = ["PatchDataset", "VolumeDataset", "mix_doses"]

Values = TypeVar("Values", NDArray[np.float32], torch.Tensor)

Target = Literal["full", "full_repeat", "noise_free"]
Stores = Store | str | Path | Sequence[Store | str | Path]
"""A prepared store, its folder, or several of them."""
Transform = Callable[[dict[str, Any]], Any]


class PatchDataset(Dataset):
    """Patches in SUV, each of a random dose reduction factor, with what they should become.

    An item is a function of seed, epoch and index: neither the number of workers nor what was read before changes it.
    Every subject is drawn equally often in an epoch, give or take one. Only the crop is read, of the full dose and of
    one lower dose, and memory does not grow with the number of subjects.

    The dose reduction factor is drawn log-uniformly from `dose_range`, cut where the subject's lowest dose ends; the
    image is mixed from the full dose and the nearest image of no more dose (`mix_doses`).

    Items have the keys ``image``, ``label``, those of `extra`, each a float32 tensor (1, X, Y, Z), SUVbw [g/mL];
    ``dose_reduction_factor``, a float32 tensor (), and ``subject``, its id.

    Parameters
    ----------
    store, split
        A prepared store, its folder, or several of them, and which of their subjects.
    patch_size
        Voxels along X, Y, Z. Where a volume is smaller, the patch is filled up with 0 on both sides: air.
    n_patches
        Items of an epoch.
    dose_range
        Smallest and largest dose reduction factor.
    lesion_fraction
        Part of the patches that is centred on a lesion, any of the subject's with equal probability, where it has any;
        the others are centred on the body, evenly.
    target
        Image that becomes ``label``.
    extra
        Further volumes, which take part in the augmentation: ``noise_free``, ``full_repeat``, ``truth``, ``lesions``,
        ``organs``, ``attenuation``.
    transform
        Dictionary transform of the items, as MONAI has them; random ones draw from a state that is set per item.
    seed
        Not negative.

    Raises
    ------
    PETError
        If a setting is out of range, the split is empty, or a subject lacks what is asked for.
    """

    def __init__(
        self,
        store: Stores,
        *,
        split: Split,
        patch_size: Sequence[int],
        n_patches: int,
        dose_range: tuple[float, float] = (2.0, 100.0),
        lesion_fraction: float = 0.25,
        target: Target = "full",
        extra: Iterable[str] = (),
        transform: Transform | None = None,
        seed: int = 0,
    ) -> None:
        low, high = dose_range
        if len(patch_size) != 3 or min(patch_size) < 1 or n_patches < 1 or seed < 0:
            found = f"patch_size {patch_size}, n_patches {n_patches}, seed {seed}"
            raise PETError(f"{found}: expected three sizes and at least one patch, and no negative seed")
        if not 1 < low <= high or not 0 <= lesion_fraction <= 1:
            found = f"dose_range {dose_range}, lesion_fraction {lesion_fraction}"
            raise PETError(f"{found}: expected factors above 1 in rising order, and a fraction of 0 to 1")
        self.patch_size = tuple(int(n) for n in patch_size)
        self.n_patches = n_patches
        self.dose_range = (float(low), float(high))
        self.lesion_fraction = lesion_fraction
        self.target = target
        self.extra = tuple(extra)
        self.transform = transform
        self.seed = seed
        # In shared memory, so that workers that outlive an epoch see the next one begin.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._subjects = [(s, subject) for s in _opened(store) for subject in s.of_split(split)]
        if not self._subjects:
            raise PETError(f"{store}: no subject of split {split}, expected at least one")
        for opened, subject in self._subjects:
            self._check(opened, subject)

    def _check(self, store: Store, subject: StoredSubject) -> None:
        lowest = max(subject.doses)
        if lowest < self.dose_range[0]:
            has = "the full dose only" if lowest == 1 else f"no dose below a {lowest:g}th"
            raise PETError(
                f"{store.path}: {subject.id} has {has}, expected one at a dose reduction factor of "
                f"{self.dose_range[0]:g} or more"
            )
        missing = [name for name in (self.target, *self.extra) if name not in subject.volumes and name != "lesions"]
        if missing:
            raise PETError(f"{store.path}: {subject.id} has no {missing[0]}, expected what target and extra name")

    def __len__(self) -> int:
        return self.n_patches

    @property
    def epoch(self) -> int:
        """Return the number of the epoch."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch, whose patches differ from those of every other epoch."""
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return the index-th patch of the epoch.

        Raises
        ------
        PETError
            If a chunk is damaged or a file is missing.
        """
        if not 0 <= index < self.n_patches:
            raise IndexError(f"patch {index}, expected 0 to {self.n_patches - 1}")
        rng = np.random.default_rng((self.seed, self.epoch, 1, index))
        store, subject = self._subjects[self._subject_of(index)]
        start = self._draw_start(store, subject, rng)

        def read(name: str) -> torch.Tensor:
            if name == "lesions" and name not in subject.volumes:
                return torch.zeros(1, *self.patch_size)
            return torch.from_numpy(self._cut(store.volume(subject.id, name), start))[None]

        full = read("full")
        factor = self._draw_factor(subject, rng)
        low_factor, low = next((d, name) for d, name in subject.doses.items() if d >= factor * (1 - 1e-9))
        item: dict[str, Any] = {
            "image": mix_doses(read(low), full, low_factor=low_factor, factor=factor),
            "label": full if self.target == "full" else read(self.target),
            **{name: read(name) for name in self.extra},
            "dose_reduction_factor": torch.tensor(factor, dtype=torch.float32),
            "subject": subject.id,
        }
        if self.transform is not None:
            if isinstance(self.transform, Randomizable):
                self.transform.set_random_state(seed=int(rng.integers(2**32)))
            item = self.transform(item)
        return {key: value.as_tensor() if isinstance(value, MetaTensor) else value for key, value in item.items()}

    def _subject_of(self, index: int) -> int:
        """Subjects take turns, in an order that changes with every turn."""
        turn, place = divmod(index, len(self._subjects))
        order = np.random.default_rng((self.seed, self.epoch, 0, turn)).permutation(len(self._subjects))
        return int(order[place])

    def _draw_factor(self, subject: StoredSubject, rng: np.random.Generator) -> float:
        low, high = self.dose_range
        return math.exp(rng.uniform(math.log(low), math.log(min(high, max(subject.doses)))))

    def _draw_start(self, store: Store, subject: StoredSubject, rng: np.random.Generator) -> NDArray[np.int64]:
        """First voxel of a patch inside the volume; where the volume is smaller, the patch begins before it."""
        wants_lesion = rng.random() < self.lesion_fraction
        if wants_lesion and "lesion_voxels" in subject.volumes:
            center = random_lesion_voxel(store.volume(subject.id, "lesion_voxels")[...], rng=rng)
        else:
            blocks = store.volume(subject.id, "body_blocks")[...]
            center = random_body_voxel(blocks, subject.shape, rng=rng)
        size = np.array(self.patch_size)
        room = np.array(subject.shape) - size
        return np.where(room >= 0, np.clip(center - size // 2, 0, np.maximum(room, 0)), room // 2)

    def _cut(self, volume: VolumeFile, start: NDArray[np.int64]) -> NDArray[np.float32]:
        """Patch that begins at a voxel, with 0 where the volume does not reach."""
        low = np.maximum(start, 0)
        high = np.minimum(start + self.patch_size, volume.shape)
        crop = volume[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].astype(np.float32, copy=False)
        if crop.shape == self.patch_size:
            return crop
        patch = np.zeros(self.patch_size, dtype=np.float32)
        patch[tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))] = crop
        return patch


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
        transform: Callable[[dict[str, Any]], Any] | None = None,
    ) -> None:
        self.target = target
        self.transform = transform
        self._items = []
        for opened in _opened(store):
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


def mix_doses(low: Values, full: Values, *, low_factor: float, factor: float) -> Values:
    """Return an image with the second-order noise statistics of a dose reduction factor between 1 and ``low_factor``.

    a low + (1 - a) full with a = sqrt((d - 1) / (D - 1)): for nested counts cov(low, full) is the variance v of
    full, so the mixture's variance is v (1 + a^2 (D - 1)) = v d.
    """
    a = ((factor - 1) / (low_factor - 1)) ** 0.5
    return a * low + (1 - a) * full


def _opened(store: Stores) -> list[Store]:
    """Open what is a path, and keep what is a store already."""
    several = [store] if isinstance(store, Store | str | Path) else store
    return [s if isinstance(s, Store) else Store(s) for s in several]
