"""Where results lie: a folder for each scan, or one BIDS derivative data set for all."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import PETError
from pipeline.files import added_files, new_folder
from pipeline.pet import PETSeries
from pipeline.pet.derived_files import bids_name, describe_results, scan_name
from pipeline.pet.dicom.writing.equipment import PRODUCT
from pipeline.workflow.scan_run import source_sha256

__all__ = ["Layout", "Places", "ResultFiles", "places_in"]

Layout = Literal["folders", "bids"]
"""A folder for each scan with files of fixed names, or ``sub-*/[ses-*/]pet`` of one data set."""


@dataclass(frozen=True, kw_only=True)
class ResultFiles:
    """The files of one scan's results."""

    folder: Path
    """Where they are."""
    name: str
    """Begins the names of volumes, and in a shared folder of all files."""
    scan: str
    """What tables call the scan: the name, or another if another scan has it."""
    is_shared: bool = False
    """Whether the results of other scans lie in the same folder."""

    def file(self, name: str) -> Path:
        """Return the path of what is called ``lesions.tsv``, ``run.json``, ``dicom``, ... in a folder of its own."""
        return self.folder / (f"{self.name}_{name}" if self.is_shared else name)

    def volume(self, part: str) -> Path:
        """Return the path of a volume, such as that of the part ``denoised``."""
        return self.folder / f"{self.name}_desc-{part}_pet.nii.gz"

    def record(self) -> dict[str, Any]:
        """Return the run record; empty if there is none of this program."""
        return _json(self.file("run.json"))


class Places(ABC):
    """The folder of results of several scans.

    Parameters
    ----------
    root
        The folder; made if need be.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @abstractmethod
    def check(self) -> None:
        """Refuse a folder that results of this layout cannot be added to.

        Raises
        ------
        PETError
            Names what it holds.
        """

    @abstractmethod
    def candidates(self, series: PETSeries) -> Iterator[ResultFiles]:
        """Yield where the results of a series go, and where if that place is taken by another scan of its name."""

    @abstractmethod
    def writing(self, files: ResultFiles, source: Path) -> AbstractContextManager[ResultFiles]:
        """Return temporary places of these files of a source, which are all moved to them if the block succeeds."""


class Folders(Places):
    """A folder for each scan, ``ROOT/NAME``."""

    def check(self) -> None:
        """Accept any folder: a scan whose own is taken is refused alone."""

    def candidates(self, series: PETSeries) -> Iterator[ResultFiles]:
        """Yield ``NAME``, and ``NAME_`` with the first eight characters of the source's digest."""
        name = scan_name(series)
        for scan in (name, f"{name}_{source_sha256(series)[:8]}"):
            yield ResultFiles(folder=self.root / scan, name=name, scan=scan)

    @contextmanager
    def writing(self, files: ResultFiles, source: Path) -> Iterator[ResultFiles]:
        """See `Places`; the folder must be absent or empty."""
        with new_folder(files.folder) as temporary:
            yield replace(files, folder=temporary)
            describe_results(temporary)


class BIDSDataset(Places):
    """One data set, ``ROOT/sub-*/[ses-*/]pet``; what BIDS has no place for lies beside the volumes and is ignored."""

    def check(self) -> None:
        """Refuse a folder that holds something and is no such data set."""
        there = sorted(path.name for path in self.root.glob("[!.]*")) if self.root.is_dir() else []
        described = _json(self.root / "dataset_description.json")
        made_by = described.get("GeneratedBy")
        names = [entry.get("Name") for entry in made_by if isinstance(entry, dict)] if isinstance(made_by, list) else []
        is_ours = described.get("DatasetType") == "derivative" and PRODUCT in names
        if there and (not is_ours or "run.json" in there):
            expected = f"expected a new folder or a derivative data set by {PRODUCT}"
            raise PETError(f"{self.root}: holds {there[0]} and is no data set of results, {expected}")

    def candidates(self, series: PETSeries) -> Iterator[ResultFiles]:
        """Yield the name of the source, and one whose subject ends in the first eight characters of its digest."""
        for apart in ("", source_sha256(series)[:8]):
            name = bids_name(scan_name(series), apart=apart)
            folders = [part for part in name.split("_") if part.startswith(("sub-", "ses-"))]
            yield ResultFiles(folder=self.root.joinpath(*folders, "pet"), name=name, scan=name, is_shared=True)

    @contextmanager
    def writing(self, files: ResultFiles, source: Path) -> Iterator[ResultFiles]:
        """See `Places`; what is there stays, and none of the files may be."""
        with added_files(files.folder, root=self.root, last=files.file("run.json").name) as temporary:
            yield replace(files, folder=temporary)
            describe_results(self.root, source=source)


def places_in(root: Path, layout: Layout) -> Places:
    """Return the places of results in a folder.

    Raises
    ------
    PETError
        The layout is unknown.
    """
    kinds: dict[str, type[Places]] = {"folders": Folders, "bids": BIDSDataset}
    if layout not in kinds:
        raise PETError(f"layout {layout!r}, expected {' or '.join(kinds)}")
    return kinds[layout](root)


def _json(path: Path) -> dict[str, Any]:
    """Return the content of a file of JSON; empty if it is missing or something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
