"""Find and read the files of a DICOM series: which are DICOM, which belong together, and how much memory they take."""

import gc
import warnings
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    EnhancedPETImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedPETImageStorage,
    MediaStorageDirectoryStorage,
)

from pipeline.errors import PETError, naming, reason_of
from pipeline.pet.dicom.reading.directory import Reference, is_directory, key_of, missing_of, read_directory
from pipeline.pet.dicom.reading.stored_files import (
    HARMLESS,
    HARMLESS_SERIES,
    MAX_DEFLATION,
    StoredFile,
    files_below,
    is_archive,
)
from pipeline.pet.dicom.values import IDENTITY, text_of

__all__ = [
    "ENHANCED",
    "FoundFiles",
    "SliceFile",
    "collector_paused",
    "read_dataset",
    "read_slice_files",
]

ENHANCED = {EnhancedPETImageStorage, LegacyConvertedEnhancedPETImageStorage}
DICOM_SUFFIXES = {".dcm", ".ima"}
APPLE_DOUBLE = "._"
"""A Mac writes a file of this prefix and the same suffix beside every file on a disk that is not its own."""

HEAD = 512
"""The preamble and the transfer syntax of a file lie within so many bytes: what stands before has a limited length."""

BEGINNING = 1 << 14
"""What names the series of an object lies within so many bytes of most files."""

_NAMING = tuple(
    Tag(keyword)
    for keyword in (
        *("SOPClassUID", "SOPInstanceUID", "Modality", "SeriesDescription", "SeriesInstanceUID", "SeriesNumber"),
        *("ImageType", "StudyInstanceUID", *IDENTITY),
    )
)
"""What is read of an object of another kind than is looked for."""

_NAMING_ENDS = max(_NAMING)


@dataclass(frozen=True)
class SliceFile:
    """One slice of a series: a file, or a frame of one."""

    path: Path
    name: str
    """The path below the folder of the series, for messages."""

    dataset: Dataset
    """Attributes of the slice, and its pixel data unless it is a frame."""

    size: int = 0
    """Bytes of the file."""

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

    @property
    def has_meta_information(self) -> bool:
        """Whether the file says more about itself than the transfer syntax, which `read_dataset` can find out."""
        return len(self.stored.file_meta) > 1


@dataclass(frozen=True)
class FoundFiles:
    """What lies in a folder."""

    slices: list[SliceFile]
    """Every DICOM file."""

    n_other: int
    """Number of files that are something else."""

    dangling: list[str]
    """Links to files that do not exist."""

    missing: list[str] = field(default_factory=list)
    """Files of the classes looked for that a DICOMDIR refers to, and that are not there."""


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the search for cycles of dead objects inside the block.

    The headers of a series are some hundred thousand objects, and all of them stay until the last is read. The
    collector would look through all of them again and again, which takes a quarter of the time of reading.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def read_dataset(
    file: StoredFile, *, stop_before_pixels: bool = False, classes: Collection[str] | None = None
) -> Dataset | None:
    """Return the data set in a file, or None if the content is not DICOM, or is a DICOMDIR.

    A data set without preamble or file meta information (DICOM PS3.10 7.1) is read as well. The returned data set
    then has the transfer syntax by which it was read. Of an object of another SOP class than `classes`, if given,
    little more is read than what names its series.

    Raises
    ------
    PETError
        If the file claims to be DICOM and cannot be read, or would take far more memory than an image.
    """
    try:
        with file.open() as stream:
            head = stream.read(HEAD)
            has_preamble = head[128:132] == b"DICM"
            if not has_preamble and not _is_bare(head):
                raise InvalidDicomError
            is_deflated = DeflatedExplicitVRLittleEndian.encode() in head
            if is_deflated:
                _check_deflated(stream, head, file)
            elif classes is not None and not any(uid.encode() in head for uid in classes):
                named = _what_names(head + stream.read(BEGINNING - HEAD), classes)
                if named is not None:
                    return named
            stream.seek(0)
            # Memory cannot be asked for beyond the end of what is in memory, however long an element claims to be.
            source = BytesIO(stream.read()) if (file.size or 0) <= HARMLESS else stream
            with warnings.catch_warnings():
                # Vendors' values that break the standard's letter are checked where they are used.
                warnings.simplefilter("ignore")
                dataset = pydicom.dcmread(source, stop_before_pixels=stop_before_pixels, force=not has_preamble)
                if not dataset.file_meta:
                    dataset.file_meta.TransferSyntaxUID = _syntax_of(dataset)
                kind = dataset.file_meta.get("MediaStorageSOPClassUID")
                syntax = UID(str(dataset.file_meta.get("TransferSyntaxUID", "")))
    except InvalidDicomError:
        if file.path.suffix.lower() in DICOM_SUFFIXES and not file.path.name.startswith(APPLE_DOUBLE):
            raise PETError(f"{file.path.name}: content is not DICOM, expected it from the file's name") from None
        return None
    except (PETError, MemoryError):
        raise
    except Exception as error:
        # An error of the file system has a number; pydicom raises OSErrors without for files cut short.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise PETError(f"{file.path.name}: damaged DICOM file ({reason_of(error)})") from error
    if kind == MediaStorageDirectoryStorage:
        return None
    if not syntax.is_transfer_syntax:
        found = syntax if syntax.is_valid else "damaged" if syntax else "missing"
        raise PETError(f"{file.path.name}: TransferSyntaxUID is {found}, expected one that DICOM defines")
    return dataset


