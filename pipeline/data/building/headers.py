"""Read the headers of a session as its images will be read, and leave out what cannot be used."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError
from pydicom.dataset import Dataset

from pipeline.data.building.exclusions import excluded_of, names_of
from pipeline.data.layouts.found_session import FoundSession
from pipeline.data.manifest import Exclusion, Image, first_mistake
from pipeline.errors import PETError, naming, one_line, reason_of
from pipeline.pet import PETHeader
from pipeline.pet.dicom.reading.reader import survey_series
from pipeline.pet.dicom.values import text_of
from pipeline.pet.grid import Grid, canonical_grid, grid_difference
from pipeline.pet.nifti import survey_nifti
from pipeline.pet.read import names_volume
from pipeline.pet.tracer_names import tracer_conflict
from pipeline.pet.volumes import read_grid

__all__ = ["ImageHeader", "read_image_header", "read_session", "reason_for"]


@dataclass(frozen=True)
class ImageHeader:
    """Grid and acquisition of one image."""

    grid: Grid
    """With axes in RAS+ order."""
    pet: PETHeader
    """What SUV depends on."""
    identities: frozenset[str] = frozenset()
    """Digests of the identifiers of the patient; the identifiers themselves are never kept."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along X, Y, Z."""
        x, y, z = self.grid.shape
        return x, y, z

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Sizes along X, Y, Z [mm], rounded as far as files round them: 1.65 mm is stored as 1.64999998."""
        x, y, z = np.linalg.norm(self.grid.affine[:3, :3], axis=0).round(4).tolist()
        return x, y, z

    @property
    def tracer(self) -> str:
        """Radiopharmaceutical, as the file names it."""
        return one_line(self.pet.radiopharmaceutical)

    @property
    def scanner(self) -> str:
        """Manufacturer and model."""
        return one_line(f"{self.pet.manufacturer} {self.pet.model_name}".strip())

    def conflict_with(self, tracer: str) -> str | None:
        """Return in one sentence what contradicts a tracer that the image should have, or None."""
        nuclide, half_life = self.pet.radionuclide, self.pet.radionuclide_half_life
        return tracer_conflict(label=self.tracer, nuclide=nuclide, half_life=half_life, expected=tracer)


def read_image_header(
    path: Path, *, sidecar: Mapping[str, Any] | None = None, series: str | int | None = None
) -> ImageHeader:
    """Read the headers of an image, and refuse all that `pipeline.pet.read_pet` would refuse for its headers.

    A NIfTI volume takes milliseconds, a DICOM series two milliseconds a slice. `sidecar` stands for the JSON files of a
    NIfTI volume; if None, they are read. `series` is that of `read_pet`.

    Raises
    ------
    PETError
        If there is no such image, or its headers do not suffice to read it as SUVbw.
    """
    with naming(path):
        if names_volume(path, series):
            found, grid = survey_nifti(path, sidecar=sidecar)
            return ImageHeader(grid, found.header)
        survey = survey_series(path, with_pixels=False, series=series)
        grid = canonical_grid(Grid(survey.stack.shape, survey.stack.affine))
        return ImageHeader(grid, survey.header, _identities_of(survey.files[0].stored))


def _identities_of(dataset: Dataset) -> frozenset[str]:
    """Return digests of PatientID and StudyInstanceUID; scans that share one are of the same patient.

    An ID without a digit, such as ``"Anonymous"``, belongs to nobody.
    """
    values = {keyword: text_of(dataset, keyword) for keyword in ("PatientID", "StudyInstanceUID")}
    return frozenset(
        f"{keyword}:{hashlib.sha256(value.encode()).hexdigest()}"
        for keyword, value in values.items()
        if any(character.isdigit() for character in value)
    )


def read_session(found: FoundSession, root: Path, stated: Sequence[Exclusion]) -> FoundSession:
    """Return a session with its header, less what is excluded or cannot be used; `left_out` says why.

    `stated` are the exclusions of the data set and the user, also about other sessions.
    """
    names = names_of(found)
    mine = [exclusion for exclusion in stated if exclusion.subject in names]
    if any(exclusion.is_whole for exclusion in (*mine, *found.left_out)):
        return found
    gone = excluded_of(found.files(), mine)
    try:
        return _with_headers(found.without(gone), root)
    except Exception as error:  # noqa: BLE001 - a damaged file makes libraries raise anything
        return found.leaving_out(Exclusion(subject=found.id, reason=reason_for(error, root)))


def _with_headers(found: FoundSession, root: Path) -> FoundSession:
    """Read the headers, and drop the images and labels that do not go with the full dose.

    Raises
    ------
    PETError
        If there is no usable full dose, or the tracer is not what the session is labelled with.
    """
    full = next((image for image in found.images if image.role == "dose" and image.dose_reduction_factor == 1), None)
    if full is None:
        raise PETError("the image of full dose is excluded")
    reference = read_image_header(root / full.path, sidecar=full.sidecar)
    identities: set[str] = set()
    unusable = []
    for file in found.files():
        if file is found.ct:  # lies on a grid of its own
            continue
        try:
            if not isinstance(file, Image):
                with naming(root / file.path):
                    grid = read_grid(root / file.path)
            else:
                header = reference if file is full else read_image_header(root / file.path, sidecar=file.sidecar)
                grid = header.grid
            if difference := grid_difference(grid, reference.grid):
                raise PETError(difference)
        except PETError as error:
            if file is full:
                raise
            unusable.append(Exclusion(subject=found.id, path=file.path, reason=reason_for(error, root)))
            continue
        if isinstance(file, Image):
            if conflict := header.conflict_with(found.tracer):
                raise PETError(f"{file.path}: {conflict}")
            identities |= header.identities
    kept = found.without({str(exclusion.path) for exclusion in unusable}).leaving_out(*unusable)
    return replace(kept, header=reference, identities=frozenset(identities))


def reason_for(error: Exception, root: Path) -> str:
    """Return an error in one line, without the place of the data on this machine."""
    if isinstance(error, ValidationError):
        return first_mistake(error)
    text = str(error) if isinstance(error, PETError) else f"{type(error).__name__}: {reason_of(error)}"
    return one_line(text.replace(f"{root}{os.sep}", ""))
