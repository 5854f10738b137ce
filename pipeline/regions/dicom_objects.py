"""A DICOM object that holds regions, and whether it lies in the coordinates of a scan."""

from pathlib import Path

from pydicom.dataset import Dataset

from pipeline.errors import PETError
from pipeline.pet.dicom.reading.files import read_dataset
from pipeline.pet.dicom.reading.stored_files import StoredFile, reopened
from pipeline.pet.dicom.values import text_of
from pipeline.pet.series import PETSeries
from pipeline.pet.volumes import is_volume_name

__all__ = ["check_frame_of_reference", "read_object"]


def read_object(path: Path) -> Dataset:
    """Read the DICOM object in a file, or in a folder that holds this one file.

    Raises
    ------
    PETError
        If there is none, or several.
    """
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.is_file()]
        if len(files) != 1:
            raise PETError(f"holds {len(files)} files, expected one DICOM SEG or RTSTRUCT")
        path = files[0]
    dataset = read_dataset(StoredFile.at(path))
    if dataset is None:
        raise PETError("neither a label map (.nii, .nii.gz, .mha, .nrrd) nor DICOM, expected one, SEG or RTSTRUCT")
    return dataset


def check_frame_of_reference(found: str, series: PETSeries) -> str:
    """Refuse regions in another frame of reference than that of a scan; return what is to be said of it.

    Raises
    ------
    PETError
        If it is missing or another, so that positions cannot be compared.
    """
    if not found:
        raise PETError("FrameOfReferenceUID is missing, expected that of the scan")
    if not series.source_files or is_volume_name(series.source_files[0]):
        return "frame of reference not compared with a scan that is not DICOM"
    for file in reopened(series.source_files[:1]):
        dataset = read_dataset(file, stop_before_pixels=True)
        if dataset is not None and text_of(dataset, "FrameOfReferenceUID") != found:
            raise PETError("lies in another FrameOfReferenceUID, expected that of the scan: their positions differ")
    return ""
