"""Headers of a derived PET series: those of its source, with what a derivation changes.

A series in the units and with the decay correction of its source keeps them. One whose values were converted (counts,
SUV, no decay correction, a multi-frame image), or that loses its vendor's private attributes, gets its dose, reference
time and times of administration in standard attributes, in all of the places where readers look for them: every reader
computes the same SUV from it.

Sources: DICOM PS3.3 C.7.6.1 (General Image), C.8.9.1 and C.8.9.4 (PET Series, PET Image), C.12.4 (derivation).
"""

from collections.abc import Sequence
from copy import deepcopy
from datetime import datetime, timedelta
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
from pydicom.valuerep import format_number_as_ds

from pipeline.errors import PETError
from pipeline.pet.dicom.reading.enhanced import read_frames
from pipeline.pet.dicom.reading.files import ENHANCED, SliceFile, read_dataset
from pipeline.pet.dicom.reading.stored_files import reopened
from pipeline.pet.dicom.reading.times import acquisition_time, moment_of_reference, start_of_acquisition
from pipeline.pet.dicom.slices import stack_slices
from pipeline.pet.dicom.values import (
    REFERENCE_TIMES,
    SCALE_FACTORS,
    code_item,
    number_of,
    remove_all_private,
    remove_private,
    text_of,
    value_of,
)
from pipeline.pet.dicom.writing.deidentify import keep_listed
from pipeline.pet.grid import Grid, canonical_grid, grid_difference
from pipeline.pet.series import PETHeader, PETSeries
from pipeline.pet.suv.factor import average_activity_time, decay_factor

__all__ = ["derived_headers", "state_reference"]

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

_LOSSY = {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000}


def derived_headers(
    series: PETSeries, meaning: PETHeader, *, description: str, derivation: str, keep_private: bool
) -> tuple[list[Dataset], NDArray[np.float64]]:
    """Return the headers of the slices of a series derived from DICOM, and the affine of its stack.

    The source's files are read again for everything but the pixels. Patient, study, frame of reference,
    times, radiopharmaceutical, position and orientation stay; series and instances are new. Frames of a multi-frame
    image become single slices.

    Parameters
    ----------
    series
        Series whose `source_files` are the DICOM slices, or the multi-frame image, that it was read from.
    meaning
        What the values that will be stored mean.
    description, derivation
        SeriesDescription, and what was done to the source.
    keep_private
        Whether private attributes stay.

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
    stack = stack_slices(files)
    difference = grid_difference(series.grid, canonical_grid(Grid(stack.shape, stack.affine)))
    if difference is not None:
        raise PETError(f"the grid is not that of the source files: {difference}")
    files = [files[k] for k in stack.order]
    headers = [file.dataset if file.image is None else _slice_of_frame(file) for file in files]
    series_uid, now = generate_uid(), datetime.now()
    numbers = _instance_numbers(headers)
    for k, (file, header) in enumerate(zip(files, headers, strict=True)):
        _derive(header, file, description=description, derivation=derivation, series_uid=series_uid, now=now)
        header.InstanceNumber = numbers[k]
        header.NumberOfSlices = len(headers)
        if "ImageIndex" not in header:
            header.ImageIndex = k + 1
        _state_quantities(header, series.header)
    is_converted = series.header.units != "BQML" or series.header.decay_correction not in {"START", "ADMIN"}
    if is_converted or files[0].frame is not None or not keep_private:
        state_reference(headers, meaning)
    for header in headers:
        _state_units(header, meaning.units)
        if not keep_private:
            remove_all_private(header)
    return headers, stack.affine


def _read_sources(paths: Sequence[Path]) -> list[SliceFile]:
    files = []
    for file in reopened(paths):
        name = file.path.name
        dataset = read_dataset(file, stop_before_pixels=True)
        if dataset is None:
            raise PETError(f"source file {name} is not DICOM any more")
        if not dataset.file_meta.TransferSyntaxUID.is_little_endian:
            raise PETError(f"source file {name} is big endian, expected little endian to derive a series from")
        files.append(SliceFile(file.path, name, dataset, size=file.size or 0, has_pixels=False))
    if len(files) == 1 and text_of(files[0].dataset, "SOPClassUID") in ENHANCED:
        return read_frames(files[0])[0]
    return files


def _slice_of_frame(file: SliceFile) -> Dataset:
    """Return the header of the single slice that takes the place of a frame of a multi-frame image."""
    header = deepcopy(file.dataset)
    equipment = header.get("ContributingEquipmentSequence")
    keep_listed(header)
    if equipment:
        header.ContributingEquipmentSequence = equipment
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


def _instance_numbers(headers: Sequence[Dataset]) -> list[int]:
    """Return the source's numbers where they tell the slices apart, else the order along the normal."""
    numbers = [_whole_number(header, "InstanceNumber") for header in headers]
    if min(numbers) > 0 and len(set(numbers)) == len(numbers):
        return numbers
    return list(range(1, len(numbers) + 1))


