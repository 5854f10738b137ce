"""Where results lie: a folder for each scan, or one BIDS derivative data set for all."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import PETError
from pipeline.files import added_files, locked_folder, new_folder, remove
from pipeline.pet import PETSeries
from pipeline.pet.derived_files import COHORT_FILES, bids_name, describe_results, scan_name
from pipeline.pet.dicom.writing.equipment import PRODUCT
from pipeline.workflow.scan_run import source_sha256
from pipeline.workflow.scan_state import STATES, ScanState

__all__ = ["Layout", "Places", "ResultFiles", "files_of_state", "places_in", "root_locked"]

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

    def listing(self) -> dict[str, int]:
        """Return the size of every file of a folder that holds nothing else [B], and the entries of every folder."""
        entries = sorted(self.folder.iterdir())
        return dict(
            (f"{path.name}/", _n_entries(path)) if path.is_dir() else (path.name, path.stat().st_size)
            for path in entries
        )

    def is_complete(self) -> bool:
        """Return whether all that the run record lists is there, in its size; records before 0.4.0 list nothing."""
        listed = self.record().get("files", {})
        try:
            return all(
                _n_entries(self.folder / name) == size
                if name.endswith("/")
                else (self.folder / name).stat().st_size == size
                for name, size in listed.items()
            )
        except OSError:
            return False

    def remove(self) -> None:
        """Delete the results, the record last, and nothing else.

        Raises
        ------
        PETError
            There is something else in a folder of their own, or the record does not list them.
        """
        for name in sorted(self.own_names(), key=lambda name: name == self.file("run.json").name):
            remove(self.folder / name)
        if not self.is_shared:
            self.folder.rmdir()

    def own_names(self) -> list[str]:
        """Return the names of the results that are there, the record's included.

        Raises
        ------
        PETError
            There is something else in a folder of their own, or the record does not list them.
        """
        listed = self.record().get("files")
        if not isinstance(listed, dict):
            expected = "expected another folder of results"
            raise PETError(f"{self.folder}: is by an earlier version, and otherwise made, {expected}")
        ours = {self.file("run.json").name, *(name.rstrip("/") for name in listed)}
        there = {path.name for path in self.folder.iterdir()}
        if not self.is_shared and (others := sorted(there - ours)):
            expected = "expected it elsewhere, as the result is to be made anew"
            raise PETError(f"{self.folder}: holds {others[0]}, which is no part of the result, {expected}")
        return sorted(ours & there)


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
    def writing(
        self, files: ResultFiles, source: Path, *, within: Path, replacing: ResultFiles | None = None
    ) -> AbstractContextManager[ResultFiles]:
        """Return temporary places of these files of a source, which are all moved to them if the block succeeds.

        The temporary places are made in the folder `within`. An older result of the scan, `replacing`, stays as it is
        until then, and disappears.

        Raises
        ------
        PETError
            The older result has something of somebody else in its folder.
        """


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
    def writing(
        self, files: ResultFiles, source: Path, *, within: Path, replacing: ResultFiles | None = None
    ) -> Iterator[ResultFiles]:
        """See `Places`; the folder must be absent, empty, or that which is replaced."""
        if replacing is not None:
            replacing.own_names()
        in_place = replacing is not None and replacing.folder == files.folder
        with new_folder(files.folder, within=within, replaces=in_place) as temporary:
            describe_results(temporary)
            yield replace(files, folder=temporary)
        if replacing is not None and not in_place:
            replacing.remove()


class BIDSDataset(Places):
    """One data set, ``ROOT/sub-*/[ses-*/]pet``; what BIDS has no place for lies beside the volumes and is ignored."""

    def check(self) -> None:
        """Refuse a folder that holds something and is no such data set."""
        # A run that was killed early, or whose first scans failed, has described nothing yet.
        there = sorted(path.name for path in self.root.glob("[!.]*") if not any(map(path.match, COHORT_FILES)))
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
    def writing(
        self, files: ResultFiles, source: Path, *, within: Path, replacing: ResultFiles | None = None
    ) -> Iterator[ResultFiles]:
        """See `Places`; what is there stays, and none of the files may be, but those that are replaced."""
        old = [] if replacing is None else replacing.own_names()
        in_place = replacing is not None and replacing.name == files.name
        record = files.file("run.json").name
        with added_files(files.folder, within=within, first=record, replacing=old if in_place else ()) as temporary:
            yield replace(files, folder=temporary)
            with root_locked(self.root):
                describe_results(self.root, source=source)
        if replacing is not None and not in_place:
            replacing.remove()


def root_locked(root: Path) -> AbstractContextManager[object]:
    """Wait until no other process writes what is of all scans together, and lock it."""
    return locked_folder(root / STATES, "writing what is of all scans together", wait=True)


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


def files_of_state(root: Path, state: ScanState, layout: Layout) -> ResultFiles:
    """Return the files of the result that is known of a scan, in a folder of results."""
    folder = root / state.folder
    return ResultFiles(folder=folder, name=state.file_name, scan=state.scan, is_shared=layout == "bids")


def _n_entries(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir())


def _json(path: Path) -> dict[str, Any]:
    """Return the content of a file of JSON; empty if it is missing or something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
