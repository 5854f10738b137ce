"""Headers of a derived PET series: those of its source, with what a derivation changes.

Source: DICOM PS3.3 C.7.6.1 (General Image), C.8.9.1 and C.8.9.4 (PET Series, PET Image), C.12.4 (derivation).
"""

from collections.abc import Sequence
from copy import deepcopy
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    UID,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    PositronEmissionTomographyImageStorage,
    generate_uid,
)

from pipeline.errors import PETError
from pipeline.pet.dicom.reading.enhanced import read_frames
from pipeline.pet.dicom.reading.files import ENHANCED, SliceFile, read_dataset
from pipeline.pet.dicom.slices import stack_slices
from pipeline.pet.dicom.values import code_item, number_of, text_of, value_of
from pipeline.pet.dicom.writing.deidentify import keep_listed
from pipeline.pet.grid import Grid, canonical_grid, grid_difference
from pipeline.pet.series import PETSeries

__all__ = ["derived_headers"]

# These attributes describe the source's stored values, show a picture of it, or sign its bytes.
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


def _source_image(file: SliceFile) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = file.stored.SOPClassUID
    item.ReferencedSOPInstanceUID = file.stored.SOPInstanceUID
    if file.frame is not None:
        item.ReferencedFrameNumber = file.frame + 1
    item.PurposeOfReferenceCodeSequence = [code_item("121322", "DCM", "Source image for image processing operation")]
    return item


_TYPE_2 = (
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
    "PatientBirthDate",
    "PatientSex",
    "CollimatorType",
    "PositionReferenceIndicator",
)
"""Attributes that a PET image must have, be they empty (PS3.3 A.21)."""

_TYPE_2_ORIENTATION = ("PatientOrientationCodeSequence", "PatientGantryRelationshipCodeSequence")


def _normalise(dataset: Dataset) -> None:
    """Mend what scanners write against the standard, so that the derived series inherits no error."""
    for keyword in _TYPE_2:
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    # PatientPosition is the other way to say how the patient lies.
    for keyword in () if "PatientPosition" in dataset else _TYPE_2_ORIENTATION:
        if keyword not in dataset:
            setattr(dataset, keyword, [])
    # Laterality is type 2C for a paired body part: unknown is written as empty.
    may_be_paired = text_of(dataset, "BodyPartExamined").upper() not in _UNPAIRED
    if may_be_paired and "Laterality" not in dataset and "ImageLaterality" not in dataset:
        dataset.Laterality = ""
    # General Series: PatientPosition shall not be present beside the coded orientation.
    if value_of(dataset, "PatientOrientationCodeSequence"):
        dataset.pop("PatientPosition", None)
    # NumberOfTimeSlices is of dynamic series only; GE writes the number of beds.
    if "DYNAMIC" not in (value_of(dataset, "SeriesType") or ()):
        dataset.pop("NumberOfTimeSlices", None)


def _instance_numbers(datasets: Sequence[Dataset]) -> list[int]:
    """Return the source's numbers where they tell the slices apart, else the order along the normal."""
    numbers = [_whole_number(dataset, "InstanceNumber") for dataset in datasets]
    if min(numbers) > 0 and len(set(numbers)) == len(numbers):
        return numbers
    return list(range(1, len(numbers) + 1))