def _what_names(beginning: bytes, classes: Collection[str]) -> Dataset | None:
    """Return what names the series of an object that is not of the classes; None if its beginning does not tell.

    A CT of thousands of slices is then passed by in seconds: neither its pixels nor most of its header are read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            named = read_partial(
                BytesIO(beginning),
                stop_when=lambda tag, vr, length: tag > _NAMING_ENDS,
                force=True,
                specific_tags=list(_NAMING),
            )
        is_named = "SeriesInstanceUID" in named and text_of(named, "SOPClassUID") not in {"", *classes}
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - what the beginning does not tell is read from the whole file
        return None
    return named if is_named else None


def _is_bare(head: bytes) -> bool:
    """Return whether a file begins with an element of group 2 or 8, as one without preamble does."""
    group, element = int.from_bytes(head[:2], "little"), int.from_bytes(head[2:4], "little")
    if len(head) < 8 or group not in {0x0002, 0x0008} or element > 0x0100:
        return False
    # The value representation is two capitals; without one, the length of a first value is small.
    return (head[4:6].isalpha() and head[4:6].isupper()) or int.from_bytes(head[4:8], "little") <= 0x0100


def _syntax_of(dataset: Dataset) -> UID:
    """Return the transfer syntax by which pydicom read a data set that does not state one."""
    is_implicit, is_little_endian = dataset.original_encoding
    if not is_little_endian:
        return ExplicitVRBigEndian
    return ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian


def _check_deflated(stream: IO[bytes], head: bytes, file: StoredFile) -> None:
    """Inflate a deflated data set in pieces that are thrown away, and refuse one that takes too much memory."""
    if head[132:136] != b"\2\0\0\0":
        raise PETError(
            f"{file.path.name}: FileMetaInformationGroupLength is missing, the deflated data cannot be found"
        )
    stream.seek(144 + int.from_bytes(head[140:144], "little"))
    most = max(HARMLESS, MAX_DEFLATION * (file.size or 0))
    n_bytes, inflater = 0, zlib.decompressobj(-zlib.MAX_WBITS)
    piece = stream.read(1 << 16)
    while piece and not inflater.eof:
        n_bytes += len(inflater.decompress(piece, 1 << 20))
        if n_bytes > most:
            raise PETError(
                f"{file.path.name}: deflated data takes more than {most} bytes, expected at most {MAX_DEFLATION} times "
                "the size of the file"
            )
        piece = inflater.unconsumed_tail or stream.read(1 << 16)


def read_slice_files(place: Path, *, with_pixels: bool = True, classes: Collection[str] | None = None) -> FoundFiles:
    """Read every DICOM file of a place, each once, and count those that are something else.

    Links are followed.

    Parameters
    ----------
    place
        Folder, zip archive of one, DICOMDIR, of which the files are read that it refers to, or one file.
    with_pixels
        Whether pixel data is kept.
    classes
        SOP classes that are looked for; of other objects little more is read than what names their series.

    Raises
    ------
    PETError
        If a file is damaged, or there is no DICOM file.
    OSError
        If a file or folder cannot be opened.
    """
    listed: set[str] | None = None
    if not place.is_dir() and is_directory(directory := StoredFile.at(place)):
        listed = {key_of(place.name), *(key_of(reference.name) for reference in read_directory(directory))}
        place = place.parent
    slices: list[SliceFile] = []
    dangling: list[str] = []
    references: list[Reference] = []
    keys: set[str] = set()
    n_other = n_stored = n_bytes = 0
    for file in files_below(place):
        if listed is not None and key_of(file.name) not in listed:
            continue
        if file.size is None:
            if not file.path.exists():
                dangling.append(file.name)
            else:
                n_other += 1
            continue
        keys.add(key_of(file.name))
        dataset = read_dataset(file, stop_before_pixels=not with_pixels, classes=classes)
        if dataset is None:
            n_other += 1
            if is_directory(file):
                references += read_directory(file)
            continue
        with naming(file.name):
            if classes is not None and text_of(dataset, "SOPClassUID") not in classes:
                dataset.pop("PixelData", None)
        if with_pixels and dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            n_stored += file.size
            n_bytes += len(dataset.get("PixelData") or b"")
            if n_bytes > max(HARMLESS_SERIES, MAX_DEFLATION * n_stored):
                raise PETError(f"deflated files of {n_stored} bytes take {n_bytes} bytes; damaged")
        slices.append(SliceFile(file.path, file.name, dataset, size=file.size, has_pixels=with_pixels))
    missing = missing_of(references, keys, classes)
    if not slices and not missing:
        if place.is_file() and not is_archive(place):
            raise PETError("not a DICOM file, expected the folder of a DICOM series, a zip of it, or a DICOMDIR")
        raise PETError(f"no DICOM file among {n_other + len(dangling)} files, expected a PET series")
    return FoundFiles(slices, n_other, dangling, missing)
