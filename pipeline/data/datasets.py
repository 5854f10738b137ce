"""What training reads from a store: random patches of any dose."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.transforms import Randomizable
from numpy.typing import NDArray
from torch.utils.data import Dataset

from pipeline.data.manifest import Split
from pipeline.data.mixed_doses import mix_doses, nearest_dose
from pipeline.data.store.store import Store, StoredSubject
from pipeline.errors import PETError

__all__ = ["PatchDataset", "Stores", "Target", "Transform", "opened_stores"]

Target = Literal["full", "full_repeat", "noise_free"]
Stores = Store | str | Path | Sequence[Store | str | Path]
"""A prepared store, its folder, or several of them."""
Transform = Callable[[dict[str, Any]], Any]

_PATCHES_PER_SCAN = 16
_CELL = 2  # voxels per voxel of a noise map, at most
_STRIDE = 4  # of the voxels among which places in the body are drawn
_BODY_SUV = 0.2  # g/mL
_AIR = 12  # voxels that are left around the body: what lies beyond is air like any other


class PatchDataset(Dataset):
    """Patches of whole scans, each scan of a random dose reduction factor and augmented as a whole.

    An epoch draws `n_scans` scans and cuts its patches from them. What describes a scan, such as the statistics of its
    noise, is so measured on the very scan that the patch is from, by the function that inference uses. An item is a
    function of seed, epoch and index: neither the number of workers nor what was read before changes it. Subjects take
    turns. The scans of an epoch stay in memory, in that of every worker.

    The dose reduction factor is drawn log-uniformly from `dose_range`, cut where the subject's lowest dose ends; the
    image is mixed from the full dose and the nearest image of no more dose (`mix_doses`). Subjects that have no dose as
    low as the range begins with are left out.

    Items have the keys ``image``, ``label``, those of `extra`, each a float32 tensor (1, X, Y, Z), SUVbw [g/mL];
    ``dose_reduction_factor``, a float32 tensor (), ``subject``, its id, and what `measure` adds.

    Parameters
    ----------
    store, split
        A prepared store, its folder, or several of them, and which of their subjects.
    patch_size
        Voxels along X, Y, Z, even numbers. Smaller scans are filled up with 0 at their ends: air.
    n_patches
        Items of an epoch.
    n_scans
        Scans of an epoch; None is one for every 16 patches.
    dose_range
        Smallest and largest dose reduction factor.
    doses
        Dose reduction factors that take turns from epoch 1 on, one an epoch, of the subjects that have so low a dose;
        None draws them from the range.
    lesion_fraction
        Part of the patches that is centred on a lesion, any of the scan's with equal probability, where it has any;
        the others are centred on the body, evenly.
    target
        Image that becomes ``label``.
    extra
        Further volumes, which take part in the augmentation: ``noise_free``, ``full_repeat``, ``truth``, ``organs``,
        ``attenuation``.
    scan_transform
        Dictionary transform of whole scans, as MONAI has them, in SUV. Besides the images the data have ``voxel_size``,
        a float tensor (3,) [mm], and, where there are any, ``lesions``, (1, X, Y, Z), int16, numbered from 1.
    measure
        Dictionary transform that describes the augmented scan by further keys. Those whose name ends with
        ``noise_map``, (C, X / 2, Y / 2, Z / 2) or (C, X, Y, Z), are cut along with the images.
    transform
        Dictionary transform of the patches. Random ones draw from a state that is set per item.
    device
        Where scans are augmented and patches lie. On a GPU the volumes that were read stay there.
    seed
        Not negative.

    Raises
    ------
    PETError
        If a setting is out of range, the split is empty, no subject has a dose as low as is asked for, or one lacks
        another image that is.
    """

    def __init__(
        self,
        store: Stores,
        *,
        split: Split,
        patch_size: Sequence[int],
        n_patches: int,
        n_scans: int | None = None,
        dose_range: tuple[float, float] = (2.0, 100.0),
        doses: Sequence[float] | None = None,
        lesion_fraction: float = 0.25,
        target: Target = "full",
        extra: Iterable[str] = (),
        scan_transform: Transform | None = None,
        measure: Transform | None = None,
        transform: Transform | None = None,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        low, high = dose_range
        n_scans = -(-n_patches // _PATCHES_PER_SCAN) if n_scans is None else n_scans
        if len(patch_size) != 3 or min(patch_size) < 2 or any(n % _CELL for n in patch_size):
            raise PETError(f"patch_size {patch_size}: expected three even sizes")
        if n_patches < 1 or n_scans < 1 or seed < 0:
            found = f"n_patches {n_patches}, n_scans {n_scans}, seed {seed}"
            raise PETError(f"{found}: expected at least one patch and one scan, and no negative seed")
        if not 1 < low <= high or not 0 <= lesion_fraction <= 1:
            found = f"dose_range {dose_range}, lesion_fraction {lesion_fraction}"
            raise PETError(f"{found}: expected factors above 1 in rising order, and a fraction of 0 to 1")
        if doses is not None and (not len(doses) or not min(doses) > 1):
            raise PETError(f"doses {list(doses)}: expected factors above 1, or null for those of dose_range")
        self.patch_size = tuple(int(n) for n in patch_size)
        self.n_patches = n_patches
        self.n_scans = n_scans
        self.dose_range = (float(low), float(high))
        self.doses = None if doses is None else tuple(float(factor) for factor in doses)
        self.lesion_fraction = lesion_fraction
        self.target = target
        self.extra = tuple(extra)
        self.scan_transform = scan_transform
        self.measure = measure
        self.transform = transform
        self.device = torch.device(device)
        self.seed = seed
        # In shared memory, so that workers that outlive an epoch see the next one begin.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._scans: dict[tuple[int, int], dict[str, Any]] = {}
        self._volumes: dict[tuple[str, str, str], torch.Tensor] = {}
        stores = opened_stores(store)
        place = ", ".join(str(s.path) for s in stores)
        subjects = [(s, subject) for s in stores for subject in s.of_split(split)]
        if not subjects:
            raise PETError(f"{place}: no subject of split {split}, expected at least one")
        self._subjects = [(s, subject) for s, subject in subjects if max(subject.doses) >= low]
        lowest = max(max(subject.doses) for _, subject in subjects)
        for factor in (low, *(self.doses or ())):
            if factor > lowest:
                found = "the full dose only" if lowest == 1 else f"dose reduction factors up to {lowest:g}"
                raise PETError(f"{place}: split {split} has {found}, expected one of {factor:g} or more")
        for opened, subject in self._subjects:
            missing = [name for name in (self.target, *self.extra) if name not in subject.volumes]
            if missing:
                raise PETError(f"{opened.path}: {subject.id} has no {missing[0]}, expected what target and extra name")

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
        scan = dict(self.scan(index % self.n_scans))
        start = scan.pop("starts")[index // self.n_scans]
        n_x = scan["label"].shape[1]
        for key in ("lesions", "voxel_size"):
            scan.pop(key, None)
        for key, value in scan.items():
            if key.endswith("noise_map"):
                cell = -(-n_x // value.shape[1])
                scan[key] = value[_box(start // cell, np.array(self.patch_size) // cell)]
            elif isinstance(value, torch.Tensor) and value.ndim == 4:
                scan[key] = value[_box(start, self.patch_size)]
        return self.transformed(scan, self.epoch, index)

    def transformed(self, item: dict[str, Any], epoch: int, index: int) -> dict[str, Any]:
        """Return an item after `transform`, whose random numbers follow from seed, epoch and index."""
        if self.transform is None:
            return item
        _set_random_state(self.transform, np.random.default_rng((self.seed, epoch, 1, index)))
        return _plain(self.transform(item))

    def scan(self, number: int) -> dict[str, Any]:
        """Return a scan of the epoch as `scan_transform` made it, with the first voxels of its patches, ``starts``."""
        key = (self.epoch, number)
        if key not in self._scans:
            if any(epoch != self.epoch for epoch, _ in self._scans):
                self._scans.clear()
            self._scans[key] = self._drawn(self.epoch, number, self._dose_of(self.epoch))
        return self._scans[key]

    def scan_of_every_dose(self, epoch: int, number: int) -> dict[str, Any]:
        """Return a scan with its patches' places, and what image and label would be at any other dose.

        Beside what `scan` has of a dose from the range, ``images``, (1 + K, X, Y, Z), is the full dose and the K lower
        doses of the subject, ``labels`` the label of each, and ``factors`` the dose reduction factors of all, from 1.
        Image and label at any factor are mixtures of two of each, with one `mixing_weight`, if what `scan_transform`
        does is affine in the image, by random numbers that do not depend on it, as in the shipped recipe.
        """
        return self._drawn(epoch, number, None, every_dose=True)

    @property
    def subjects(self) -> tuple[StoredSubject, ...]:
        """Return whose scans are drawn."""
        return tuple(subject for _, subject in self._subjects)

    def subject_of(self, epoch: int, number: int) -> StoredSubject:
        """Return whom a scan with a dose from the range is of."""
        return self._place_of(epoch, number, self._subjects)[1]

    def _dose_of(self, epoch: int) -> float | None:
        return None if self.doses is None else self.doses[(epoch - 1) % len(self.doses)]

    def _drawn(self, epoch: int, number: int, dose: float | None, *, every_dose: bool = False) -> dict[str, Any]:
        rng = np.random.default_rng((self.seed, epoch, 0, number))
        subjects = self._subjects
        if dose is not None:
            subjects = [(store, subject) for store, subject in subjects if max(subject.doses) >= dose]
        store, subject = self._place_of(epoch, number, subjects)
        factor = self._draw_factor(subject, rng) if dose is None else dose
        full = self._read(store, subject, "full")
        if every_dose:
            image = torch.cat([self._read(store, subject, name) for name in subject.doses.values()])
        else:
            low_factor = nearest_dose(subject.doses, factor)
            low = self._read(store, subject, subject.doses[low_factor])
            image = mix_doses(low, full, low_factor=low_factor, factor=factor)
        scan: dict[str, Any] = {
            "image": image,
            "label": full if self.target == "full" else self._read(store, subject, self.target),
            **{name: self._read(store, subject, name) for name in self.extra},
        }
        if "lesions" in subject.volumes:
            scan["lesions"] = self._read(store, subject, "lesions").to(torch.int16)
        around = _around_the_body(full)
        scan = {name: volume[around] for name, volume in scan.items()}
        scan["voxel_size"] = torch.tensor(subject.voxel_size)
        scan["dose_reduction_factor"] = torch.tensor(factor, dtype=torch.float32)
        scan["subject"] = subject.id
        if self.scan_transform is not None:
            _set_random_state(self.scan_transform, rng)
            scan = _plain(self.scan_transform(scan))
        scan = _filled_up(scan, self.patch_size)
        if every_dose:
            scan = _mixed(scan, tuple(subject.doses), factor)
        if self.measure is not None:
            scan = _plain(self.measure(scan))
        return {**scan, "starts": self._draw_starts(scan, -(-self.n_patches // self.n_scans), rng)}

    def _read(self, store: Store, subject: StoredSubject, name: str) -> torch.Tensor:
        key = (str(store.path), subject.id, name)
        if key in self._volumes:
            return self._volumes[key]
        values = store.volume(subject.id, name)[...]
        volume = torch.from_numpy(values.astype(np.int32 if values.dtype.kind == "u" else np.float32, copy=False))[None]
        volume = volume.to(self.device)
        if self.device.type != "cpu":
            self._volumes[key] = volume
        return volume

    def _place_of(
        self, epoch: int, number: int, subjects: Sequence[tuple[Store, StoredSubject]]
    ) -> tuple[Store, StoredSubject]:
        """Subjects take turns over the epochs, in an order that changes with every turn."""
        turn, place = divmod(epoch * self.n_scans + number, len(subjects))
        order = np.random.default_rng((self.seed, turn)).permutation(len(subjects))
        return subjects[int(order[place])]

    def _draw_factor(self, subject: StoredSubject, rng: np.random.Generator) -> float:
        low, high = self.dose_range
        return math.exp(rng.uniform(math.log(low), math.log(min(high, max(subject.doses)))))

    def _draw_starts(self, scan: Mapping[str, Any], n_patches: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """First voxels of the patches, shape (n_patches, 3)."""
        coarse = torch.nonzero(scan["label"][0, ::_STRIDE, ::_STRIDE, ::_STRIDE] > _BODY_SUV).cpu().numpy() * _STRIDE
        shape = np.array(scan["label"].shape[1:])
        if len(coarse):
            centers = coarse[rng.integers(len(coarse), size=n_patches)]
        else:
            centers = rng.integers(shape, size=(n_patches, 3))
        centers = centers + rng.integers(_STRIDE, size=(n_patches, 3))
        for_lesions = rng.random(n_patches) < self.lesion_fraction
        if "lesions" in scan and for_lesions.any():
            voxels = torch.nonzero(scan["lesions"][0]).cpu().numpy()
            numbers = scan["lesions"][0].cpu().numpy()[tuple(voxels.T)]
            known = np.unique(numbers)
            for k in np.flatnonzero(for_lesions) if len(known) else ():
                inside = voxels[numbers == known[rng.integers(len(known))]]
                centers[k] = inside[rng.integers(len(inside))]
        size = np.array(self.patch_size)
        return np.clip(centers - size // 2, 0, shape - size) // _CELL * _CELL


def _mixed(scan: dict[str, Any], factors: tuple[float, ...], factor: float) -> dict[str, Any]:
    """Return a scan of every dose with image and label of one factor among them."""
    images = scan["image"]
    labels = scan["label"].expand(len(factors), -1, -1, -1)
    low_factor = nearest_dose(factors, factor)
    k = factors.index(low_factor)
    mixed = {
        key: mix_doses(values[k : k + 1], values[:1], low_factor=low_factor, factor=factor)
        for key, values in (("image", images), ("label", labels))
    }
    return {**scan, **mixed, "images": images, "labels": labels, "factors": factors}


def opened_stores(store: Stores) -> list[Store]:
    """Open what is a path, and keep what is a store already."""
    several = [store] if isinstance(store, Store | str | Path) else store
    return [s if isinstance(s, Store) else Store(s) for s in several]


def _around_the_body(full: torch.Tensor) -> tuple[slice, ...]:
    """Index of the planes along X and Y that hold the body, and some air, and of all along Z; full is (1, X, Y, Z)."""
    body = full[0] > _BODY_SUV
    box: list[slice] = []
    for dims in ((1, 2), (0, 2)):
        planes = torch.nonzero(body.sum(dims) > 0).flatten()
        n = body.shape[len(box)]
        first, last = (int(planes[0]), int(planes[-1])) if len(planes) else (0, n - 1)
        box.append(slice(max(first - _AIR, 0), min(last + _AIR + 1, n)))
    return slice(None), *box, slice(None)


def _box(start: NDArray[np.int64], size: Sequence[int] | NDArray[np.int64]) -> tuple[slice, ...]:
    """Index of a box into a tensor (C, X, Y, Z)."""
    return slice(None), *(slice(int(first), int(first) + int(n)) for first, n in zip(start, size, strict=True))


def _set_random_state(transform: Transform, rng: np.random.Generator) -> None:
    if isinstance(transform, Randomizable):
        transform.set_random_state(seed=int(rng.integers(2**32)))


def _plain(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value.as_tensor() if isinstance(value, MetaTensor) else value for key, value in item.items()}


def _filled_up(scan: dict[str, Any], size: Sequence[int]) -> dict[str, Any]:
    """Return the scan with air at the ends of its axes, so that it is no smaller than a size."""
    missing = [max(n - m, 0) for n, m in zip(size, scan["label"].shape[1:], strict=True)]
    pad = [p for n in reversed(missing) for p in (0, n)]
    return {k: F.pad(v, pad) if isinstance(v, torch.Tensor) and v.ndim == 4 else v for k, v in scan.items()}
