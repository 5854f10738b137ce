"""Write a `PETSeries` as a DICOM PET series from which every viewer computes the same SUV.

A series that was read from DICOM becomes a derived series on exactly the source's grid; one that was not, such
as a simulated scan, becomes a complete series of its own.
"""

import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

from pipeline.errors import PETError, naming
from pipeline.files import new_folder
from pipeline.pet.dicom.reading.reader import read_dicom_series
from pipeline.pet.dicom.values import text_of, value_of
from pipeline.pet.dicom.writing.deidentify import deidentify
from pipeline.pet.dicom.writing.derived import derived_headers
from pipeline.pet.dicom.writing.equipment import add_equipment
from pipeline.pet.dicom.writing.original import original_headers
from pipeline.pet.grid import to_native
from pipeline.pet.series import PETSeries
from pipeline.pet.suv.factor import stored_header, suvbw_factor_of
from pipeline.pet.volumes import is_volume_name

__all__ = ["DicomOptions", "DicomOutputError", "quantise", "write_dicom_series"]

UNITS = ("BQML", "GML")
"""Quantities that can be stored: activity concentration [Bq/mL], and SUVbw [g/mL]."""

LARGEST = 32767
"""Largest stored value; signed, so that negative values of a denoised image survive."""

MAX_LO, MAX_ST = 64, 1024
"""Characters of a DICOM long string, and of a short text, PS3.5 6.2."""

PADDING = -32768
"""PixelPaddingValue (0028,0120): the one value of 16 bits that no measured voxel is stored as."""

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

_UNPAIRED = {"WHOLEBODY", "HEAD", "SKULL", "BRAIN", "NECK", "CHEST", "ABDOMEN", "PELVIS", "HEART", "LIVER"}


@dataclass(frozen=True, kw_only=True)
class DicomOptions:
    """Choices for `write_dicom_series`.

    Raises
    ------
    PETError
        If the units are not among those that can be written.
    """

    units: str = "BQML"
    """Stored quantity: ``"BQML"`` [Bq/mL], or ``"GML"``, SUVbw [g/mL] with SUVType BW."""

    keep_private: bool = True
    """Whether a derived series keeps the private attributes of its source."""

    deidentify: bool = False
    """Whether the series is de-identified by DICOM PS3.15 Annex E: Basic Profile, with the options to retain
    patient characteristics and longitudinal temporal information with modified dates. Private attributes go.
    Dates move together by whole days and times of day stay: a shift of seconds could carry a scan over midnight,
    and with it the SUV of readers that know times alone."""

    deidentification_key: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    """Secret from which new UIDs and the shift of dates are derived: the same key maps all series of a patient
    alike. By default a new one for each set of options, that nobody knows."""

    uid_key: str | None = None
    """Text from which the UIDs of a series that never was DICOM are derived, so that it is written alike again:
    series of one key share study and frame of reference, their descriptions tell them apart. By default new UIDs."""

    def __post_init__(self) -> None:
        if self.units not in UNITS:
            raise PETError(f"units {self.units!r} cannot be written, expected one of {', '.join(UNITS)}")


class DicomOutputError(PETError):
    """A series is sound, and DICOM cannot express it."""


def quantise(values: NDArray[np.float64]) -> tuple[NDArray[np.int16], str]:
    """Return 16-bit integers and the slope that turns them back into values.

    The slope, ``"1.0"`` for a slice of zeros, is rounded to the 16 characters that DICOM has for it before it is
    used, so that the error of every voxel is at most half a slope.

    Raises
    ------
    PETError
        If the values are too small to have a slope.
    """
    largest = float(np.abs(values).max())
    if largest == 0:
        return np.zeros(values.shape, dtype=np.int16), "1.0"
    slope = format_number_as_ds(largest / LARGEST)
    if float(slope) == 0:
        raise PETError(f"largest value of a slice is {largest:.1e} Bq/mL, too small to be stored")
    return np.rint(values / float(slope)).astype(np.int16), slope


def _set_pixels(dataset: Dataset, stored: NDArray[np.int16], slope: str, padding: NDArray[np.bool_] | None) -> None:
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 1
    dataset.RescaleIntercept, dataset.RescaleSlope = "0", slope
    measured = stored if padding is None or padding.all() else stored[~padding]
    dataset.add_new("SmallestImagePixelValue", "SS", int(measured.min()))
    dataset.add_new("LargestImagePixelValue", "SS", int(measured.max()))
    if padding is not None:
        dataset.add_new("PixelPaddingValue", "SS", PADDING)
        stored = np.where(padding, np.int16(PADDING), stored)
    dataset.add_new("PixelData", "OW", stored.astype("<i2").tobytes())


def _write_slice(dataset: Dataset, path: Path) -> None:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    # That of the source may hold a TIFF header, and whatever its writer put there.
    dataset.preamble = bytes(128)
    try:
        dataset.save_as(path, enforce_file_format=True)
    except (ValueError, TypeError, AttributeError) as error:
        # What the source holds cannot be encoded; pydicom says which element, then a traceback.
        reason = str(error).partition("\n")[0]
        raise DicomOutputError(f"slice {dataset.InstanceNumber} cannot be written as DICOM: {reason}") from error


def _check_text(name: str, text: str, longest: int) -> None:
    if not text or len(text) > longest or not text.isascii() or not text.isprintable() or "\\" in text:
        raise PETError(f"{name} {text!r} must be 1 to {longest} printable ASCII characters without backslash")


