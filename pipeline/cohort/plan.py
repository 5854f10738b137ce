"""Memory and disk that the scans to come need, before the first is denoised."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from pipeline.engine import Workers, plan
from pipeline.errors import PETError, naming
from pipeline.memory import free_memory
from pipeline.pet.dicom.reading.stored_files import is_archive, walk_folders
from pipeline.pet.volumes import is_volume_name, read_grid
from pipeline.workflow.denoise import VOLUMES
from pipeline.workflow.scan_state import NamedScan
from pipeline.workflow.scan_task import DenoiseOptions

__all__ = ["CohortPlan", "n_voxels_of", "plan_of"]

WORKER = 800 << 20
"""Memory of a worker beside its scan [B]: interpreter, torch, a network and its layers; measured on the CPU."""

_VOLUME, _DICOM, _MAPS, _VIEWER = 4, 2, 16, 8  # [B] a voxel takes on the disk, at most
_PAGE = 5 << 20  # [B] of a scan's page, whose figures have one size whatever the scan has
_TABLES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class CohortPlan:
    """What the scans to come need."""

    n_scans: int
    """Scans to come."""
    memory: int
    """That a worker needs for the largest of them that fits [B]."""
    disk: int
    """All results together need, at most [B]."""
    workers: Workers
    """On which they run: as many of those that were asked for as have room."""
    reason: str = ""
    """Why there are fewer; empty where there are not."""

    def __str__(self) -> str:
        """Return the plan in one line."""
        text = f"{self.n_scans} scans to denoise, {_gib(self.memory)} of memory each, at most {_gib(self.disk)} of disk"
        return f"{text}; {self.reason}" if self.reason else text


def plan_of(scans: Sequence[NamedScan], output_dir: Path, *, options: DenoiseOptions, where: Workers) -> CohortPlan:
    """Return the plan for scans, with fewer workers where memory does not suffice for all.

    A scan that does not fit beside nothing else is left to fail alone.

    Raises
    ------
    PETError
        The disk has less room than the results may need, or memory does not suffice for a single scan.
    """
    voxels = [n_voxels_of(scan.path) for scan in scans]
    needs = [WORKER + VOLUMES * 4 * count for count in voxels]
    free = None if where.elsewhere else free_memory()
    memory = max((need for need in needs if free is None or need <= free), default=min(needs, default=WORKER))
    disk = sum(_bytes_of(count, options) for count in voxels)
    free_disk = shutil.disk_usage(_existing(output_dir)).free
    with naming(output_dir):
        found = plan(
            len(scans),
            jobs=where.jobs,
            memory_per_task=memory,
            disk_per_task=disk // max(1, len(scans)),
            free_memory=free,
            free_disk=free_disk,
        )
    workers = where if where.elsewhere else replace(where, jobs=found.jobs, memory=where.memory or found.memory)
    return CohortPlan(n_scans=len(scans), memory=memory, disk=disk, workers=workers, reason=found.reason)


def n_voxels_of(path: Path) -> int:
    """Return about how many voxels a scan has, from the headers of volumes and the sizes of DICOM files.

    What cannot be read has none: its reader will say why.
    """
    try:
        if is_volume_name(path):
            x, y, z = read_grid(path).shape
            return x * y * z
        if path.is_dir():
            sizes = [(place / name).stat().st_size for place, names in walk_folders(path) for name in names]
        elif is_archive(path):
            with ZipFile(path) as archive:
                sizes = [entry.file_size for entry in archive.infolist()]
        else:
            sizes = [path.stat().st_size]
        return sum(sizes) // 2  # pixels of PET have 16 bits
    except (PETError, OSError, BadZipFile):
        return 0


def _bytes_of(n_voxels: int, options: DenoiseOptions) -> int:
    a_voxel = _VOLUME + _DICOM
    a_voxel += _MAPS if options.repeats is not None and options.repeats.maps else 0
    a_voxel += _VIEWER if options.viewer else 0
    return n_voxels * a_voxel + _TABLES + (_PAGE if options.report else 0)


def _existing(folder: Path) -> Path:
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())


def _gib(size: int) -> str:
    return f"{size / 2**30:.2g} GiB"
