"""What a PET series is: reading, SUV, and writing, with numpy, pydicom and nibabel only."""

from pipeline.errors import PETError
from pipeline.pet.dicom.reading.reader import read_dicom_series
from pipeline.pet.dicom.writing.writer import DicomOptions, write_dicom_series
from pipeline.pet.nifti import read_nifti, write_nifti
from pipeline.pet.read import READING_VERSION, SUVExplanation, explain_suv, read_pet
from pipeline.pet.series import PETHeader, PETSeries
from pipeline.pet.suv.body_size import suv_by_body_size
from pipeline.pet.suv.factor import decay_factor, suvbw_factor, suvbw_factor_of
from pipeline.pet.suv.nuclides import is_positron_emitter

__all__ = [
    "READING_VERSION",
    "DicomOptions",
    "PETError",
    "PETHeader",
    "PETSeries",
    "SUVExplanation",
    "decay_factor",
    "explain_suv",
    "is_positron_emitter",
    "read_dicom_series",
    "read_nifti",
    "read_pet",
    "suv_by_body_size",
    "suvbw_factor",
    "suvbw_factor_of",
    "write_dicom_series",
    "write_nifti",
]
