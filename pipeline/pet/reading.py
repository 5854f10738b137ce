"""read_pet: one door for every form in which a PET series comes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.pet.dicom_reader import read_dicom_series
from pipeline.pet.errors import PETError, naming
from pipeline.pet.nifti import is_nifti_name, read_nifti
from pipeline.pet.series import PETSeries

__all__ = ["read_pet"]


def read_pet(path: str | Path, *, sidecar: Mapping[str, Any] | None = None) -> PETSeries:
    """Read a PET series into SUVbw: DICOM slices, a DICOM multi-frame image, or NIfTI with its JSON sidecar.

    Parameters
    ----------
    path
        Folder of one DICOM series, the file of an enhanced PET image, or a file ending in .nii or .nii.gz.
    sidecar
        What stands for the JSON file beside a NIfTI volume; None reads the file.

    Raises
    ------
    PETError
        If the path does not exist, cannot be opened, or is not a PET series from which SUVbw can be computed.
    """
    path = Path(path)
    with naming(path):
        if not path.exists():
            raise PETError("no such file or folder")
        if is_nifti_name(path) and not path.is_dir():
            return read_nifti(path, sidecar=sidecar)
        if sidecar is not None:
            raise PETError("a sidecar was given for DICOM, expected one for NIfTI only")
        return read_dicom_series(path)
