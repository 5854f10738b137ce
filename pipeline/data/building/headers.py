"""What one look at an image's header says: grid, tracer, scanner, and whose it is. No voxel is read."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from pipeline.errors import PETError, naming, one_line
from pipeline.pet import nifti
from pipeline.pet.dicom.reading.files import APPLE_DOUBLE, DICOM_SUFFIXES, read_dataset
from pipeline.pet.dicom.reading.survey import survey_series
from pipeline.pet.dicom.values import number_of, text_of, value_of
from pipeline.pet.grid import SAME_GRID, Grid, canonical_grid, corner_distance
from pipeline.pet.nifti import is_nifti_name, survey_nifti
from pipeline.pet.suv.nuclides import nuclide_from_code, nuclide_from_name

__all__ = ["ImageHeader", "identities_of", "is_dicom_name", "read_grid", "read_image_header", "read_whole_header"]


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """Grid and acquisition of one image."""

    shape: tuple[int, int, int]
    """Voxels along X, Y, Z of the RAS+ volume."""
    voxel_size: tuple[float, float, float]
    """[mm]."""
    affine: np.ndarray | None = None
    """Voxel to RAS+ [mm], as stored; None where one slice cannot tell."""
    tracer: str = ""
    """Radiopharmaceutical, as the file names it."""
    nuclide: str = ""
    """Such as ``"F-18"``."""
    half_life: float | None = None
    """[s]."""
    scanner: str = ""
    """Manufacturer and model."""
    identities: frozenset[str] = frozenset()
    """Digests of what tells the patient; the values themselves are never kept."""

    def unlike(self, other: "ImageHeader") -> str | None:
        """Return in one sentence how another image's grid differs, or None if it is the same."""
        if other.shape != self.shape:
            return f"shape is {_times(other.shape)}, expected {_times(self.shape)}"
        if not np.allclose(other.voxel_size, self.voxel_size, rtol=1e-3):
            return f"voxels are {_times(other.voxel_size)} mm, expected {_times(self.voxel_size)}"
        if self.affine is not None and other.affine is not None:
            apart = corner_distance(Grid(self.shape, self.affine), Grid(self.shape, other.affine))
            if apart > SAME_GRID:
                return f"lies up to {apart:.1f} mm elsewhere, expected the position of the full-dose image"
        return None


def _times(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:g}" if isinstance(value, int) else f"{value:.4g}" for value in values)


def is_dicom_name(path: Path) -> bool:
    """Return whether a name ends as DICOM slices do (.dcm, .IMA)."""
    return path.suffix.lower() in DICOM_SUFFIXES and not path.name.startswith(APPLE_DOUBLE)


def read_image_header(path: Path, *, sidecar: Mapping[str, Any] | None = None) -> ImageHeader:
    """Read the header of a NIfTI volume with its sidecar, or of one slice of a DICOM folder.

    Of DICOM one slice is read and the others are counted, which takes milliseconds where reading every header of a
    long scan takes seconds; the distance of slices is then what that slice says it is.

    Parameters
    ----------
    path
        File ending in .nii or .nii.gz, or the folder of one series.
    sidecar
        What stands for the JSON file beside a NIfTI volume; None reads the file.

    Raises
    ------
    PETError
        If there is no such image, it is not one static volume, SUV cannot be computed of a NIfTI volume, or a DICOM
        slice is not PET, lacks weight or dose, or is one of too few.
    """
    with naming(path):
        if is_nifti_name(path):
            return _of_nifti(path, sidecar)
        return _of_dicom_folder(path)


def read_whole_header(path: Path, *, sidecar: Mapping[str, Any] | None = None) -> ImageHeader:
    """Read the header of a NIfTI volume, or of every slice of a DICOM series, and check all that reading would check.

    A second or two for a DICOM series of 673 slices.

    Parameters
    ----------
    path
        File or folder, as for `read_image_header`, or the file of a multi-frame DICOM image.
    sidecar
        What stands for the JSON file beside a NIfTI volume; None reads the file.

    Raises
    ------
    PETError
        If reading the image would be refused for its headers.
    """
    with naming(path):
        if is_nifti_name(path):
            return _of_nifti(path, sidecar)
        if not path.exists():
            raise PETError("no such file or folder")
        survey = survey_series(path, with_pixels=False)
        header = survey.header
        return replace(
            _on_grid(canonical_grid(Grid(survey.stack.shape, survey.stack.affine))),
            tracer=one_line(header.radiopharmaceutical),
            nuclide=header.radionuclide,
            half_life=header.radionuclide_half_life,
            scanner=one_line(f"{header.manufacturer} {header.model_name}".strip()),
            identities=identities_of(survey.files[0].stored),
        )


def read_grid(path: Path) -> ImageHeader:
    """Read the grid alone of a NIfTI volume: labels, CT and attenuation have no tracer.

    Raises
    ------
    PETError
        If it is no readable static volume.
    """
    with naming(path):
        if not path.is_file():
            raise PETError("no such file")
        return _on_grid(nifti.read_grid(path))


