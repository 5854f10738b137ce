"""The scans of a cohort: of a folder, a BIDS data set, a list, a manifest, or named one by one."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.data import Manifest, find_scans
from pipeline.errors import PETError
from pipeline.pet.derived_files import pet_images
from pipeline.workflow.scan_state import NamedScan

__all__ = ["ManifestScans", "ScanFolder", "ScanList", "Scans", "scans_in"]


class Scans(Protocol):
    """Scans, and where their results go."""

    @property
    def output_dir(self) -> Path:
        """Folder of results."""

    def __iter__(self) -> Iterator[NamedScan]:
        """Yield the scans; raise PETError if there is none."""


class ScanFolder:
    """The scans below a folder, looked for when they are asked for; what lies in the folder of results is none.

    Of a BIDS data set these are the PET images of its subjects, of any other folder what `find_scans` finds.
    """

    def __init__(self, folder: str | Path, output_dir: str | Path) -> None:
        # A name of digits alone reaches a configuration as a number.
        self.folder = Path(str(folder)).expanduser()
        self.output_dir = Path(str(output_dir)).expanduser()

    def __iter__(self) -> Iterator[NamedScan]:
        """Yield the scans, sorted by their names; raise PETError if there is none."""
        if _is_raw_dataset(self.folder):
            paths = sorted(path for subject in self.folder.glob("sub-*") for path in pet_images(subject))
            if not paths:
                raise PETError(
                    f"{self.folder}: no PET image found, expected sub-*/[ses-*/]pet/*_pet.nii.gz, as BIDS has"
                )
        else:
            paths = [Path(path) for path in find_scans(self.folder, results=self.output_dir)]
        return (NamedScan(path=path, name=path.relative_to(self.folder).as_posix()) for path in paths)


@dataclass(frozen=True)
class ScanList:
    """Scans that were named one by one."""

    paths: Sequence[Path]
    """What :func:`pipeline.read_pet` reads."""
    output_dir: Path
    """Folder of results."""

    def __iter__(self) -> Iterator[NamedScan]:
        """Yield the scans."""
        return (NamedScan(path=path, name=str(path)) for path in self.paths)


@dataclass(frozen=True)
class ManifestScans:
    """The scans of a manifest: of each subject those of less than full dose, or that of full dose where it is alone."""

    file: Path
    """The manifest."""
    output_dir: Path
    """Folder of results."""
    root: Path | None = None
    """Folder of the data; by default that of the manifest."""

    def __iter__(self) -> Iterator[NamedScan]:
        """Yield the scans; raise PETError if there is none."""
        manifest, root = Manifest.from_file(self.file), self.root or self.file.parent
        if not manifest.subjects:
            raise PETError(f"{self.file}: has no subjects, expected those that `unipet manifest build` finds")
        images = [image for subject in manifest.subjects for image in subject.low_dose or (subject.full_dose,)]
        return (
            NamedScan(path=root / image.path, name=image.path, sidecar=image.sidecar)
            for image in sorted(images, key=lambda image: image.path)
        )


def scans_in(source: Path, output_dir: Path, *, root: Path | None = None) -> Scans:
    """Return the scans that a folder, a BIDS data set, a list of paths (.txt) or a manifest (.yaml) holds.

    A list has a path in every line, relative to its own folder; empty lines and those that begin with # are none.
    `root` is the folder of a manifest's data.

    Raises
    ------
    PETError
        It is none of these, or a list cannot be read, is empty, or names a scan twice.
    """
    suffix = source.suffix.lower()
    if root is not None and (source.is_dir() or suffix not in (".yaml", ".yml")):
        raise PETError(f"{source}: --root was given, expected it with a manifest (.yaml)")
    if source.is_dir():
        return ScanFolder(source, output_dir)
    if not source.exists():
        raise PETError(f"{source}: no such file or folder")
    if suffix in (".yaml", ".yml"):
        return ManifestScans(source, output_dir, root)
    if suffix == ".txt":
        return ScanList(_listed(source), output_dir)
    raise PETError(f"{source}: expected a folder of scans, a list of paths (.txt) or a manifest (.yaml)")


def _listed(file: Path) -> list[Path]:
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise PETError(f"{file}: cannot be read as a list of paths ({type(error).__name__})") from error
    paths: dict[Path, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line or line.startswith("#"):
            continue
        path = file.parent / Path(line).expanduser()
        if path in paths:
            raise PETError(f"{file}: line {number} names the scan of line {paths[path]}, expected each once")
        paths[path] = number
    if not paths:
        raise PETError(f"{file}: names no scan, expected a path in every line")
    return list(paths)


def _is_raw_dataset(folder: Path) -> bool:
    try:
        described = json.loads((folder / "dataset_description.json").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return False
    return isinstance(described, dict) and "BIDSVersion" in described and described.get("DatasetType") != "derivative"
