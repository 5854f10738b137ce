"""Headers of a derived PET series: those of its source, with what a derivation changes.

Source: DICOM PS3.3 C.7.6.1 (General Image), C.8.9.1 and C.8.9.4 (PET Series, PET Image), C.12.4 (derivation).
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000, UID, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, generate_uid

from pipeline.pet.dicom_codes import code_item
from pipeline.pet.dicom_files import read_dataset
from pipeline.pet.dicom_geometry import stack_slices, to_canonical
from pipeline.pet.errors import PETError
from pipeline.pet.series import PETSeries

__all__ = ["derived_headers"]

AFFINE_AGREEMENT = 1e-3
"""The volume's affine may differ from that of its source by this much [mm]."""

# They describe the source's stored values, picture it, or vouch for its bytes.
_DROPPED = (
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "RescaleType",
    "WindowCenter",
    "WindowWidth",
    "WindowCenterWidthExplanation",
    "VOILUTSequence",
    "ModalityLUTSequence",
    "RealWorldValueMappingSequence",
    "IconImageSequence",
    "InstanceCreatorUID",
    "MACParametersSequence",
    "DigitalSignaturesSequence",
    "NumberOfFrames",
)

_UNPAIRED = {"WHOLEBODY", "HEAD", "SKULL", "BRAIN", "NECK", "CHEST", "ABDOMEN", "PELVIS", "HEART", "LIVER"}

_LOSSY = {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000}


def _source_image(dataset: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = dataset.SOPClassUID
    item.ReferencedSOPInstanceUID = dataset.SOPInstanceUID
    item.PurposeOfReferenceCodeSequence = [code_item("121322", "DCM", "Source image for image processing operation")]
    return item


def _normalise(dataset: Dataset) -> None:
    """Mend what scanners write against the standard, so that the derived series inherits no error."""
    # Laterality is type 2C for a paired body part: unknown is written as empty.
    may_be_paired = str(dataset.get("BodyPartExamined", "")).upper() not in _UNPAIRED
    if may_be_paired and "Laterality" not in dataset and "ImageLaterality" not in dataset:
        dataset.Laterality = ""
    # General Series: PatientPosition shall not be present beside the coded orientation.
    if dataset.get("PatientOrientationCodeSequence"):
        dataset.pop("PatientPosition", None)
    # NumberOfTimeSlices is of dynamic series only; GE writes the number of beds.
    if "DYNAMIC" not in (dataset.get("SeriesType") or ()):
        dataset.pop("NumberOfTimeSlices", None)


def _instance_numbers(datasets: Sequence[Dataset]) -> list[int]:
    """Return the source's numbers where they tell the slices apart, else the order along the normal."""
    numbers = [int(dataset.get("InstanceNumber") or 0) for dataset in datasets]
    if min(numbers) > 0 and len(set(numbers)) == len(numbers):
        return numbers
    return list(range(1, len(numbers) + 1))


def derived_headers(
    series: PETSeries, *, description: str, derivation: str
) -> tuple[list[Dataset], NDArray[np.float64]]:
    """Return the headers of the slices of a series derived from DICOM, and the affine of its stack.

    The source's files are read again for everything but the pixels. Patient, study, frame of reference,
    times, radiopharmaceutical, position and orientation stay; series and instances are new.

    Parameters
    ----------
    series
        Series whose `source_files` are the DICOM slices that it was read from.
    description
        SeriesDescription of the new series.
    derivation
        DerivationDescription: what was done to the source.

    Returns
    -------
    headers
        In the order of the stack, without pixel data.
    affine
        (column, row, slice) to RAS+ position [mm]. Shape (4, 4).

    Raises
    ------
    PETError
        If a source file is gone or changed, so that its grid is not the volume's any more.
    """
    sources = [_read_source(path) for path in series.source_files]
    stack = stack_slices(sources, [path.name for path in series.source_files])
    _, affine = to_canonical(np.empty(stack.shape, dtype=np.bool_), stack.affine)
    if np.abs(affine - series.affine).max() > AFFINE_AGREEMENT:
        raise PETError("the grid is not that of the source files, cannot write a series derived from them")
    sources = [sources[k] for k in stack.order]
    series_uid, now = generate_uid(), datetime.now()
    for source, number in zip(sources, _instance_numbers(sources), strict=True):
        _derive(source, description=description, derivation=derivation, series_uid=series_uid, now=now)
        source.InstanceNumber = number
        source.NumberOfSlices = len(sources)
    return sources, stack.affine


def _read_source(path: Path) -> Dataset:
    dataset = read_dataset(path, stop_before_pixels=True)
    if dataset is None:
        raise PETError(f"source file {path.name} is not DICOM any more")
    if not dataset.file_meta.TransferSyntaxUID.is_little_endian:
        raise PETError(f"source file {path.name} is big endian, expected little endian to derive a series from")
    return dataset


def _derive(dataset: Dataset, *, description: str, derivation: str, series_uid: UID, now: datetime) -> None:
    """Turn the header of a source slice into that of the slice derived from it."""
    if dataset.file_meta.TransferSyntaxUID in _LOSSY:
        dataset.LossyImageCompression = "01"
    dataset.SourceImageSequence = [_source_image(dataset)]
    dataset.DerivationDescription = derivation
    dataset.SeriesDescription = description
    # PS3.3 C.8.9.4.1.1: value 2 of a PET image is PRIMARY.
    dataset.ImageType = ["DERIVED", "PRIMARY", *list(dataset.get("ImageType") or ())[2:]]
    dataset.SeriesInstanceUID = series_uid
    dataset.SOPInstanceUID = generate_uid()
    dataset.SeriesNumber = int(dataset.get("SeriesNumber") or 0) + 1000
    dataset.InstanceCreationDate = now.strftime("%Y%m%d")
    dataset.InstanceCreationTime = now.strftime("%H%M%S")
    for keyword in _DROPPED:
        dataset.pop(keyword, None)
    _normalise(dataset)
