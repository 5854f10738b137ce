"""Store: subjects on disk as chunked SUV volumes, of which crops are read without loading the rest.

One folder per subject below ``subjects/``: a file per image, and ``subject.json`` that says what they are and what
they were made from. :func:`~pipeline.data.prepare_store` writes it.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.data.manifest import Role, Split
from pipeline.data.store.volume_file import VolumeFile
from pipeline.errors import PETError, naming
from pipeline.files import write_text
from pipeline.pet import READING_VERSION, PETHeader, PETSeries

__all__ = ["FORMAT_VERSION", "Input", "Kind", "Store", "StoredSubject", "StoredVolume"]

FORMAT_VERSION = 2
"""Goes up when the same inputs and settings give other files, so that every subject is prepared anew."""
MARKER = "store.json"
"""File that tells a store from any other folder."""
RECORD = "subject.json"

Kind = Literal["image", "lesions", "organs", "attenuation"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Input(_Record):
    """A file or folder that a subject was made from."""

    what: str
    """What it is to the subject: ``full``, ``drf004``, ``sidecar of full``, ``lesions``, ..."""
    fingerprint: str
    """SHA-256 over path, sizes and times of modification: while it is the same, the content is not read again."""
    sha256: str
    """Of the content."""


class StoredVolume(_Record):
    """A volume of a subject."""

    kind: Kind
    role: Role | None = None
    """Of an image."""
    dose_reduction_factor: float | None = None
    """Of an image whose role is "dose"."""
    noise_inserted: bool = False
    """Whether the image was made from the full dose by noise insertion, and not acquired or simulated."""
    provenance: tuple[str, ...] = ()
    """How the image came about."""
    header: dict[str, Any] | None = None
    """Of an image: the fields of its :class:`~pipeline.pet.PETHeader`."""
    index_crc32: int
    """Checksum of the file's index, which holds the checksums of its chunks."""


