"""What is known of one scan of many between runs: its result, or why there is none; its lock and its log."""

import hashlib
import json
import logging
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.data.store.fingerprints import files_of
from pipeline.errors import BusyError, PETError
from pipeline.files import locked_folder, remove_unfinished, write_json
from pipeline.pet.derived_files import bids_stem
from pipeline.pet.nifti import files_of_sidecar
from pipeline.pet.read import READING_VERSION
from pipeline.pet.volumes import is_volume_name

__all__ = ["LOGS", "STATES", "NamedScan", "ScanState", "StateFiles", "digest_of"]

STATES = ".cohort"
"""Folder of what is known of the scans, in the folder of results; it names their sources."""

LOGS = "logs"
"""Folder of a log for each scan, in the folder of results; they name their sources."""

_PATIENCE = (0.02, 0.1, 0.5)  # [s]


def digest_of(content: Any) -> str:
    """Return a short digest of what JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class NamedScan:
    """One scan of many."""

    path: Path
    """What :func:`pipeline.read_pet` reads."""
    name: str
    """What it is called among the others: its path in the folder of all, or as it was given."""
    sidecar: dict[str, Any] | None = None
    """Takes the place of the JSON file beside a volume."""

    @property
    def key(self) -> str:
        """Return a name for files that tells nothing of the patient: of BIDS, or ``scan``, and a digest of the name."""
        stem = bids_stem(self.path) or "scan"
        return f"{stem}-{hashlib.sha256(self.name.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"

    def nameless(self, text: str) -> str:
        """Return a text about the scan without paths and names of files; its key stands for them."""
        key = self.key
        text = re.sub(re.escape(str(self.path)) + r"(?:[\\/][^:]*)?", key, text)
        stem = "" if self.path.is_dir() else self.path.name.partition(".")[0]
        if stem and not bids_stem(self.path):
            text = re.sub(rf"{re.escape(stem)}[.\w]*", key, text)
        return re.sub(r"(?:[^\s:,]*[\\/])+[^\s:,]*", key, text)

    def signature(self, series: str | int | None = None) -> str:
        """Return a digest of the names, sizes and times of modification of all files that the scan is read from.

        Where it is the same, the voxels are: nothing has to be read to know that. It is another one after a change of
        how files are read.

        Raises
        ------
        OSError
            A folder cannot be opened.
        """
        try:
            files = files_of(self.path)
        except PETError:
            return "absent"
        if is_volume_name(self.path) and self.sidecar is None:
            files += files_of_sidecar(self.path)
        stats = [(str(file), file.stat()) for file in files if file.exists()]
        entries = sorted((name, found.st_size, found.st_mtime_ns) for name, found in stats)
        return digest_of([READING_VERSION, series, self.sidecar, entries])


@dataclass(frozen=True, kw_only=True)
class ScanState:
    """What became of a scan when it was last worked on."""

    outcome: Literal["done", "failed"]
    """Whether there is a result."""
    name: str
    """Of the scan, as `NamedScan` has it."""
    source: str
    """Its path then: another patient's scan may have the same name in another folder."""
    made: str
    """Digest of all that a result depends on beside the source."""
    signature: str
    """Of the source, as it was then."""
    folder: str = ""
    """Of the result, relative to that of all results."""
    file_name: str = ""
    """Begins the names of the result's volumes."""
    scan: str = ""
    """What tables call the scan."""
    source_sha256: str = ""
    """Of the voxels."""
    reason: str = ""
    """Why there is no result, in one line."""
    nameless: str = ""
    """The same without paths and names of files, which may name a patient; the scan's key stands for them."""


class StateFiles:
    """The files of one scan's state.

    Parameters
    ----------
    output_dir
        Folder of all results.
    key
        Of the scan.
    """

    def __init__(self, output_dir: Path, key: str) -> None:
        self.folder = output_dir / STATES / key
        self.log_file = output_dir / LOGS / f"{key}.log"
        self._file = self.folder / "state.json"

    def read(self) -> ScanState | None:
        """Return the state; None if there is none, or none of this version."""
        try:
            return ScanState(**json.loads(self._file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, state: ScanState) -> None:
        """Replace the state; raise PETError if it cannot be written."""
        write_json(self._file, asdict(state))

    def is_locked(self) -> bool:
        """Return whether a process works on the scan."""
        if not (self.folder / ".lock").exists():
            return False
        try:
            with self._lock():
                return False
        except BusyError:
            return True

    def _lock(self) -> AbstractContextManager[object]:
        return locked_folder(self.folder, "denoising this scan")

    def _patient_lock(self) -> AbstractContextManager[object]:
        """Return the lock, asked for more than once: whoever asks whether it is locked has it for a moment."""
        for seconds in _PATIENCE:
            try:
                return self._lock()
            except BusyError:
                time.sleep(seconds)
        return self._lock()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the scan, remove what a killed process left of it, and log what is said meanwhile.

        Raises
        ------
        BusyError
            Another process works on the scan.
        """
        with self._patient_lock():
            remove_unfinished(self.folder)
            self.log_file.parent.mkdir(exist_ok=True)
            handler = _Log(self.log_file, encoding="utf-8")
            logger = logging.getLogger("pipeline")
            level = logger.level
            logger.addHandler(handler)
            logger.setLevel(min(level or logging.INFO, logging.INFO))
            try:
                yield
            finally:
                logger.setLevel(level)
                logger.removeHandler(handler)
                handler.close()


class _Log(logging.FileHandler):
    """A log that ends no work when the disk is full."""

    def __init__(self, path: Path, *, encoding: str) -> None:
        super().__init__(path, encoding=encoding)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

    def handleError(self, record: logging.LogRecord) -> None:
        """Leave the line out."""

    def close(self) -> None:
        """Close the file, whose last bytes may not reach a full disk."""
        try:
            super().close()
        except OSError:
            self.stream = None
