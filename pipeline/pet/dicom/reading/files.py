"""Find and read the files of a DICOM series: which are DICOM, which belong together, and how much memory they take."""

import gc
import os
import warnings
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
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
from pipeline.pet.dicom.values import text_of

__all__ = [
    "ENHANCED",
    "FoundFiles",
    "SliceFile",
    "collector_paused",
    "read_dataset",
    "read_slice_files",
    "walk_folders",
]

ENHANCED = {EnhancedPETImageStorage, LegacyConvertedEnhancedPETImageStorage}
DICOM_SUFFIXES = {".dcm", ".ima"}
APPLE_DOUBLE = "._"
"""A Mac writes a file of this prefix and the same suffix beside every file on a disk that is not its own."""

HEAD = 512
"""The preamble and the transfer syntax of a file lie within so many bytes: what stands before has a limited length."""

HARMLESS = 1 << 24
"""An image of up to this many bytes is read whatever its compression: an empty slice compresses well."""

HARMLESS_SERIES = 1 << 27
"""The same for all files of a folder together."""

MAX_DEFLATION = 100
"""A deflated file that takes this many times its own size is no image: zeros alone take a thousand times."""


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


def walk_folders(
    folder: str | Path, *, enter: Callable[[Path], bool] = lambda place: True
) -> Iterator[tuple[Path, list[str]]]:
    """Yield every folder below a folder with the sorted names of its files.

    Links are followed. A folder that is reached in two ways, as by a link to one above it, is entered once; one that
    `enter` declines is not entered, and neither is what lies below. A folder that cannot be opened is an `OSError`.
    """
    entered: set[str] = set()
    for parent, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        place = os.path.realpath(parent)
        if place in entered or not enter(Path(parent)):
            folders.clear()
            continue
        entered.add(place)
        folders.sort()
        yield Path(parent), sorted(files)


def _raise(error: OSError) -> None:
    raise error


def read_dataset(path: Path, *, stop_before_pixels: bool = False) -> Dataset | None:
    """Return the data set in a file, or None if the content is not DICOM, or is a DICOMDIR.

    A data set without preamble or file meta information (DICOM PS3.10 7.1) is read as well. The returned data set
    then has the transfer syntax by which it was read.

    Raises
    ------
    PETError
        If the file claims to be DICOM and cannot be read, or would take far more memory than an image.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
            has_preamble = head[128:132] == b"DICM"
            if not has_preamble and not _is_bare(head):
                raise InvalidDicomError
            if DeflatedExplicitVRLittleEndian.encode() in head:
                _check_deflated(file, head, path)
            file.seek(0)
            # Memory cannot be asked for beyond the end of what is in memory, however long an element claims to be.
            source = BytesIO(file.read()) if path.stat().st_size <= HARMLESS else file
            with warnings.catch_warnings():
                # Vendors' values that break the standard's letter are checked where they are used.
                warnings.simplefilter("ignore")
                dataset = pydicom.dcmread(source, stop_before_pixels=stop_before_pixels, force=not has_preamble)
                if not dataset.file_meta:
                    dataset.file_meta.TransferSyntaxUID = _syntax_of(dataset)
                kind = dataset.file_meta.get("MediaStorageSOPClassUID")
                syntax = UID(str(dataset.file_meta.get("TransferSyntaxUID", "")))
    except InvalidDicomError:
        if path.suffix.lower() in DICOM_SUFFIXES and not path.name.startswith(APPLE_DOUBLE):
            raise PETError(f"{path.name}: content is not DICOM, expected it from the file's name") from None
        return None
    except (PETError, MemoryError):
        raise
    except Exception as error:
        # An error of the file system has a number; pydicom raises OSErrors without for files cut short.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise PETError(f"{path.name}: damaged DICOM file ({reason_of(error)})") from error
    if kind == MediaStorageDirectoryStorage:
        return None
    if not syntax.is_transfer_syntax:
        found = syntax if syntax.is_valid else "damaged" if syntax else "missing"
        raise PETError(f"{path.name}: TransferSyntaxUID is {found}, expected one that DICOM defines")
    return dataset


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


def _check_deflated(file: BufferedReader, head: bytes, path: Path) -> None:
    """Inflate a deflated data set in pieces that are thrown away, and refuse one that takes too much memory."""
    if head[132:136] != b"\2\0\0\0":
        raise PETError(f"{path.name}: FileMetaInformationGroupLength is missing, the deflated data cannot be found")
    file.seek(144 + int.from_bytes(head[140:144], "little"))
    most = max(HARMLESS, MAX_DEFLATION * path.stat().st_size)
    n_bytes, inflater = 0, zlib.decompressobj(-zlib.MAX_WBITS)
    piece = file.read(1 << 16)
    while piece and not inflater.eof:
        n_bytes += len(inflater.decompress(piece, 1 << 20))
        if n_bytes > most:
            raise PETError(
                f"{path.name}: deflated data takes more than {most} bytes, expected at most {MAX_DEFLATION} times "
                "the size of the file"
            )
        piece = inflater.unconsumed_tail or file.read(1 << 16)


def read_slice_files(folder: Path, *, with_pixels: bool = True, pixels_of: Collection[str] | None = None) -> FoundFiles:
    """Read every DICOM file below a folder, each once, and count the files that are something else.

    Links are followed. Pixel data is kept `with_pixels`, and then only that of the SOP classes `pixels_of`, if given.

    Raises
    ------
    PETError
        If a file is damaged, or there is no DICOM file.
    OSError
        If a file or folder cannot be opened.
    """
    slices: list[SliceFile] = []
    dangling: list[str] = []
    n_other = n_stored = n_bytes = 0
    for parent, names in walk_folders(folder):
        for path in (parent / name for name in names):
            name = str(path.relative_to(folder))
            if not path.exists():
                dangling.append(name)
                continue
            # Opening a pipe would wait for ever.
            dataset = read_dataset(path, stop_before_pixels=not with_pixels) if path.is_file() else None
            if dataset is None:
                n_other += 1
                continue
            with naming(name):
                if pixels_of is not None and text_of(dataset, "SOPClassUID") not in pixels_of:
                    dataset.pop("PixelData", None)
            if with_pixels and dataset.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
                n_stored += path.stat().st_size
                n_bytes += len(dataset.get("PixelData") or b"")
                if n_bytes > max(HARMLESS_SERIES, MAX_DEFLATION * n_stored):
                    raise PETError(f"deflated files of {n_stored} bytes take {n_bytes} bytes; damaged")
            slices.append(SliceFile(path, name, dataset, has_pixels=with_pixels))
    if not slices:
        raise PETError(f"no DICOM file among {n_other + len(dangling)} files, expected a PET series")
    return FoundFiles(slices, n_other, dangling)
