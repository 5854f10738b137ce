"""Find the files of one DICOM PET series in a folder, and check that they are one series.

What is refused here is what other readers let pass: two patients, two units or two frames of reference in one
folder, a slice without a rescale slope, a file that is cut short.
"""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    UID,
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
    MediaStorageDirectoryStorage,
    PositronEmissionTomographyImageStorage,
)

from pipeline.pet.dicom_values import number_of, text_of, value_of
from pipeline.pet.errors import PETError, naming

__all__ = ["SliceFile", "check_one_series", "read_dataset", "read_slice_files"]

ENHANCED = {EnhancedPETImageStorage, LegacyConvertedEnhancedPETImageStorage}
DICOM_SUFFIXES = {".dcm", ".ima"}


@dataclass(frozen=True)
class SliceFile:
    """One file of a series."""

    path: Path
    name: str
    """The path below the folder of the series."""

    dataset: Dataset


def read_dataset(path: Path, *, stop_before_pixels: bool = False) -> Dataset | None:
    """Return the data set in a file, or None if the content is not DICOM, or is a DICOMDIR.

    Raises
    ------
    PETError
        If the file claims to be DICOM and cannot be read.
    """
    try:
        with warnings.catch_warnings():
            # Vendors' values that break the standard's letter are checked where they are used.
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, stop_before_pixels=stop_before_pixels)
            kind = dataset.file_meta.get("MediaStorageSOPClassUID")
            syntax = UID(str(dataset.file_meta.get("TransferSyntaxUID", "")))
    except InvalidDicomError:
        if path.suffix.lower() in DICOM_SUFFIXES:
            raise PETError(f"{path.name}: content is not DICOM, expected it from the file's name") from None
        return None
    except OSError:
        raise
    except Exception as error:
        # pydicom reports damage with whatever its decoding stumbled over.
        raise PETError(f"{path.name}: damaged DICOM file ({error})") from error
    if kind == MediaStorageDirectoryStorage:
        return None
    if not syntax.is_transfer_syntax:
        raise PETError(f"{path.name}: TransferSyntaxUID is {syntax or 'missing'}, expected one that DICOM defines")
    return dataset


def _raise(error: OSError) -> None:
    raise error


def read_slice_files(folder: Path) -> tuple[list[SliceFile], int]:
    """Read every DICOM file below a folder, each once, and count the files that are something else.

    Raises
    ------
    PETError
        If a file is damaged, or there is no DICOM file.
    OSError
        If a file or folder cannot be opened.
    """
    found: list[SliceFile] = []
    n_other = 0
    for parent, folders, files in os.walk(folder, onerror=_raise):
        folders.sort()
        for file in sorted(files):
            path = Path(parent, file)
            dataset = read_dataset(path)
            if dataset is None:
                n_other += 1
            else:
                found.append(SliceFile(path, str(path.relative_to(folder)), dataset))
    if not found:
        raise PETError(f"no DICOM file among {n_other} files, expected a PET series")
    return found, n_other


def _describe(members: Sequence[SliceFile]) -> str:
    dataset = members[0].dataset
    description = text_of(dataset, "SeriesDescription") or "no description"
    return f"{description!r} ({dataset.get('Modality', 'no modality')}, {len(members)} files)"


def _text_of(keyword: str) -> Callable[[Dataset], str]:
    return lambda dataset: text_of(dataset, keyword)


def _item_text_of(keyword: str) -> Callable[[Dataset], str]:
    def read(dataset: Dataset) -> str:
        items = value_of(dataset, "RadiopharmaceuticalInformationSequence") or []
        return str([text_of(item, keyword) for item in items])

    return read


