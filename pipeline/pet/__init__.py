"""What a PET series is: reading, SUV, and writing, with numpy, pydicom and nibabel only."""

from pipeline.pet.body_size import suv_bsa, suv_by_body_size, suv_ibw, suv_lbm
from pipeline.pet.dicom_options import DicomOptions
from pipeline.pet.dicom_reader import read_dicom_series
from pipeline.pet.dicom_writer import write_dicom_series
from pipeline.pet.errors import PETError
from pipeline.pet.explain import SUVExplanation, explain_suv
from pipeline.pet.header import PETHeader
from pipeline.pet.nifti import read_nifti, write_nifti
from pipeline.pet.reading import read_pet
from pipeline.pet.series import PETSeries
from pipeline.pet.suv import decay_factor, suvbw_factor, suvbw_factor_of

__all__ = [
    "DicomOptions",
    "PETError",
    "PETHeader",
    "PETSeries",
    "SUVExplanation",
    "decay_factor",
    "explain_suv",
    "read_dicom_series",
    "read_nifti",
    "read_pet",
    "suv_bsa",
    "suv_by_body_size",
    "suv_ibw",
    "suv_lbm",
    "suvbw_factor",
    "suvbw_factor_of",
    "write_dicom_series",
    "write_nifti",
]
