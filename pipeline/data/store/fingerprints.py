"""What a subject of the store is made from: the files a manifest names, and how to tell that they changed."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.doses import dose_key
from pipeline.data.manifest import File, Image, Subject
from pipeline.data.store.checksums import content_sha256
from pipeline.data.store.store import Input
from pipeline.errors import PETError, naming
from pipeline.pet.sidecar_files import files_of_sidecar, sidecar_path_of
from pipeline.pet.volumes import is_volume_name

__all__ = ["image_name", "inputs_of"]


@dataclass(frozen=True)
class _Source:
    what: str
    path: Path
    expected: str | None = None
    """SHA-256 that the manifest states."""


def image_name(image: Image) -> str:
    """Name of an image in the store: ``full``, ``drf004``, or its role."""
    return dose_key(image.dose_reduction_factor) if image.role == "dose" else image.role


def inputs_of(subject: Subject, root: Path, *, known: Mapping[str, Input], rehash: bool = False) -> tuple[Input, ...]:
    """Checksums of everything a subject is made from.

    Parameters
    ----------
    subject
        A subject of a manifest.
    root
        Folder that its paths are relative to.
    known
        What was found earlier, by name: an input of the same path, sizes and times of modification is not read again.
    rehash
        Read all of them again.

    Raises
    ------
    PETError
        If a file is missing, or is not what the manifest's checksum says.
    """
    inputs = []
    for source in _sources(subject, root):
        with naming(source.path):
            fingerprint = _fingerprint(source.path, relative_to=root)
            old = known.get(source.what)
            if old is not None and old.fingerprint == fingerprint and not rehash:
                sha256 = old.sha256
            else:
                sha256 = content_sha256(source.path)
            if source.expected not in (None, sha256):
                raise PETError(f"has SHA-256 {sha256[:12]}..., expected {source.expected[:12]}... as in the manifest")
        inputs.append(Input(what=source.what, fingerprint=fingerprint, sha256=sha256))
    return tuple(inputs)


def _sources(subject: Subject, root: Path) -> Iterator[_Source]:
    for image in subject.images:
        name, path = image_name(image), root / image.path
        yield _Source(name, path, image.sha256)
        # SUV depends on the sidecar as much as on the voxels.
        if image.sidecar is None and is_volume_name(path):
            for stated in files_of_sidecar(path):
                is_beside = stated == sidecar_path_of(path)
                yield _Source(f"sidecar of {name}" if is_beside else f"{stated.name} of {name}", stated)
    others: dict[str, File | None] = {
        "lesions": subject.lesions,
        "organs": subject.organs,
        "attenuation": subject.attenuation,
        "ct": subject.ct,
    }
    for name, file in others.items():
        if file is not None:
            yield _Source(name, root / file.path, file.sha256)


def _fingerprint(path: Path, *, relative_to: Path) -> str:
    """SHA-256 over the path, and names, sizes and times of modification of the files."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    if not files:
        raise PETError("no such file, or an empty folder")
    stats = [(file, file.stat()) for file in files]
    entries = [(f.relative_to(relative_to).as_posix(), s.st_size, s.st_mtime_ns) for f, s in stats]
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()
