"""Find the PET scans in a folder."""

from pathlib import Path

from pipeline.errors import PETError
from pipeline.pet.sidecar_files import sidecar_files
from pipeline.pet.volumes import is_volume_name

__all__ = ["find_scans"]


def find_scans(folder: str | Path) -> list[str]:
    """Paths of all scans below a folder, sorted: NIfTI files with a sidecar, and folders of DICOM slices.

    A folder counts as DICOM when one of its files begins as DICOM Part 10 says (``DICM`` after 128 bytes).

    Raises
    ------
    PETError
        If there is none, or the folder does not exist.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PETError(f"{folder}: no such folder")
    scans = []
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            if any(_is_dicom(file) for file in path.iterdir() if file.is_file()):
                scans.append(path)
        elif is_volume_name(path) and sidecar_files(path):
            scans.append(path)
    if not scans:
        raise PETError(f"{folder}: no PET scan found, expected NIfTI with JSON sidecar or folders of DICOM slices")
    return [str(path) for path in sorted(scans)]


def _is_dicom(path: Path) -> bool:
    # The directory of a disc is DICOM as well, and no scan.
    if path.name.upper() == "DICOMDIR":
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
