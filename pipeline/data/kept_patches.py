"""Patches of any dose kept on disk: drawn once, and read by every training that asks for the same."""

import copy
import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from pipeline.data.datasets import PatchDataset
from pipeline.data.kept_scan import KeptScan, write_scan
from pipeline.engine import run_tasks
from pipeline.errors import PETError
from pipeline.files import locked_folder, remove_unfinished, write_json

__all__ = ["KeptPatches", "described"]

logger = logging.getLogger(__name__)

_VERSION = 1
"""Raised whenever the same settings give other patches."""
_MAX_OPEN = 64


class KeptPatches(Dataset):
    """What a `PatchDataset` draws, kept on disk epoch by epoch, with every dose that a subject has.

    Items are those of the data set within the precision of what is kept, see `kept_scan`. Where it has `doses`, one is
    of the same patches as without, at the dose of its epoch: those of all scans whose subject has so low a dose, in
    order, again from the first where they are fewer than what is asked for. These have nothing that `measure` found.

    The patches lie in a folder whose name follows from all that determines them, so that settings never mix. Those of
    the epochs 1 to `epochs`, and what `measure` finds of the first `n_measured` scans of epoch 0, are made when this is
    built, and what is missing or damaged later is made when it is read. A scan appears complete or not at all: where
    making them was ended, it goes on. While another run makes them, this one does not wait.

    Parameters
    ----------
    patches
        Its `scan_transform` must be affine in the image, see `PatchDataset.scan_of_every_dose`.
    folder
        Where the folder of these patches is made.
    epochs
        Epochs to keep: those of all stages of a training together.
    jobs
        Scans drawn at once.
    n_measured
        Scans of epoch 0, of which no patches are kept.
    progress
        Is told what is done, and the number of finished scans and of all.

    Raises
    ------
    PETError
        If the data set has further images (`extra`), which are not kept, or a file cannot be written.
    """

    def __init__(
        self,
        patches: PatchDataset,
        folder: str | Path,
        *,
        epochs: int,
        jobs: int = 1,
        n_measured: int = 24,
        progress: Callable[[str, int, int], object] | None = None,
    ) -> None:
        if patches.extra:
            raise PETError(f"patches have {', '.join(patches.extra)} as well, which are not kept, expected no extra")
        if epochs < 1 or n_measured < 0:
            raise PETError(f"epochs {epochs}, n_measured {n_measured}: expected at least one epoch, and no negative")
        settings = _settings_of(patches)
        name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
        self.patches = patches
        self.folder = Path(folder) / name
        self.epochs = epochs
        # In shared memory, so that workers that outlive an epoch see the next one begin.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._before = 0
        self._open: OrderedDict[Path, KeptScan] = OrderedDict()
        self._eligible: dict[float, list[tuple[int, int]]] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        self._make(settings, jobs, n_measured, progress)
        for factor in patches.doses or ():
            n_distinct = min(len(self._scans_of(factor)) * self._per_scan, epochs * len(self))
            logger.info("dose reduction factor %g: %d distinct patches", factor, n_distinct)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def __len__(self) -> int:
        return self.patches.n_patches

    def after(self, epochs: int) -> "KeptPatches":
        """Return the same patches for a later stage, whose first epoch comes after so many."""
        later = copy.copy(self)
        later._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        later._before = epochs
        return later

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch, whose patches differ from those of every other epoch."""
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return the index-th patch of the epoch.

        Raises
        ------
        PETError
            If what is missing or damaged cannot be made anew.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"patch {index}, expected 0 to {len(self) - 1}")
        epoch, n_scans = int(self._epoch) + self._before, self.patches.n_scans
        if not self.patches.doses:
            item = self._read(epoch, index % n_scans, lambda scan: scan.patch(index // n_scans))
        else:
            turn, which = divmod(epoch - 1, len(self.patches.doses))
            dose = self.patches.doses[which]
            number, place = divmod(turn * len(self) + index, self._per_scan)
            scans = self._scans_of(dose)
            item = self._read(*scans[number % len(scans)], lambda scan: scan.patch(place, dose=dose))
        return self.patches.transformed(item, epoch, index)

    def scan(self, number: int) -> dict[str, Any]:
        """Return what `measure` found of a scan of the epoch, without its images and maps."""
        return self._read(int(self._epoch) + self._before, number, lambda scan: scan.measured())

    @property
    def _per_scan(self) -> int:
        return -(-len(self) // self.patches.n_scans)

    def _scans_of(self, dose: float) -> list[tuple[int, int]]:
        """Epoch and number of every scan of a subject that has so low a dose."""
        if dose not in self._eligible:
            self._eligible[dose] = [
                (epoch, number)
                for epoch in range(1, self.epochs + 1)
                for number in range(self.patches.n_scans)
                if max(self.patches.subject_of(epoch, number).doses) >= dose
            ]
            if not self._eligible[dose]:
                raise PETError(f"{self.folder}: no scan has a dose below a {dose:g}th, expected more epochs or scans")
        return self._eligible[dose]

    def _read(self, epoch: int, number: int, read: Callable[[KeptScan], dict[str, Any]]) -> dict[str, Any]:
        path = _path(self.folder, epoch, number)
        try:
            return read(self._opened(path))
        except PETError as error:
            if path.exists():
                logger.warning("%s; it is made anew", error)
        self._open.pop(path, None)
        _keep(self.patches, self.folder, epoch, number)
        return read(self._opened(path))

    def _opened(self, path: Path) -> KeptScan:
        if path not in self._open:
            self._open[path] = KeptScan(path)
            if len(self._open) > _MAX_OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(path)
        return self._open[path]

    def _make(
        self,
        settings: Mapping[str, Any],
        jobs: int,
        n_measured: int,
        progress: Callable[[str, int, int], object] | None,
    ) -> None:
        """Make what is missing, unless another run does."""
        wanted = [(0, number) for number in range(n_measured)]
        wanted += [(e, number) for e in range(1, self.epochs + 1) for number in range(self.patches.n_scans)]
        missing = [scan for scan in wanted if not _path(self.folder, *scan).exists()]
        if not missing:
            return
        try:
            lock = locked_folder(self.folder, "making these patches")
        except PETError:
            logger.info("%s: another run makes these patches, what is missing is made when it is read", self.folder)
            return
        with lock:
            remove_unfinished(self.folder)
            write_json(self.folder / "settings.json", dict(settings))
            logger.info("%s: drawing the patches of %d scans", self.folder, len(missing))
            tasks = [partial(_keep, self.patches, self.folder, *scan) for scan in missing]
            for done, _ in enumerate(run_tasks(tasks, where=jobs), start=1):
                if progress is not None:
                    progress("drawing patches", len(wanted) - len(missing) + done, len(wanted))


def described(value: Any) -> Any:
    """Return what an object is made of, as JSON values: its class and all public attributes, but no random state."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): described(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [described(item) for item in (sorted(value, key=str) if isinstance(value, set | frozenset) else value)]
    if not hasattr(value, "__dict__") or isinstance(value, type) or hasattr(value, "__code__"):
        return getattr(value, "__qualname__", str(value))
    public = {
        name: described(item)
        for name, item in vars(value).items()
        if not name.startswith("_") and name != "training" and not isinstance(item, np.random.RandomState)
    }
    return {"class": f"{type(value).__module__}.{type(value).__qualname__}", **public}


def _settings_of(patches: PatchDataset) -> dict[str, Any]:
    """Return all that determines the patches that a data set draws, whatever their dose."""
    names = ("patch_size", "n_patches", "n_scans", "dose_range", "lesion_fraction", "target", "seed")
    return {
        "version": _VERSION,
        "subjects": [[subject.id, subject.key] for subject in patches.subjects],
        **{name: described(getattr(patches, name)) for name in (*names, "scan_transform", "measure")},
    }


def _path(folder: Path, epoch: int, number: int) -> Path:
    return folder / f"epoch{epoch:03d}_scan{number:03d}.json"


def _keep(patches: PatchDataset, folder: Path, epoch: int, number: int) -> None:
    """Draw a scan and keep its patches; of epoch 0, what was measured alone."""
    write_scan(
        patches.scan_of_every_dose(epoch, number), patches.patch_size, _path(folder, epoch, number), cut=epoch > 0
    )
