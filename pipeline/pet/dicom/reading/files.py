"""Find and read the files of a DICOM PET series in a folder."""

import os
import warnings
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
)

from pipeline.errors import PETError, reason_of

__all__ = ["ENHANCED", "SliceFile", "read_dataset", "read_slice_files"]

ENHANCED = {EnhancedPETImageStorage, LegacyConvertedEnhancedPETImageStorage}
DICOM_SUFFIXES = {".dcm", ".ima"}
APPLE_DOUBLE = "._"
"""A Mac writes a file of this prefix and the same suffix beside every file on a disk that is not its own."""


@dataclass(frozen=True)
class SliceFile:
    """One slice of a series: a file, or a frame of one."""

    path: Path
    name: str
    """The path below the folder of the series, for messages."""

    dataset: Dataset
    """Attributes of the slice, and its pixel data unless it is a frame."""

    image: Dataset | None = None
    """Multi-frame image that the slice is a frame of."""

    frame: int | None = None
    """Index of the frame in `image`."""

    has_pixels: bool = True
    """Whether the pixel data was read, too."""

    @property
    def stored(self) -> Dataset:
        """The data set that holds the pixel data."""
        return self.dataset if self.image is None else self.image

    @property
    def syntax(self) -> UID:
        """Transfer syntax of the file."""
        found = self.stored.file_meta.TransferSyntaxUID
        return found if isinstance(found, UID) else UID(str(found))


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
        if path.suffix.lower() in DICOM_SUFFIXES and not path.name.startswith(APPLE_DOUBLE):
            raise PETError(f"{path.name}: content is not DICOM, expected it from the file's name") from None
        return None
    except Exception as error:
        # An error of the file system has a number; pydicom raises OSErrors without for files cut short.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        # pydicom reports damage with whatever its decoding stumbled over.
        raise PETError(f"{path.name}: damaged DICOM file ({reason_of(error)})") from error
    if kind == MediaStorageDirectoryStorage:
        return None
    if not syntax.is_transfer_syntax:
        found = syntax if syntax.is_valid else "damaged" if syntax else "missing"
        raise PETError(f"{path.name}: TransferSyntaxUID is {found}, expected one that DICOM defines")
    return dataset


def _raise(error: OSError) -> None:
    raise error


def read_slice_files(folder: Path, *, with_pixels: bool = True) -> tuple[list[SliceFile], int]:
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
            # Opening a pipe would wait for ever.
            is_special = path.exists() and not path.is_file()
            dataset = None if is_special else read_dataset(path, stop_before_pixels=not with_pixels)
            if dataset is None:
                n_other += 1
            else:
                found.append(SliceFile(path, str(path.relative_to(folder)), dataset, has_pixels=with_pixels))
    if not found:
        raise PETError(f"no DICOM file among {n_other} files, expected a PET series")
    return found, n_other
