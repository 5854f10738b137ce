"""The DICOM PET series that regions and measurements refer to, and what objects of its study share with it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pydicom.valuerep import format_number_as_ds

from pipeline import __version__
from pipeline.errors import PETError
from pipeline.files import replaced_file
from pipeline.pet.dicom.reading.reader import survey_series
from pipeline.pet.dicom.values import value_of
from pipeline.pet.dicom.writing.equipment import PRODUCT
from pipeline.pet.grid import LPS_TO_RAS, Grid, canonical_grid, check_same_grid, to_native
from pipeline.pet.volumes import is_volume_name

__all__ = ["MAKER", "ReferencedSeries", "private_code", "quiet_about_names", "saved_object"]

MAKER: dict[str, Any] = {
    "manufacturer": PRODUCT,
    "manufacturer_model_name": PRODUCT,
    "software_versions": __version__,
    "device_serial_number": "none",
}
"""Attributes of the Enhanced General Equipment module (PS3.3 C.7.5.2); software has no serial number."""

Scalar = TypeVar("Scalar", bound=np.generic)

_PRIVATE_SCHEME = "99UNIPET3D"

_DEIDENTIFICATION = (
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
)


@dataclass(frozen=True)
class ReferencedSeries:
    """Headers of a DICOM PET series of single slices, in the order of their stack."""

    headers: tuple[Dataset, ...]
    """Without pixels, at the positions of an even grid: scanners leave it by hundredths of a millimetre, and readers of
    a SEG ask for frames at even distances."""

    affine: NDArray[np.float64]
    """(column, row, slice) to RAS+ position [mm]. Shape (4, 4)."""

    @classmethod
    def read(cls, folder: Path, *, grid: Grid) -> "ReferencedSeries":
        """Read the headers of a series that lies on the grid of the regions.

        Raises
        ------
        PETError
            If it is not one sound PET series of single slices, or lies on another grid.
        """
        survey = survey_series(folder, with_pixels=False)
        if survey.files[0].image is not None:
            raise PETError(f"{folder}: multi-frame image, expected single slices")
        found = canonical_grid(Grid(survey.stack.shape, survey.stack.affine))
        check_same_grid({str(folder): found, "the regions": grid})
        headers, affine = tuple(file.dataset for file in survey.files), survey.stack.affine
        for k, header in enumerate(headers):
            position = (LPS_TO_RAS @ affine)[:3] @ [0, 0, k, 1]
            header.ImagePositionPatient = [format_number_as_ds(float(value)) for value in position]
        return cls(headers, affine)

    @property
    def is_deidentified(self) -> bool:
        """Whether its patient's identity was removed."""
        return value_of(self.headers[0], "PatientIdentityRemoved") == "YES"

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of neighbouring columns, rows and slices [mm]."""
        column, row, step = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(column), float(row), float(step)

    def planes_of(self, labels: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return labels (X, Y, Z) as the slices lie, shape (slice, row, column)."""
        return np.ascontiguousarray(to_native(labels, self.affine).T)

    def series_number(self, step: int) -> int:
        """Return the number of a series that follows this one."""
        number = int(value_of(self.headers[0], "SeriesNumber") or 0) + step
        return number if 0 < number < 2**31 else step

    def identify(self, made: Dataset) -> None:
        """Name the scheme of the project's codes in an object made for the series, and de-identify it as the series is.

        Beside a de-identified series no true date may stand: the object has that series' shifted one.
        """
        scheme = Dataset()
        scheme.CodingSchemeDesignator, scheme.CodingSchemeName = _PRIVATE_SCHEME, f"Codes of {PRODUCT}"
        made.CodingSchemeIdentificationSequence = [scheme]
        if not self.is_deidentified:
            return
        source = self.headers[0]
        for keyword in _DEIDENTIFICATION:
            if keyword in source:
                made[keyword] = source[keyword]
        for keyword in ("SeriesDate", "SeriesTime"):
            made[keyword] = source[keyword]
        made.ContentDate, made.ContentTime = source.SeriesDate, source.SeriesTime
        for keyword in ("InstanceCreationDate", "InstanceCreationTime"):
            made.pop(keyword, None)
        for item in made.get("ContributingEquipmentSequence", ()):
            item.pop("ContributionDateTime", None)

    def uid_of_region(self, number: int) -> str:
        """Return the UID by which a region is followed through objects that refer to this series."""
        return str(generate_uid(entropy_srcs=[str(self.headers[0].SeriesInstanceUID), f"region {number}"]))


def private_code(value: str, meaning: str) -> Any:
    """Return a code of the project's own, for what no coding scheme of DICOM has a word for."""
    from highdicom.sr import CodedConcept

    return CodedConcept(value, _PRIVATE_SCHEME, meaning)


@contextmanager
def quiet_about_names() -> Iterator[None]:
    """Keep highdicom from telling the patient's name on the screen, where it finds it unlikely."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The string .* is unlikely to represent the intended person name")
        yield


@contextmanager
def saved_object(made: Dataset, path: Path) -> Iterator[Path]:
    """Write a DICOM object and yield its temporary file to be read back; it appears if the block succeeds.

    Raises
    ------
    PETError
        If the name is that of another kind of file, or it cannot be written.
    """
    if is_volume_name(path):
        raise PETError(f"{path}: name of a volume, expected that of a DICOM file")
    with replaced_file(path) as temporary:
        made.save_as(temporary, enforce_file_format=True)
        yield temporary