# Values that identify a person are compared, never shown.
_UNIFORM: dict[str, tuple[Callable[[Dataset], str], bool]] = {
    "PatientID": (_text_of("PatientID"), False),
    "PatientName": (_text_of("PatientName"), False),
    "StudyInstanceUID": (_text_of("StudyInstanceUID"), False),
    "FrameOfReferenceUID": (_text_of("FrameOfReferenceUID"), False),
    "Units": (_text_of("Units"), True),
    "SUVType": (_text_of("SUVType"), True),
    "DecayCorrection": (_text_of("DecayCorrection"), True),
    "CorrectedImage": (_text_of("CorrectedImage"), True),
    "SeriesType": (_text_of("SeriesType"), True),
    "Manufacturer": (_text_of("Manufacturer"), True),
    "PatientWeight": (_text_of("PatientWeight"), True),
    "PatientSize": (_text_of("PatientSize"), True),
    "PatientSex": (_text_of("PatientSex"), True),
    "SeriesDate": (_text_of("SeriesDate"), False),
    "SeriesTime": (_text_of("SeriesTime"), False),
    "RadionuclideTotalDose": (_item_text_of("RadionuclideTotalDose"), True),
    "RadionuclideHalfLife": (_item_text_of("RadionuclideHalfLife"), True),
    "RadiopharmaceuticalStartTime": (_item_text_of("RadiopharmaceuticalStartTime"), False),
    "RadiopharmaceuticalStartDateTime": (_item_text_of("RadiopharmaceuticalStartDateTime"), False),
}
"""Attributes that one series has one value of, how to read them, and whether an error may show the value."""


def _check_uniform(files: Sequence[SliceFile]) -> None:
    for keyword, (read, may_show) in _UNIFORM.items():
        values = []
        for file in files:
            with naming(file.name):
                values.append(read(file.dataset))
        counts = Counter(values)
        if len(counts) == 1:
            continue
        expected, n_expected = counts.most_common(1)[0]
        odd = next(k for k, value in enumerate(values) if value != expected)
        if may_show:
            difference = f"{keyword} is {values[odd]!r}, expected {expected!r}"
        else:
            difference = f"another {keyword}, expected the one"
        raise PETError(f"{files[odd].name}: {difference} as in {n_expected} of {len(files)} files")


def _check_one_frame(files: Sequence[SliceFile], notes: list[str]) -> None:
    dataset = files[0].dataset
    series_type = value_of(dataset, "SeriesType") or "missing"
    kind = str(series_type if isinstance(series_type, str) else series_type[0]).upper()
    n_frames = 1
    for keyword in ("NumberOfTimeSlices", "NumberOfTimeSlots", "NumberOfRRIntervals"):
        n_frames *= int(number_of(dataset, keyword) or 1)
    if n_frames > 1 and kind in {"DYNAMIC", "GATED"}:
        raise PETError(f"SeriesType is {kind} with {n_frames} frames, expected one static frame")
    if n_frames > 1:
        notes.append(f"The {n_frames} frames that the header counts were ignored, SeriesType is {kind}.")


def check_one_series(files: Sequence[SliceFile], n_other: int) -> tuple[str, ...]:
    """Check that files are the slices of one static PET series of one patient.

    Parameters
    ----------
    files
        All DICOM files of a folder.
    n_other
        Number of files that are not DICOM.

    Returns
    -------
    notes
        What was noticed and is harmless, one sentence each.

    Raises
    ------
    PETError
        Naming the first file that does not belong, what was found and what was expected.
    """
    notes: list[str] = []
    if n_other:
        notes.append(f"{n_other} files that are not DICOM images were left out.")
    series: dict[str, list[SliceFile]] = {}
    for file in files:
        series.setdefault(text_of(file.dataset, "SeriesInstanceUID"), []).append(file)
    if len(series) > 1:
        listed = ", ".join(_describe(members) for members in series.values())
        raise PETError(f"{len(series)} series in one folder: {listed}; expected one")
    for file in files:
        sop_class, modality = UID(text_of(file.dataset, "SOPClassUID")), text_of(file.dataset, "Modality")
        if sop_class in ENHANCED:
            name = sop_class.name
            raise PETError(f"{file.name}: {name} (multi-frame) is not supported, expected single slices")
        if modality != "PT":
            raise PETError(f"{file.name}: Modality is {modality or 'missing'}, expected PT")
        if sop_class != PositronEmissionTomographyImageStorage:
            raise PETError(f"{file.name}: SOP class is {sop_class.name or 'missing'}, expected PET Image Storage")
    _check_uniform(files)
    _check_one_frame(files, notes)
    n_stated = int(number_of(files[0].dataset, "NumberOfSlices") or 0)
    if len(files) < n_stated:
        raise PETError(f"{len(files)} slices, expected {n_stated} as NumberOfSlices says")
    return tuple(notes)