def _complete(dataset: Dataset) -> None:
    """Add what a PET image must have, and mend what scanners write against the standard."""
    for keyword in _TYPE_2:
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    # PatientPosition is the other way to say how the patient lies.
    if "PatientPosition" not in dataset:
        for keyword in ("PatientOrientationCodeSequence", "PatientGantryRelationshipCodeSequence"):
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


def _headers(
    series: PETSeries, *, description: str, derivation: str | None, subject_id: str, options: DicomOptions
) -> tuple[list[Dataset], NDArray[np.float64]]:
    """Return the headers of the slices without pixels, and the affine of their stack.

    Raises
    ------
    DicomOutputError
        If DICOM cannot express them.
    """
    meaning = stored_header(series.header, units=options.units)
    try:
        if series.source_files and not is_volume_name(series.source_files[0]):
            headers, affine = derived_headers(
                series,
                meaning,
                description=description,
                derivation=derivation or description,
                keep_private=options.keep_private and not options.deidentify,
            )
        else:
            headers, affine = original_headers(
                replace(series, header=meaning),
                description=description,
                derivation=derivation,
                subject_id=subject_id,
                uid_key=options.uid_key,
            )
        for header in headers:
            _complete(header)
        if options.deidentify:
            deidentify(headers, subject_id=subject_id, key=options.deidentification_key)
        for header in headers:
            add_equipment(header, contribution=derivation or description)
    except PETError as error:
        raise DicomOutputError(str(error)) from error
    except (OverflowError, ZeroDivisionError) as error:
        raise DicomOutputError("times of the series lie too far from its acquisition for DICOM") from error
    return headers, affine


def _write_slices(
    series: PETSeries, headers: list[Dataset], affine: NDArray[np.float64], *, factor: float, folder: Path
) -> NDArray[np.float64]:
    """Write one file a slice, and return half a slope of each in SUV [g/mL]."""
    native = to_native(series.suv, affine)
    padding = None if series.padding is None else to_native(series.padding, affine)
    half_steps = np.empty(len(headers))
    for k, header in enumerate(headers):
        stored, slope = quantise(native[:, :, k].T.astype(np.float64) / factor)
        half_steps[k] = 0.5 * float(slope) * factor
        _set_pixels(header, stored, slope, None if padding is None else padding[:, :, k].T)
        _write_slice(header, folder / f"PET_{header.InstanceNumber:04d}.dcm")
        # Written pixels are not needed again; headers are.
        del header.PixelData
    return half_steps


def _verify(folder: Path, series: PETSeries, *, half_steps: NDArray[np.float64], affine: NDArray[np.float64]) -> None:
    """Read the series back, and compare every voxel with what it should be."""
    written = read_dicom_series(folder)
    difference = np.abs(to_native(written.suv, affine).astype(np.float64) - to_native(series.suv, affine))
    # Reading rounds to float32 once more.
    allowed = half_steps * 1.001 + np.abs(series.suv).max() * np.finfo(np.float32).eps
    found, expected = (np.zeros(()) if s.padding is None else s.padding for s in (written, series))
    is_complete = len(written.source_files) == len(half_steps) and np.array_equal(found, expected)
    if not is_complete or (difference > allowed).any():
        raise PETError("the series reads back differently from what was written")


def write_dicom_series(
    series: PETSeries,
    folder: str | Path,
    *,
    description: str,
    derivation: str | None = None,
    subject_id: str = "ANONYMOUS",
    options: DicomOptions | None = None,
) -> Path:
    """Write a series as DICOM PET images, one file a slice, 16-bit integers with a slope for each slice.

    If the series was read from DICOM, the result is derived from it: same patient, study, frame of reference,
    times, radiopharmaceutical and grid; new series and instances, which refer to the source. Where the source
    is in other units than Bq/mL, or not corrected for decay, the result is corrected to a reference time that it
    states. Else it is a series of `subject_id` with synthetic dates. Files are named ``PET_0001.dcm`` after
    InstanceNumber; this program is the last item of their ContributingEquipmentSequence. The folder appears only when
    every file has been read back and compared.

    Parameters
    ----------
    series
        The volume; for Bq/mL with dose, weight and times, since that is computed back from SUVbw.
    folder
        New or empty folder.
    description
        SeriesDescription, at most 64 characters.
    derivation
        DerivationDescription, at most 1024 characters: what was done to the source, and what this program contributed.
        By default `description` for a series that was read from DICOM; a series that was not is then written as an
        original.
    subject_id
        PatientID and PatientName of a series that was not read from DICOM, or is de-identified.
    options
        Units, private attributes and de-identification; by default Bq/mL, kept, and none.

    Raises
    ------
    DicomOutputError
        If DICOM cannot express the series, such as sheared axes.
    PETError
        If the folder is not empty, a text does not fit, what SUV needs is missing, the source files changed,
        or what was written reads back differently. Nothing is left behind.
    """
    folder = Path(folder)
    options = options or DicomOptions()
    with naming(folder):
        _check_text("description", description, MAX_LO)
        _check_text("subject_id", subject_id, MAX_LO)
        if derivation is not None:
            _check_text("derivation", derivation, MAX_ST)
        factor = suvbw_factor_of(stored_header(series.header, units=options.units))
        with new_folder(folder) as temporary:
            headers, affine = _headers(
                series, description=description, derivation=derivation, subject_id=subject_id, options=options
            )
            half_steps = _write_slices(series, headers, affine, factor=factor, folder=temporary)
            _verify(temporary, series, half_steps=half_steps, affine=affine)
    return folder
