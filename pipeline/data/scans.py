"""Find the PET scans in a folder."""

from pathlib import Path

from pipeline.pet import PETError

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
        elif path.name.endswith((".nii", ".nii.gz")) and _sidecar(path).is_file():
            scans.append(path)
    if not scans:
        raise PETError(f"{folder}: no PET scan found, expected NIfTI with JSON sidecar or folders of DICOM slices")
    return [str(path) for path in sorted(scans)]


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