def _on_grid(grid: Grid) -> ImageHeader:
    x, y, z = np.linalg.norm(grid.affine[:3, :3], axis=0)
    return ImageHeader(
        shape=(grid.shape[0], grid.shape[1], grid.shape[2]),
        # Rounded as far as files round them: 1.65 mm is stored as 1.64999998.
        voxel_size=(round(float(x), 4), round(float(y), 4), round(float(z), 4)),
        affine=grid.affine,
    )


def _of_nifti(path: Path, sidecar: Mapping[str, Any] | None) -> ImageHeader:
    survey = survey_nifti(path, sidecar=sidecar)
    header = survey.header
    return replace(
        _on_grid(survey.grid),
        tracer=one_line(header.radiopharmaceutical),
        nuclide=header.radionuclide,
        half_life=header.radionuclide_half_life,
        scanner=one_line(f"{header.manufacturer} {header.model_name}".strip()),
    )


def _of_dicom_folder(folder: Path) -> ImageHeader:
    if not folder.is_dir():
        raise PETError("no such file or folder")
    files = sorted(Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
    dataset, first = None, None
    for first in files:
        dataset = None if first.name.startswith(".") else read_dataset(first, stop_before_pixels=True)
        if dataset is not None:
            break
    if dataset is None or first is None:
        raise PETError(f"no DICOM file among {len(files)} files, expected a PET series")
    n_slices = sum(file.suffix.lower() == first.suffix.lower() and not file.name.startswith(".") for file in files)
    with naming(first.name):
        return _of_slice(dataset, n_slices)


def _of_slice(dataset: Dataset, n_slices: int) -> ImageHeader:
    modality = text_of(dataset, "Modality")
    if modality != "PT":
        raise PETError(f"Modality is {modality or 'missing'}, expected PT")
    if "NumberOfFrames" in dataset and number_of(dataset, "NumberOfFrames") != 1:
        raise PETError("a multi-frame image, expected one file per slice")
    n_stated = int(number_of(dataset, "NumberOfSlices") or 0)
    if n_slices < n_stated:
        raise PETError(f"{n_slices} slices, expected {n_stated} as NumberOfSlices says")
    items = value_of(dataset, "RadiopharmaceuticalInformationSequence") or [Dataset()]
    if text_of(dataset, "Units") in {"BQML", "CNTS"}:
        for keyword, holder in (("PatientWeight", dataset), ("RadionuclideTotalDose", items[0])):
            value = number_of(holder, keyword)
            if not value or value < 0:
                found = "missing" if value is None else f"{value:g}"
                raise PETError(f"{keyword} is {found}, SUV cannot be computed")
    orientation, spacing = (value_of(dataset, k) for k in ("ImageOrientationPatient", "PixelSpacing"))
    distance = number_of(dataset, "SpacingBetweenSlices") or number_of(dataset, "SliceThickness")
    rows, columns = (number_of(dataset, keyword) for keyword in ("Rows", "Columns"))
    if orientation is None or spacing is None or not distance or not rows or not columns:
        raise PETError("orientation, spacing, thickness or matrix is missing, expected them on every slice")
    # Directions only: where the stack begins, one slice cannot say.
    affine = np.eye(4)
    affine[:3, 0] = np.asarray(orientation[:3], dtype=float) * float(spacing[1])
    affine[:3, 1] = np.asarray(orientation[3:], dtype=float) * float(spacing[0])
    affine[:3, 2] = np.cross(np.asarray(orientation[:3], float), np.asarray(orientation[3:], float)) * abs(distance)
    tracer, nuclide, half_life = _tracer_of(items[0])
    scanner = f"{text_of(dataset, 'Manufacturer')} {text_of(dataset, 'ManufacturerModelName')}"
    grid = Grid((int(columns), int(rows), n_slices), np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)
    return replace(
        _on_grid(canonical_grid(grid)),
        affine=None,
        tracer=one_line(tracer),
        nuclide=nuclide,
        half_life=half_life,
        scanner=one_line(scanner.strip()),
        identities=identities_of(dataset),
    )


def _tracer_of(item: Dataset) -> tuple[str, str, float | None]:
    """Return name, nuclide by its code and half-life [s] of a radiopharmaceutical item."""
    tracer = text_of(item, "Radiopharmaceutical")
    if not tracer:
        tracer = next((text_of(c, "CodeMeaning") for c in value_of(item, "RadiopharmaceuticalCodeSequence") or ()), "")
    nuclide = ""
    for code in value_of(item, "RadionuclideCodeSequence") or ():
        by_code = nuclide_from_code(text_of(code, "CodingSchemeDesignator"), text_of(code, "CodeValue"))
        nuclide = by_code or nuclide_from_name(text_of(code, "CodeMeaning"))
    return tracer, nuclide, number_of(item, "RadionuclideHalfLife") or None


def identities_of(dataset: Dataset) -> frozenset[str]:
    """Return digests of PatientID and StudyInstanceUID; whoever shares one with another scan is the same patient.

    An ID without a digit, such as ``"Anonymous"``, is no one's.
    """
    values = {keyword: text_of(dataset, keyword) for keyword in ("PatientID", "StudyInstanceUID")}
    return frozenset(
        f"{keyword}:{hashlib.sha256(value.encode()).hexdigest()}"
        for keyword, value in values.items()
        if any(character.isdigit() for character in value)
    )
