"""What a PET series is: reading, SUV, and writing, with numpy, pydicom and nibabel only."""

from pipeline.pet.dicom_reader import read_dicom_series
from pipeline.pet.dicom_writer import write_dicom_series
from pipeline.pet.errors import PETError
from pipeline.pet.header import PETHeader
from pipeline.pet.nifti import read_nifti, write_nifti
from pipeline.pet.reading import read_pet
from pipeline.pet.series import PETSeries
from pipeline.pet.suv import decay_factor, suvbw_factor, suvbw_factor_of

__all__ = [
    "PETError",
    "PETHeader",
    "PETSeries",
    "decay_factor",
    "read_dicom_series",
    "read_nifti",
    "read_pet",
    "suvbw_factor",
    "suvbw_factor_of",
    "write_dicom_series",
    "write_nifti",
]
