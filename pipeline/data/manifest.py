"""Manifest: what a data set is, what its licence allows, and which files belong together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from pipeline.errors import PETError
from pipeline.files import read_yaml, write_text
from pipeline.pet import PETSeries, read_pet

__all__ = [
    "Cohort",
    "Exclusion",
    "File",
    "Image",
    "LayoutName",
    "Licence",
    "Manifest",
    "Recipe",
    "Role",
    "Split",
    "SplitRule",
    "Subject",
    "first_mistake",
    "other_files",
    "read_image",
    "validated",
]

# libyaml reads the thousand subjects of a large data set in a second, the pure Python loader in a minute.
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

Kind = TypeVar("Kind")

Split = Literal["train", "validation", "test"]

Role = Literal["dose", "full_repeat", "noise_free", "truth"]
"""What an image is: a scan at its dose reduction factor, an independent draw of the full counts, the reconstruction of
the expected counts, the true uptake. The last three are known of simulated subjects only."""

OTHER_FILES = ("lesions", "organs", "attenuation", "ct")
"""Fields of a subject that hold a file which is no PET image."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128)]


class _Record(BaseModel):
    # A misspelled key is a mistake, never ignored.
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class File(_Record):
    """A file, or a folder of DICOM slices, below the root of the data."""

    path: str = Field(max_length=1024)
    """Relative to the manifest's root, with forward slashes, never above it."""
    sha256: Sha256 | None = None
    """Of the file; of a folder, that of its sorted files' names and contents."""

    @field_validator("path")
    @classmethod
    def _stays_below_the_root(cls, path: str) -> str:
        parts = PurePosixPath(path)
        if not path or parts.is_absolute() or ".." in parts.parts or "\\" in path:
            raise ValueError(f"path {path!r} leaves the root, expected a relative path with forward slashes")
        # One spelling, so that the same file is seen to be the same.
        return parts.as_posix()

    @property
    def place(self) -> str:
        """Return what differs from file to file of a subject."""
        return self.path


class Image(File):
    """A PET image of a subject."""

    role: Role = "dose"
    dose_reduction_factor: float = Field(default=1.0, ge=1, le=1000, allow_inf_nan=False)
    """1 is full dose."""
    series: Annotated[str, Field(min_length=1)] | int | None = None
    """Number, description or UID of the DICOM series, where the path is that of a study with several of PET."""
    sidecar: dict[str, Any] | None = None
    """PET-BIDS keys for a NIfTI that has no JSON file beside it; SUV then comes from these, file by file."""

    @property
    def place(self) -> str:
        """Return the path, and the series where one is named: one study may hold several images."""
        return self.path if self.series is None else f"{self.path}, series {self.series}"


class Subject(_Record):
    """One scan session: images of the same patient on the same grid, at one or more doses."""

    id: Id
    patient: str = Field(min_length=1)
    """Name of the patient, all sessions of whom belong to the same split."""
    split: Split
    tracer: str = ""
    scanner: str = ""
    shape: tuple[int, int, int] | None = None
    """Voxels along X, Y, Z of the RAS+ volume."""
    voxel_size: tuple[float, float, float] | None = None
    """[mm]."""
    images: tuple[Image, ...] = Field(min_length=1)
    lesions: File | None = None
    """Integer volume: 0 outside, k in the k-th lesion, or 1 in all of them."""
    organs: File | None = None
    """Integer volume of organ labels."""
    attenuation: File | None = None
    """Linear attenuation at 511 keV [1/mm]."""
    ct: File | None = None
    """CT in HU."""

    @model_validator(mode="after")
    def _images_are_distinct(self) -> Subject:
        kinds = [(image.role, image.dose_reduction_factor) for image in self.images]
        if len(set(kinds)) != len(kinds):
            raise ValueError(f"subject {self.id}: two images have the same role and dose reduction factor")
        if ("dose", 1.0) not in kinds:
            raise ValueError(f"subject {self.id}: no image at full dose (dose reduction factor 1)")
        return self

    @property
    def full_dose(self) -> Image:
        """Return the image at full dose."""
        return next(i for i in self.images if i.role == "dose" and i.dose_reduction_factor == 1)

    @property
    def low_dose(self) -> tuple[Image, ...]:
        """Return the images at less than full dose, by rising dose reduction factor."""
        low = (i for i in self.images if i.role == "dose" and i.dose_reduction_factor > 1)
        return tuple(sorted(low, key=lambda image: image.dose_reduction_factor))

    def image(self, role: Role) -> Image | None:
        """Return the image of a role other than "dose", or None."""
        return next((i for i in self.images if i.role == role), None)

    def files(self) -> Iterator[File]:
        """Yield every file of the subject."""
        yield from self.images
        yield from other_files(self).values()


def other_files(subject: object) -> dict[str, File]:
    """Return those files of a subject, or of a session that was found, that are no PET images, by field."""
    return {name: file for name in OTHER_FILES if (file := getattr(subject, name)) is not None}


class Licence(_Record):
    """What the data may be used for."""

    name: str = ""
    url: str = ""
    allows: str = ""
    """In words: research, commercial use, redistribution."""
    commercial_use: bool | None = None
    """None where it differs by subject or is not stated."""


