"""DICOMDIR, the directory of a disc: which files it refers to (DICOM PS3.3 F, PS3.10 8)."""

import warnings
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import MediaStorageDirectoryStorage

from pipeline.errors import PETError, naming, reason_of
from pipeline.pet.dicom.reading.stored_files import StoredFile
from pipeline.pet.dicom.values import text_of, value_of

__all__ = ["Reference", "is_directory", "key_of", "missing_of", "read_directory"]


@dataclass(frozen=True)
class Reference:
    """A file that a DICOMDIR refers to."""

    name: str
    """The path below the folder or archive that the DICOMDIR was found in."""

    sop_class: str
    """SOP class of the object in it."""


def is_directory(file: StoredFile) -> bool:
    """Return whether a file has the name of a DICOMDIR; PS3.10 8.6 allows no other."""
    return file.path.name.upper() == "DICOMDIR"


def key_of(name: str) -> str:
    """Return the name of a file in one spelling: discs are read with small letters, a version or a dot at the end."""
    return Path(name).as_posix().casefold().removesuffix(";1").removesuffix(".")


def read_directory(file: StoredFile) -> list[Reference]:
    """Return which files a DICOMDIR refers to.

    Raises
    ------
    PETError
        If it is not a DICOMDIR or is damaged.
    """
    with naming(file.name):
        try:
            with file.open() as stream, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                directory = pydicom.dcmread(BytesIO(stream.read()))
            kind = directory.file_meta.get("MediaStorageSOPClassUID")
            records: Sequence[Dataset] = value_of(directory, "DirectoryRecordSequence") or ()
        except (PETError, OSError, MemoryError):
            raise
        except Exception as error:
            raise PETError(f"damaged DICOMDIR ({reason_of(error)})") from error
        if kind != MediaStorageDirectoryStorage:
            raise PETError("not a DICOMDIR by its content, expected the directory of a disc")
        parent = PurePosixPath(Path(file.name).parent.as_posix())
        return [
            Reference(str(parent.joinpath(*parts)), text_of(record, "ReferencedSOPClassUIDInFile"))
            for record in records
            if (parts := _parts_of(record))
        ]


def _parts_of(record: Dataset) -> list[str]:
    value = value_of(record, "ReferencedFileID") or ()
    return [value] if isinstance(value, str) else [str(part) for part in value]


def missing_of(references: Iterable[Reference], keys: Collection[str], classes: Collection[str] | None) -> list[str]:
    """Return the names of referred files of some SOP classes, or of any, whose key is not among `keys`."""
    return [
        reference.name
        for reference in references
        if (classes is None or reference.sop_class in classes) and key_of(reference.name) not in keys
    ]
