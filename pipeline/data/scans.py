"""Find the PET scans in a folder."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from pipeline.errors import PETError, one_line
from pipeline.files import UNFINISHED
from pipeline.pet.dicom.reading.choice import PET_CLASSES, only_corrected
from pipeline.pet.dicom.reading.files import SliceFile, read_dataset
from pipeline.pet.dicom.reading.stored_files import StoredFile, files_below, is_archive, walk_folders
from pipeline.pet.dicom.values import text_of
from pipeline.pet.nifti import sidecar_files
from pipeline.pet.volumes import is_volume_name

__all__ = ["find_scans"]

logger = logging.getLogger(__name__)

_PICTURE = SecondaryCaptureImageStorage  # begins the UIDs of its multi-frame kinds, too


def find_scans(folder: str | Path, *, results: str | Path | None = None) -> list[str]:
    """Return the paths of all PET scans below a folder, sorted: NIfTI with a sidecar, folders and archives of DICOM.

    Symbolic links are followed. A folder counts as DICOM when one of its files begins as DICOM Part 10 says (``DICM``
    after 128 bytes) and is of modality PT; a zip archive when one of its entries is. No scans are: what another
    program, or this one, has not finished writing, what this program denoised, everything below `results`, and folders
    of PET without correction for attenuation beside the only one of their study with it.

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

    scans: list[Path] = []
    series: dict[Path, list[SliceFile]] = {}
    for place, names in walk_folders(folder, enter=enter):
        files = [place / name for name in names if not name.startswith(UNFINISHED)]
        if found := _pet_of(place, files):
            series[place] = found
        scans += [path for path in files if is_volume_name(path) and _is_source(sidecar_files(path))]
        scans += [path for path in files if path.suffix.lower() == ".zip" and _holds_pet(path)]
    scans += _without_uncorrected(series)
    if not scans:
        raise PETError(f"{folder}: no PET scan found, expected NIfTI with JSON sidecar or folders of DICOM slices")
    return [str(path) for path in sorted(scans)]


def _is_result(folder: Path) -> bool:
    """Return whether this program denoised a scan into a folder, or several, as in a data set of results."""
    records = map(_json, folder.glob("*run.json"))
    return any("method" in record and "unipet_3d" in record for record in records)


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


def _pet_of(place: Path, files: Sequence[Path]) -> list[SliceFile]:
    """Return the first and the last file of PET in a folder; none if there is none."""
    dicom = [path for path in files if _is_dicom(path)]
    found = (slice_ for path in dicom if (slice_ := _pet_slice(StoredFile.at(path))) is not None)
    if (first := next(found, None)) is None:
        if dicom:
            logger.info("%s: left out, nothing in it is PET", one_line(str(place)))
        return []
    last = (slice_ for path in reversed(dicom) if (slice_ := _pet_slice(StoredFile.at(path))) is not None)
    return [first, next(last, first)]


def _pet_slice(file: StoredFile) -> SliceFile | None:
    """Return a file of PET without pixels, None of any other; one that cannot be read is left to the reader."""
    try:
        dataset = read_dataset(file, stop_before_pixels=True, classes=PET_CLASSES)
        if dataset is None or (text_of(dataset, "Modality") or "PT") != "PT":
            return None
        if text_of(dataset, "SOPClassUID").startswith(_PICTURE):
            return None
    except (PETError, OSError):
        dataset = Dataset()
    return SliceFile(file.path, file.name, dataset, has_pixels=False)


def _holds_pet(archive: Path) -> bool:
    """Return whether a file is a zip archive that holds PET; one that cannot be read is left to the reader."""
    try:
        return is_archive(archive) and any(_pet_slice(file) is not None for file in files_below(archive))
    except (PETError, OSError):
        return True


def _without_uncorrected(series: Mapping[Path, Sequence[SliceFile]]) -> list[Path]:
    """Return the folders without those beside the only one of their study that is corrected for attenuation."""
    studies = {place: _study_of(files) for place, files in series.items()}
    beside: dict[str, dict[Path, Sequence[SliceFile]]] = {}
    for place, study in studies.items():
        beside.setdefault(study, {})[place] = series[place]
    best = {study: only_corrected(places) if study and len(places) > 1 else None for study, places in beside.items()}
    kept = [place for place, study in studies.items() if best[study] in {None, place}]
    for place in series.keys() - kept:
        logger.info("%s: left out, PET without correction for attenuation", one_line(str(place)))
    return kept


def _study_of(files: Sequence[SliceFile]) -> str:
    """Return the study of a folder that seems to hold one series, else ``""``."""
    uids = [[str(file.dataset.get(name, "")) for name in ("StudyInstanceUID", "SeriesInstanceUID")] for file in files]
    return uids[0][0] if uids[0] == uids[-1] else ""
