"""Fill a store: convert every subject of a manifest to SUV once, and keep what is there as long as it is right.

A subject's folder gets its name once it is complete, so a run can be killed at any point and continued; the result is
that of a run that was not. A subject is made anew when the content of one of its inputs, a setting or the format of
the store changed, or when one of its files is damaged or missing; the others are left alone.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.data.building.exclusions import without_excluded
from pipeline.data.manifest import Image, Manifest, Role, Subject, read_image
from pipeline.data.store.fingerprints import dose_key, image_name, inputs_of
from pipeline.data.store.inserted_doses import NoiseInsertion
from pipeline.data.store.store import (
    FORMAT_VERSION,
    MARKER,
    RECORD,
    Input,
    Kind,
    StoredSubject,
    StoredVolume,
    check_marker,
    read_record,
    subject_folders,
    versions,
    volume_path,
    write_record,
)
from pipeline.data.store.volume_file import VolumeFile, write_volume
from pipeline.engine import Workers, run_tasks
from pipeline.errors import PETError, naming, reason_of
from pipeline.files import UNFINISHED, locked_folder, new_folder, write_text
from pipeline.images import numbered_lesions
from pipeline.pet import PETSeries
from pipeline.pet.grid import check_same_grid
from pipeline.pet.volumes import read_labels_on, read_on
from pipeline.simulation.ct import attenuation_of_series

__all__ = ["Outcome", "Preparation", "prepare_store"]

logger = logging.getLogger(__name__)

Status = Literal["kept", "new", "changed", "repaired", "failed"]

_UNFINISHED = (UNFINISHED, ".staged-", ".replaced-")
"""How the names of what a killed run may leave begin."""


@dataclass(frozen=True)
class Outcome:
    """What became of a subject."""

    subject: str
    status: Status
    """Left as it was, made for the first time, made anew because of other inputs or settings, made anew because of
    damage, or not made."""
    reason: str = ""
    """What was damaged, or why it failed."""


@dataclass(frozen=True)
class Preparation:
    """What a run did."""

    store: Path
    outcomes: tuple[Outcome, ...]
    """One per subject, in the order of the manifest."""
    excluded: tuple[str, ...] = ()
    """Subjects that the manifest excludes, or whose full dose it excludes."""
    stale: tuple[str, ...] = ()
    """Subjects of the store that the manifest no longer has; left there."""
    removed: tuple[str, ...] = ()
    """Those that were removed, because it was asked for."""

    def of_status(self, status: Status) -> tuple[Outcome, ...]:
        """Return the outcomes of one kind."""
        return tuple(outcome for outcome in self.outcomes if outcome.status == status)

    def __str__(self) -> str:
        counts = [f"{len(self.of_status(s))} {s}" for s in get_args(Status) if self.of_status(s)]
        lines = [f"{self.store}: {len(self.outcomes)} subjects, {', '.join(counts)}"]
        for outcome in (*self.of_status("repaired"), *self.of_status("failed")):
            lines.append(f"{outcome.subject}: {outcome.status}, because {outcome.reason.partition('; run ')[0]}")
        named = {
            "left out, as the manifest excludes them": self.excluded,
            "no longer in the manifest, left in the store": self.stale,
            "no longer in the manifest, removed": self.removed,
        }
        lines += [f"{what}: {', '.join(subjects)}" for what, subjects in named.items() if subjects]
        return "\n".join(lines)


def prepare_store(
    manifest: Manifest,
    store: str | Path,
    *,
    root: str | Path,
    jobs: Workers | int = 1,
    insertion: NoiseInsertion | None = None,
    rehash: bool = False,
    prune: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> Preparation:
    """Convert the subjects of a manifest to SUV and write them into a store; those already there are kept.

    Of two runs at once, the second waits for the first. What is kept is verified: every chunk is compared with its
    checksum, which reads the store at the disk's speed. A subject that cannot be made never stops the others; what the
    store had of it before stays.

    The subjects, less what the manifest excludes, have paths relative to `root`; the folder of the store is made if
    need be. Each of the `jobs` processes holds one image, and its subject's full dose. `insertion` says which doses to
    make by noise insertion for subjects of which only the full dose exists; None makes none. `rehash` reads every input
    again; otherwise one of the same path, size and time of modification is trusted. `prune` removes subjects that the
    manifest no longer has. `progress` is called with the number of finished subjects and of all after each.

    Raises
    ------
    PETError
        If the manifest has no subjects, or the folder is something else than a store.
    """
    workers = Workers.of(jobs)
    store, root = Path(store), Path(root)
    subjects = without_excluded(manifest)
    if not subjects:
        raise PETError(f"manifest {manifest.name} has no subjects, expected one that a builder has filled in")
    if not root.is_dir():
        raise PETError(f"{root}: no such folder, expected the root of the manifest's paths")
    _make_store(store)
    with locked_folder(store, "preparing it", wait=True):
        _remove_unfinished(store)
        tasks = [_Task(subject, root=root, store=store, insertion=insertion, rehash=rehash) for subject in subjects]
        outcomes: dict[int, Outcome] = {}
        for index, outcome in run_tasks(tasks, where=workers):
            outcomes[index] = outcome
            logger.info("%s: %s %s", store, outcome.subject, outcome.status)
            if progress is not None:
                progress(len(outcomes), len(tasks))
        wanted = {subject.id for subject in subjects}
        stale = tuple(folder.name for folder in subject_folders(store) if folder.name not in wanted)
        if prune:
            for name in stale:
                _remove(store / "subjects" / name)
    return Preparation(
        store,
        tuple(outcomes[index] for index in range(len(tasks))),
        excluded=tuple(s.id for s in manifest.subjects if s.id not in wanted),
        stale=() if prune else stale,
        removed=stale if prune else (),
    )


def _make_store(store: Path) -> None:
    """Make an empty store, or make sure that there is one."""
    with naming(store):
        store.mkdir(parents=True, exist_ok=True)
        if not (store / MARKER).exists():
            if any(not entry.name.startswith(_UNFINISHED) for entry in store.iterdir()):
                raise PETError(f"holds something and no {MARKER}, expected a store or a new folder")
            write_text(store / MARKER, json.dumps({"format_version": FORMAT_VERSION}) + "\n")
        check_marker(store)
        (store / "subjects").mkdir(exist_ok=True)


def _remove_unfinished(store: Path) -> None:
    """Remove what a killed run left half written."""
    for folder in (store, store / "subjects", *subject_folders(store)):
        for entry in folder.iterdir():
            if entry.name.startswith(_UNFINISHED):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _remove(folder: Path) -> None:
    """Remove a subject at once, as far as any reader can see."""
    replaced = folder.with_name(f".replaced-{folder.name}")
    folder.rename(replaced)
    shutil.rmtree(replaced)


@dataclass(frozen=True)
class _Task:
    """One subject to prepare; picklable."""

    subject: Subject
    root: Path
    store: Path
    insertion: NoiseInsertion | None
    rehash: bool

    def __call__(self) -> Outcome:
        name = self.subject.id
        try:
            return self._prepare(self.store / "subjects" / name)
        except PETError as error:
            return Outcome(name, "failed", str(error))
        # Whatever a library makes of a damaged file must not stop the other subjects.
        except Exception as error:
            logger.debug("%s", name, exc_info=True)
            return Outcome(name, "failed", f"{type(error).__name__}: {reason_of(error)}")

    def _prepare(self, folder: Path) -> Outcome:
        name = self.subject.id
        old, reason = None, ""
        if folder.exists():
            try:
                old = read_record(folder)
            except PETError as error:
                reason = str(error)
        known = {i.what: i for i in old.inputs} if old is not None else {}
        inputs = inputs_of(self.subject, self.root, known=known, rehash=self.rehash)
        key = self._key(inputs)
        if old is not None and old.key == key:
            try:
                _verify(old, store=self.store)
            except PETError as error:
                reason = str(error)
            else:
                self._relabel(old, inputs, folder)
                return Outcome(name, "kept")
        self._build(folder, inputs=inputs, key=key)
        return Outcome(name, "repaired" if reason else "new" if old is None else "changed", reason)

    @property
    def _noise(self) -> NoiseInsertion | None:
        return None if self.subject.low_dose else self.insertion

    @property
    def _labels(self) -> dict[str, Any]:
        return {name: getattr(self.subject, name) for name in ("split", "tracer", "scanner")}

    def _key(self, inputs: Sequence[Input]) -> str:
        """Return the SHA-256 over everything that the volumes depend on."""
        content: dict[str, Any] = {
            **versions(),
            "inputs": [(i.what, i.sha256) for i in inputs],
            "sidecars": {image_name(i): i.sidecar for i in self.subject.images},
        }
        if named := {image_name(i): i.series for i in self.subject.images if i.series is not None}:
            content["series"] = named
        if self._noise is not None:
            content["insertion"] = self._noise.settings()
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _relabel(self, old: StoredSubject, inputs: tuple[Input, ...], folder: Path) -> None:
        """Take over what does not touch the volumes: split, names, times of files whose content is the same."""
        new = old.model_copy(update={**self._labels, "inputs": inputs})
        if new != old:
            write_record(new, folder / RECORD)

    def _build(self, folder: Path, *, inputs: tuple[Input, ...], key: str) -> None:
        # Made under a hidden name first: an old subject is there until the new one is complete.
        staged = folder.with_name(f".staged-{folder.name}")
        with new_folder(staged) as temporary:
            full = read_image(self.subject.full_dose, self.root)
            volumes = dict(self._write_volumes(temporary, full))
            record = StoredSubject(
                **versions(),
                key=key,
                id=self.subject.id,
                **self._labels,
                shape=full.suv.shape,
                affine=full.affine.tolist(),
                volumes=volumes,
                inputs=inputs,
            )
            write_record(record, temporary / RECORD)
        if folder.exists():
            folder.rename(folder.with_name(f".replaced-{folder.name}"))
        staged.rename(folder)
        shutil.rmtree(folder.with_name(f".replaced-{folder.name}"), ignore_errors=True)

    def _write_volumes(self, folder: Path, full: PETSeries) -> Iterator[tuple[str, StoredVolume]]:
        subject = self.subject
        for image in subject.images:
            series = full if image == subject.full_dose else self._read_like(full, image)
            factor = image.dose_reduction_factor if image.role == "dose" else None
            yield image_name(image), _write_image(series, folder / image_name(image), role=image.role, factor=factor)
        attenuation = self._attenuation(full)
        if attenuation is not None:
            yield "attenuation", _write("attenuation", attenuation, folder)
        if self._noise is not None:
            for factor, series in self._noise.low_doses(full, subject.id, attenuation=attenuation):
                stored = _write_image(series, folder / dose_key(factor), role="dose", factor=factor)
                yield dose_key(factor), stored.model_copy(update={"noise_inserted": True})
        if subject.lesions is not None:
            lesions = numbered_lesions(read_labels_on(self.root / subject.lesions.path, full.grid))
            yield "lesions", _write("lesions", lesions, folder)
        if subject.organs is not None:
            yield "organs", _write("organs", read_labels_on(self.root / subject.organs.path, full.grid), folder)

    def _attenuation(self, full: PETSeries) -> NDArray[np.float32] | None:
        """Return the attenuation [1/mm] on the grid of the full dose, from a map or else from the CT."""
        if self.subject.attenuation is not None:
            return read_on(self.root / self.subject.attenuation.path, full.grid)
        if self.subject.ct is not None:
            return attenuation_of_series(self.root / self.subject.ct.path, full).astype(np.float32)
        return None

    def _read_like(self, full: PETSeries, image: Image) -> PETSeries:
        series = read_image(image, self.root)
        check_same_grid({self.subject.full_dose.path: full.grid, str(self.root / image.path): series.grid})
        return series


def _write_image(series: PETSeries, path: Path, *, role: Role, factor: float | None) -> StoredVolume:
    return StoredVolume(
        kind="image",
        role=role,
        dose_reduction_factor=factor,
        provenance=series.provenance,
        header=asdict(series.header),
        index_crc32=write_volume(series.suv, path.with_name(f"{path.name}.vol")),
    )


def _write(kind: Kind, values: NDArray, folder: Path) -> StoredVolume:
    return StoredVolume(kind=kind, index_crc32=write_volume(values, folder / f"{kind}.vol"))


def _verify(subject: StoredSubject, *, store: Path) -> None:
    """Compare every chunk of every volume with its checksum."""
    for name, volume in subject.volumes.items():
        file = VolumeFile(volume_path(store, subject.id, name), index_crc32=volume.index_crc32)
        file.verify()
        file.close()
