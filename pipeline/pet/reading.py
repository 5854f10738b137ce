"""read_pet: one door for every form in which a PET series comes."""

from pathlib import Path

from pipeline.pet.dicom_reader import read_dicom_series
from pipeline.pet.errors import PETError, naming
from pipeline.pet.nifti import is_nifti_name, read_nifti
from pipeline.pet.series import PETSeries

__all__ = ["read_pet"]


def read_pet(path: str | Path) -> PETSeries:
    """Read a PET series into SUVbw: a folder of DICOM slices, or a NIfTI file with its JSON sidecar.

    Parameters
    ----------
    path
        Folder of one DICOM series, or a file ending in .nii or .nii.gz.

    Raises
    ------
    PETError
        If the path does not exist, cannot be opened, or is not a PET series from which SUVbw can be computed.
    """
    path = Path(path)
    with naming(path):
        if not path.exists():
            raise PETError("no such file or folder")
        if path.is_dir():
            return read_dicom_series(path)
        if is_nifti_name(path):
            return read_nifti(path)
        return read_dicom_series(path)