class StoredSubject(_Record):
    """What is known of a subject of a store."""

    format_version: int
    reading_version: int = 1
    """READING_VERSION of `pipeline.pet` by which the images were read; version 0.2.0 did not state its own, 1."""
    key: str
    """SHA-256 over the contents it was made from, the settings, and the versions of format and reading."""
    id: str
    split: Split
    tracer: str
    scanner: str
    shape: tuple[int, int, int]
    """Voxels along X, Y, Z."""
    affine: tuple[tuple[float, float, float, float], ...]
    """Voxel index to RAS+ position [mm]. Shape (4, 4)."""
    volumes: dict[str, StoredVolume]
    """By name: ``full``, ``drf004``, ``full_repeat``, ``noise_free``, ``truth``, ``lesions``, ..."""
    inputs: tuple[Input, ...]

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """[mm]."""
        x, y, z = np.linalg.norm(np.array(self.affine)[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def doses(self) -> dict[float, str]:
        """Dose reduction factor -> name of the image, rising from the full dose, which is 1."""
        doses = {v.dose_reduction_factor: name for name, v in self.volumes.items() if v.role == "dose"}
        return dict(sorted((factor, name) for factor, name in doses.items() if factor is not None))


class Store:
    """A folder of prepared subjects.

    Reading needs memory for the indices of the files that are open, of which there are at most `max_open`, however
    many volumes there are. A store can be pickled; the copy opens files of its own.

    `subjects` are the ids of those to open; None opens all.

    Raises
    ------
    PETError
        If it is no store, is empty, lacks one of the subjects, or a subject's record is damaged or of another reading.
    """

    def __init__(self, path: str | Path, *, max_open: int = 64, subjects: Iterable[str] | None = None) -> None:
        self.path = Path(path)
        self.max_open = max_open
        check_marker(self.path)
        names = None if subjects is None else set(subjects)
        folders = [folder for folder in subject_folders(self.path) if names is None or folder.name in names]
        records = [_current_record(folder) for folder in folders]
        self.subjects = {record.id: record for record in records}
        """Subjects by id, in alphabetical order."""
        if not self.subjects:
            raise PETError(f"{self.path}: holds no subject, expected a prepared store")
        if subjects is not None:
            self.subjects = {subject_id: self.subject(subject_id) for subject_id in sorted(subjects)}
        self._open: OrderedDict[Path, VolumeFile] = OrderedDict()
        # Which chunks this process has compared with their checksums: a byte per chunk, kept when a file is closed.
        self._checked: dict[Path, NDArray[np.bool_]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict(), "_checked": {}}

    def of_split(self, split: Split) -> tuple[StoredSubject, ...]:
        """Return the subjects of one split."""
        return tuple(subject for subject in self.subjects.values() if subject.split == split)

    def subject(self, subject_id: str) -> StoredSubject:
        """Return one subject.

        Raises
        ------
        PETError
            If there is none of that name.
        """
        try:
            return self.subjects[subject_id]
        except KeyError:
            raise PETError(f"{self.path}: has no subject {subject_id}, expected one of {len(self.subjects)}") from None

    def volume(self, subject_id: str, name: str) -> VolumeFile:
        """Return a volume of a subject: slices of it read what they ask for, and ``[...]`` everything.

        Do not keep it: the store closes the files that were not asked for lately.

        Raises
        ------
        PETError
            If there is no such subject or volume, or its file is missing or damaged.
        """
        subject = self.subject(subject_id)
        if name not in subject.volumes:
            raise PETError(f"{self.path}: {subject_id} has no {name}, expected one of {', '.join(subject.volumes)}")
        path = volume_path(self.path, subject_id, name)
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        file = VolumeFile(path, index_crc32=subject.volumes[name].index_crc32, checked=self._checked.get(path))
        if subject.volumes[name].kind in ("image", "lesions", "organs", "attenuation") and file.shape != subject.shape:
            raise PETError(f"{path}: has shape {file.shape}, expected {subject.shape} as its record says")
        self._checked[path] = file.checked
        self._open[path] = file
        if len(self._open) > self.max_open:
            self._open.popitem(last=False)[1].close()
        return file

    def series(self, subject_id: str, name: str = "full") -> PETSeries:
        """Return a whole image with its geometry and header.

        Raises
        ------
        PETError
            If there is no such image, or its file is missing or damaged.
        """
        suv = self.volume(subject_id, name)[...]
        subject = self.subject(subject_id)
        volume = subject.volumes[name]
        if volume.header is None:
            raise PETError(f"{self.path}: {name} of {subject_id} is no image in SUV, expected one such as full")
        return PETSeries(
            suv=suv, affine=np.array(subject.affine), header=PETHeader(**volume.header), provenance=volume.provenance
        )


def subject_folders(store: Path) -> Iterator[Path]:
    """Yield the folders of the subjects of a store, by name; those still being written have hidden names."""
    subjects = store / "subjects"
    if subjects.is_dir():
        yield from sorted(f for f in subjects.iterdir() if f.is_dir() and not f.name.startswith("."))


def volume_path(store: Path, subject_id: str, name: str) -> Path:
    """Return the file of a volume."""
    return store / "subjects" / subject_id / f"{name}.vol"


def check_marker(store: Path) -> None:
    """Raise a PETError for a folder that is no store of this format."""
    if not store.is_dir():
        raise PETError(f"{store}: no such folder, expected a store made by `unipet prepare`")
    try:
        content = json.loads((store / MARKER).read_text(encoding="utf-8"))
        version = content["format_version"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise PETError(f"{store}: has no readable {MARKER}, expected a store made by `unipet prepare`") from error
    if version != FORMAT_VERSION:
        raise PETError(f"{store}: has format {version}, expected {FORMAT_VERSION}; prepare it again in another folder")


def read_record(folder: Path) -> StoredSubject:
    """Read a subject's record, and compare its checksum.

    Raises
    ------
    PETError
        If it is missing or damaged.
    """
    path = folder / RECORD
    with naming(path):
        text = path.read_text(encoding="utf-8", errors="replace")
    try:
        content = json.loads(text)
        stated = content.pop("sha256")
        if stated != _sha256(content):
            raise ValueError("its checksum differs")
        return StoredSubject.model_validate(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ValidationError) as error:
        raise PETError(f"{path}: is damaged; run `unipet prepare` again, which rebuilds it") from error


def versions() -> dict[str, Any]:
    """Return the versions that the files of a subject depend on."""
    return {"format_version": FORMAT_VERSION, "reading_version": READING_VERSION}


def _current_record(folder: Path) -> StoredSubject:
    """Read a subject's record, and refuse images that this version would read differently."""
    record = read_record(folder)
    if record.reading_version != READING_VERSION:
        found = f"was read by an earlier version (reading {record.reading_version}, expected {READING_VERSION})"
        remedy = "run `unipet prepare` again, which remakes it, with --prune if the manifest no longer has it"
        raise PETError(f"{folder}: {found}, whose SUV may differ; {remedy}")
    return record


def write_record(subject: StoredSubject, path: Path) -> None:
    """Write a subject's record with its checksum."""
    content = subject.model_dump(mode="json")
    write_text(path, json.dumps({**content, "sha256": _sha256(content)}, indent=1) + "\n")


def _sha256(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