def derived_headers(
    series: PETSeries, *, description: str, derivation: str
) -> tuple[list[Dataset], NDArray[np.float64]]:
    """Return the headers of the slices of a series derived from DICOM, and the affine of its stack.

    The source's files are read again for everything but the pixels. Patient, study, frame of reference,
    times, radiopharmaceutical, position and orientation stay; series and instances are new. Units and decay
    correction are still the source's. Frames of a multi-frame image become single slices.

    Parameters
    ----------
    series
        Series whose `source_files` are the DICOM slices, or the multi-frame image, that it was read from.
    description
        SeriesDescription of the new series.
    derivation
        DerivationDescription: what was done to the source.

    Returns
    -------
    headers
        In the order of the stack, without pixel data, each a data set of its own.
    affine
        (column, row, slice) to RAS+ position [mm]. Shape (4, 4).

    Raises
    ------
    PETError
        If a source file is gone or changed, so that its grid is not the volume's any more.
    """
    files = _read_sources(series.source_files)
    stack = stack_slices([file.dataset for file in files], [file.name for file in files])
    difference = grid_difference(series.grid, canonical_grid(Grid(stack.shape, stack.affine)))
    if difference is not None:
        raise PETError(f"the grid is not that of the source files: {difference}")
    files = [files[k] for k in stack.order]
    headers = [_slice_of_frame(file) if file.image is not None else file.dataset for file in files]
    series_uid, now = generate_uid(), datetime.now()
    numbers = _instance_numbers(headers)
    for k, (file, header, number) in enumerate(zip(files, headers, numbers, strict=True)):
        if file.syntax in _LOSSY:
            header.LossyImageCompression = "01"
        header.SourceImageSequence = [_source_image(file)]
        _derive(header, description=description, derivation=derivation, series_uid=series_uid, now=now)
        header.InstanceNumber = number
        header.NumberOfSlices = len(headers)
        if "ImageIndex" not in header:
            header.ImageIndex = k + 1
    return headers, stack.affine


def _read_sources(paths: Sequence[Path]) -> list[SliceFile]:
    files = []
    for path in paths:
        dataset = read_dataset(path, stop_before_pixels=True)
        if dataset is None:
            raise PETError(f"source file {path.name} is not DICOM any more")
        if not dataset.file_meta.TransferSyntaxUID.is_little_endian:
            raise PETError(f"source file {path.name} is big endian, expected little endian to derive a series from")
        files.append(SliceFile(path, path.name, dataset, has_pixels=False))
    if len(files) == 1 and text_of(files[0].dataset, "SOPClassUID") in ENHANCED:
        return read_frames(files[0])[0]
    return files


def _slice_of_frame(file: SliceFile) -> Dataset:
    """Return the header of the single slice that takes the place of a frame of a multi-frame image."""
    header = deepcopy(file.dataset)
    keep_listed(header)
    header.SOPClassUID = PositronEmissionTomographyImageStorage
    header.ImageType = ["DERIVED", "PRIMARY"]
    header.SeriesType = ["STATIC", "IMAGE"]
    header.CountsSource = "EMISSION"
    header.InstanceNumber = (file.frame or 0) + 1
    return header


def _whole_number(dataset: Dataset, keyword: str) -> int:
    """Return a whole number, or 0 where there is none that can be read."""
    try:
        return int(number_of(dataset, keyword) or 0)
    except PETError:
        return 0


def _new_series_number(dataset: Dataset) -> int:
    """Return a thousand more than the source's number, or a thousand where that leaves the 32 bits of an IS."""
    number = _whole_number(dataset, "SeriesNumber") + 1000
    return number if number < 2**31 else 1000


def _derive(dataset: Dataset, *, description: str, derivation: str, series_uid: UID, now: datetime) -> None:
    """Turn the header of a source slice into that of the slice derived from it."""
    dataset.DerivationDescription = derivation
    dataset.SeriesDescription = description
    # PS3.3 C.8.9.4.1.1: value 2 of a PET image is PRIMARY.
    image_type = value_of(dataset, "ImageType") or ()
    dataset.ImageType = ["DERIVED", "PRIMARY", *(() if isinstance(image_type, str) else image_type[2:])]
    dataset.SeriesInstanceUID = series_uid
    dataset.SOPInstanceUID = generate_uid()
    dataset.SeriesNumber = _new_series_number(dataset)
    dataset.InstanceCreationDate = now.strftime("%Y%m%d")
    dataset.InstanceCreationTime = now.strftime("%H%M%S")
    for keyword in _DROPPED:
        dataset.pop(keyword, None)
    _normalise(dataset)