class Exclusion(_Record):
    """Something that is on disk and must not be used, or that is missing; without factor and path, a whole subject."""

    subject: str = Field(min_length=1)
    """Id of the subject, or the name of its folder."""
    dose_reduction_factor: float | None = None
    """Only the image of this dose."""
    path: str | None = None
    """Only this file or folder, relative to the manifest's root."""
    reason: str = Field(min_length=3)

    @property
    def is_whole(self) -> bool:
        """Return whether the whole subject is excluded."""
        return self.dose_reduction_factor is None and self.path is None


class SplitRule(_Record):
    """How subjects without a published split were assigned, by patient."""

    seed: int = Field(ge=0)
    fractions: tuple[float, float, float]
    """Of train, validation and test."""


class Cohort(_Record):
    """Simulated subjects that a seed gives back."""

    folder: Id
    split: Split
    n_subjects: int = Field(ge=1)
    seed: int = Field(ge=0)
    scanner: str = "generic"
    tracer: str = "FDG"
    n_lesions: int | None = Field(default=None, ge=0)
    axial_extent: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Part of the body that is scanned, around the liver [mm]; by default all that the scanner sees."""
    dose_reduction_factors: tuple[float, ...] | None = None
    """By default those of the recipe."""
    references: bool = True
    """Whether it has what evaluation needs: truth, noise-free image, independent full dose, organs, attenuation."""


class Recipe(_Record):
    """How the simulated subjects of a manifest are made."""

    dose_reduction_factors: tuple[float, ...]
    dose_mode: Literal["shorter_scan", "less_activity"] = "shorter_scan"
    """What a lower dose is, see `pipeline.simulation`."""
    cohorts: tuple[Cohort, ...] = Field(min_length=1)


LayoutName = Literal["udpet", "autopet", "enhance_pet", "bids_pet", "simulated"]


class Manifest(_Record):
    """A data set. One without subjects is a recipe: it says how to get the data, a builder fills the subjects in."""

    schema_version: Literal[1] = 1
    name: Id
    title: str
    source: str = ""
    """Who made it, with a DOI or an address."""
    how_to_get: str = ""
    licence: Licence = Licence()
    layout: LayoutName
    """How the files lie; the builder of this name reads it."""
    notes: tuple[str, ...] = ()
    recipe: Recipe | None = None
    """Of simulated data only."""
    split_rule: SplitRule | None = None
    """None where every split is published."""
    subjects: tuple[Subject, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()

    @model_validator(mode="after")
    def _ids_differ(self) -> Manifest:
        ids = [subject.id for subject in self.subjects]
        if len(set(ids)) != len(ids):
            twice = sorted({i for i in ids if ids.count(i) > 1})
            raise ValueError(f"subjects {', '.join(twice)} appear twice")
        return self

    def of_split(self, split: Split) -> tuple[Subject, ...]:
        """Return the subjects of one split."""
        return tuple(subject for subject in self.subjects if subject.split == split)

    @classmethod
    def from_file(cls, path: str | Path) -> Manifest:
        """Read a YAML manifest.

        Raises
        ------
        PETError
            If the file is missing, not YAML, or not a manifest: the first thing that is wrong, in one line.
        """
        content = read_yaml(Path(path))
        if not isinstance(content, dict):
            raise PETError(f"{path}: holds a {type(content).__name__}, expected a manifest")
        return validated(cls, content, path, expected="a manifest")

    def write(self, path: str | Path) -> Path:
        """Write as YAML, complete or not at all; what is empty is left out."""
        path = Path(path)
        content = _without_empty(self.model_dump(mode="json"))
        lists = {name: content.pop(name) for name in ("subjects", "exclusions") if name in content}
        text = _as_yaml(content, default_flow_style=False, width=120)
        if lists:
            # A line per image and exclusion, however long its path.
            text += _as_yaml(lists, default_flow_style=None, width=10**6)
        write_text(path, text)
        return path


def read_image(image: Image, root: str | Path) -> PETSeries:
    """Read an image of a manifest as SUVbw.

    Raises
    ------
    PETError
        If the image cannot be read as SUVbw.
    """
    return read_pet(Path(root) / image.path, sidecar=image.sidecar, series=image.series)


def _as_yaml(content: Mapping[str, Any], *, default_flow_style: bool | None, width: int) -> str:
    style = default_flow_style
    return yaml.dump(
        content, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=width, default_flow_style=style
    )


def validated(kind: type[Kind], content: object, path: str | Path, *, expected: str) -> Kind:
    """Return what a file holds as a record, or refuse it with its first mistake."""
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        raise PETError(f"{path}: {first_mistake(error)}, expected {expected}") from error


def first_mistake(error: ValidationError) -> str:
    """Return the first mistake of a record in one line, and how many more there are."""
    errors = error.errors()
    where = ".".join(str(part) for part in errors[0]["loc"])
    rest = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{where + ': ' if where else ''}{errors[0]['msg'].removeprefix('Value error, ')}{rest}"


def _without_empty(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_empty(v) for key, v in value.items() if v not in (None, "", [], {}, ())}
    if isinstance(value, list | tuple):
        return [_without_empty(v) for v in value]
    return value
