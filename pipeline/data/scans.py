"""Find the PET scans in a folder."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydicom
from pydicom.errors import InvalidDicomError

from pipeline.errors import PETError, one_line
from pipeline.files import UNFINISHED
from pipeline.pet.dicom.reading.stored_files import walk_folders
from pipeline.pet.nifti import sidecar_files
from pipeline.pet.volumes import is_volume_name

__all__ = ["find_scans"]

logger = logging.getLogger(__name__)


def find_scans(folder: str | Path, *, results: str | Path | None = None) -> list[str]:
    """Return the paths of all PET scans below a folder, sorted: NIfTI files with a sidecar, folders of DICOM slices.

    Symbolic links are followed. A folder counts as DICOM when one of its files begins as DICOM Part 10 says (``DICM``
    after 128 bytes) and is of modality PT. No scans are: what another program, or this one, has not finished writing,
    what this program denoised, and everything below `results`.

    Parameters
    ----------
    folder
        Where to look.
    results
        Folder for results, perhaps below the folder.

    Raises
    ------
    PETError
        If there is none, or the folder does not exist.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PETError(f"{folder}: no such folder")
    below = None if results is None else Path(results).resolve()

    def enter(place: Path) -> bool:
        is_results = place != folder and place.resolve() == below
        return not (place.name.startswith(UNFINISHED) or is_results or _is_result(place))

    scans = []
    for place, names in walk_folders(folder, enter=enter):
        files = [place / name for name in names if not name.startswith(UNFINISHED)]
        if (first := next(filter(_is_dicom, files), None)) is not None and _is_pet(first):
            scans.append(place)
        scans += [path for path in files if is_volume_name(path) and _is_source(sidecar_files(path))]
    if not scans:
        raise PETError(f"{folder}: no PET scan found, expected NIfTI with JSON sidecar or folders of DICOM slices")
    return [str(path) for path in sorted(scans)]


def _is_result(folder: Path) -> bool:
    """Return whether this program denoised a scan into a folder."""
    return "method" in (record := _json(folder / "run.json")) and "unipet_3d" in record


def _is_source(sidecars: Sequence[Path]) -> bool:
    """Return whether a volume has sidecars, and is PET that this program did not denoise."""
    content = {key: value for sidecar in sidecars for key, value in _json(sidecar).items()}
    return bool(sidecars) and "DenoisingMethod" not in content and content.get("Modality", "PT") in ("PT", "PET")


def _json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file; empty if it cannot be read, which its reader will say."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_dicom(path: Path) -> bool:
    # The directory of a disc is DICOM as well, and no scan.
    if path.name.upper() == "DICOMDIR" or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _is_pet(path: Path) -> bool:
    """Return whether a DICOM file is of a PET series; one that cannot be read is left to the reader, which says why."""
    try:
        modality = str(pydicom.dcmread(path, specific_tags=["Modality"], stop_before_pixels=True).get("Modality", "PT"))
    except (InvalidDicomError, OSError, ValueError, EOFError):
        return True
    if modality != "PT":
        logger.info("%s: left out, modality %s is no PET", one_line(str(path.parent)), one_line(modality))
    return modality == "PT"
