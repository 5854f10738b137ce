"""How to tell that data changed: digests of files and folders, and of all that a subject of a store is made from."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pipeline.data.manifest import Image, Subject, other_files
from pipeline.data.store.store import Input
from pipeline.errors import PETError, naming
from pipeline.files import sha256_of
from pipeline.pet.dicom.reading.stored_files import walk_folders
from pipeline.pet.nifti import files_of_sidecar
from pipeline.pet.volumes import is_volume_name, sidecar_path_of
from pipeline.simulation.low_dose import dose_entity

__all__ = ["content_sha256", "dose_key", "files_of", "image_name", "inputs_of"]


def content_sha256(path: str | Path, *, progress: Callable[[int], object] | None = None) -> str:
    r"""Return the SHA-256 of a file's bytes, or of a folder's names and contents.

    A folder's digest is that of one line ``<sha256>  <name>\n`` per file below it, names relative to the folder with
    forward slashes and in the order of their UTF-8 bytes, which is what ``sha256sum`` prints. It depends neither on
    the folder's own name nor on dates and permissions. Hidden files count; empty folders do not; a DICOMDIR counts as
    its folder. `progress` is called with the number of bytes after each block; one core reads at most about 1 GB/s.

    Raises
    ------
    PETError
        If there is nothing at the path, the folder holds no file, or something cannot be read.
    """
    path = _whole(Path(path))
    with naming(path):
        if path.is_file():
            return sha256_of(path, progress=progress)
        files = {file.relative_to(path).as_posix(): file for file in files_of(path)}
        lines = hashlib.sha256()
        for name in sorted(files, key=lambda name: name.encode("utf-8", "surrogateescape")):
            lines.update(f"{sha256_of(files[name], progress=progress)}  {name}\n".encode("utf-8", "surrogateescape"))
        return lines.hexdigest()


def dose_key(dose_reduction_factor: float) -> str:
    """Return the name of the image of a dose: ``full``, ``drf004``, ``drf020``, ``drf007p5``."""
    return "full" if dose_reduction_factor == 1 else dose_entity(dose_reduction_factor)


def image_name(image: Image) -> str:
    """Return the name of an image in the store: ``full``, ``drf004``, or its role."""
    return dose_key(image.dose_reduction_factor) if image.role == "dose" else image.role


def inputs_of(subject: Subject, root: Path, *, known: Mapping[str, Input], rehash: bool = False) -> tuple[Input, ...]:
    """Return the digests of everything that a subject is made from.

    An input of `known` (by name, from an earlier run) with the same path, sizes and times of modification is not read
    again, unless `rehash` asks for it.

    Raises
    ------
    PETError
        If a file is missing, or is not what the manifest's checksum says.
    """
    inputs = []
    for what, path, expected in _sources(subject, root):
        with naming(path):
            fingerprint = _fingerprint(path, root)
            old = known.get(what)
            is_known = old is not None and old.fingerprint == fingerprint and not rehash
            sha256 = old.sha256 if old is not None and is_known else content_sha256(path)
            if expected is not None and sha256 != expected:
                raise PETError(f"has SHA-256 {sha256[:12]}..., expected {expected[:12]}... as in the manifest")
        inputs.append(Input(what=what, fingerprint=fingerprint, sha256=sha256))
    return tuple(inputs)


def _sources(subject: Subject, root: Path) -> Iterator[tuple[str, Path, str | None]]:
    """Yield for each input what it is to the subject, its path, and the SHA-256 that the manifest states."""
    for image in subject.images:
        name, path = image_name(image), root / image.path
        yield name, path, image.sha256
        # SUV depends on the sidecar as much as on the voxels.
        if image.sidecar is None and is_volume_name(path):
            for stated in files_of_sidecar(path):
                is_beside = stated == sidecar_path_of(path)
                yield f"sidecar of {name}" if is_beside else f"{stated.name} of {name}", stated, None
    for name, file in other_files(subject).items():
        yield name, root / file.path, file.sha256


def _fingerprint(path: Path, root: Path) -> str:
    """Return a SHA-256 over the path, and the names, sizes and times of modification of its files."""
    stats = [(file, file.stat()) for file in files_of(path)]
    # A sidecar that is inherited may lie above the root.
    entries = [(Path(os.path.relpath(f, root)).as_posix(), s.st_size, s.st_mtime_ns) for f, s in stats]
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()


def _whole(path: Path) -> Path:
    """Return a path, of a DICOMDIR its folder, which holds the images that it refers to."""
    return path.parent if path.name.upper() == "DICOMDIR" and path.is_file() else path


def files_of(path: Path) -> list[Path]:
    """Return a file itself, or every file below a folder or beside a DICOMDIR, sorted; links are followed."""
    path = _whole(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise PETError("no such file or folder")
    files = sorted(place / name for place, names in walk_folders(path) for name in names)
    if not files:
        raise PETError("the folder is empty, expected files to take a checksum of")
    return files