def _derive(
    header: Dataset, file: SliceFile, *, description: str, derivation: str, series_uid: UID, now: datetime
) -> None:
    """Turn the header of a source slice into that of the slice derived from it."""
    if file.syntax in _LOSSY:
        header.LossyImageCompression = "01"
    source = Dataset()
    source.ReferencedSOPClassUID = file.stored.SOPClassUID
    source.ReferencedSOPInstanceUID = file.stored.SOPInstanceUID
    if file.frame is not None:
        source.ReferencedFrameNumber = file.frame + 1
    source.PurposeOfReferenceCodeSequence = [code_item("121322", "DCM", "Source image for image processing operation")]
    header.SourceImageSequence = [source]
    header.DerivationDescription = derivation
    header.SeriesDescription = description
    # PS3.3 C.8.9.4.1.1: value 2 of a PET image is PRIMARY.
    image_type = value_of(header, "ImageType") or ()
    header.ImageType = ["DERIVED", "PRIMARY", *(() if isinstance(image_type, str) else image_type[2:])]
    header.SeriesInstanceUID = series_uid
    header.SOPInstanceUID = generate_uid()
    # An IS has 32 bits.
    number = _whole_number(header, "SeriesNumber") + 1000
    header.SeriesNumber = number if number < 2**31 else 1000
    header.InstanceCreationDate = now.strftime("%Y%m%d")
    header.InstanceCreationTime = now.strftime("%H%M%S")
    for keyword in _DROPPED:
        header.pop(keyword, None)


def _state_quantities(dataset: Dataset, header: PETHeader) -> None:
    """Write weight, height, dose and half-life as they were understood, where a repair was needed."""
    _correct(dataset, "PatientWeight", header.patient_weight)
    _correct(dataset, "PatientSize", header.patient_height)
    for item in value_of(dataset, "RadiopharmaceuticalInformationSequence") or ():
        _correct(item, "RadionuclideTotalDose", header.injected_dose)
        _correct(item, "RadionuclideHalfLife", header.radionuclide_half_life)


def _correct(dataset: Dataset, keyword: str, value: float | None) -> None:
    if value and number_of(dataset, keyword) != value:
        setattr(dataset, keyword, format_number_as_ds(value))


def _state_units(dataset: Dataset, units: str) -> None:
    """Write the stored quantity, Bq/mL (``"BQML"``) or SUVbw (``"GML"``); factors of other units go."""
    if text_of(dataset, "Units") != units:
        for attribute in SCALE_FACTORS:
            remove_private(dataset, attribute)
    dataset.Units = units
    dataset.pop("SUVType", None)
    if units == "GML":
        dataset.SUVType = "BW"


def state_reference(headers: Sequence[Dataset], header: PETHeader) -> None:
    """Write decay correction, reference time and times of administration of a series.

    Without times, as SUV may be, nothing is written.

    Parameters
    ----------
    headers
        Headers of the slices, with the source's acquisition times.
    header
        What the stored values mean: DecayCorrection START or ADMIN, with its times.

    Raises
    ------
    PETError
        If no slice says when it was acquired, which all times count from.
    """
    if header.administration_time is None or header.reference_time is None:
        return
    origin = start_of_acquisition(headers)
    if origin is None:
        raise PETError("AcquisitionTime is missing on every slice, a reference time of decay cannot be stated")
    administered = origin + timedelta(seconds=header.administration_time)
    reference = origin + timedelta(seconds=header.reference_time)
    date, time = (reference.strftime(pattern) for pattern in ("%Y%m%d", "%H%M%S.%f"))
    for dataset in headers:
        dataset.DecayCorrection = header.decay_correction
        corrections = value_of(dataset, "CorrectedImage") or []
        corrections = [corrections] if isinstance(corrections, str) else list(corrections)
        dataset.CorrectedImage = corrections if "DECY" in corrections else [*corrections, "DECY"]
        for attribute in REFERENCE_TIMES:
            remove_private(dataset, attribute)
        for item in value_of(dataset, "RadiopharmaceuticalInformationSequence") or ():
            item.RadiopharmaceuticalStartDateTime = administered.strftime("%Y%m%d%H%M%S.%f")
            item.RadiopharmaceuticalStartTime = administered.strftime("%H%M%S.%f")
        if header.decay_correction == "START":
            dataset.DecayCorrectionDateTime = date + time
            dataset.SeriesDate, dataset.SeriesTime = date, time
            _state_frame(dataset, reference, half_life=header.radionuclide_half_life)


def _state_frame(dataset: Dataset, reference: datetime, *, half_life: float | None) -> None:
    """Write the reference time and the decay factor of one slice."""
    acquired = acquisition_time(dataset)
    if acquired is None or half_life is None:
        return
    duration = (number_of(dataset, "ActualFrameDuration") or 0.0) / 1000.0
    start = (acquired - reference).total_seconds()
    within = moment_of_reference(text_of(dataset, "Manufacturer"), frame_duration=duration, half_life=half_life)
    dataset.FrameReferenceTime = format_number_as_ds(1000.0 * (start + within))
    # What the correction multiplied the average activity of the frame by.
    elapsed = start + average_activity_time(duration, half_life)
    try:
        dataset.DecayFactor = format_number_as_ds(1.0 / decay_factor(elapsed, half_life))
    except (OverflowError, ZeroDivisionError) as error:
        raise PETError(f"a slice was acquired {elapsed:.0f} s from the reference time of decay") from error
