"""What a benchmark is: its methods with their seeds, and for each part the data and settings it is measured with."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from pipeline.comparison.filters import FILTERS
from pipeline.data.manifest import Manifest, Split, validated
from pipeline.errors import PETError
from pipeline.files import read_yaml
from pipeline.shipped import own_bundle, own_manifest

__all__ = [
    "PARTS",
    "Definition",
    "MethodEntry",
    "RealScan",
    "Samples",
    "Source",
    "Uncertainty",
    "own_definition",
    "read_definition",
    "study_from",
]

Study = TypeVar("Study")

Factor = Annotated[float, Field(gt=1, allow_inf_nan=False)]
Factors = Annotated[tuple[Factor, ...], Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]

PARTS = ("images", "unseen", "real", "samples", "detection", "phantom", "uncertainty", "cost")
"""Names of the parts, in the order in which they are measured and shown."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Strict):
    """Subjects of a manifest or a recipe."""

    manifest: str
    """Name of one that comes along, such as simulated_v2, or the path of a YAML file or of a folder of subjects."""
    split: Split = "test"
    cohorts: Mapping[str, Annotated[int, Field(ge=1)]] | None = None
    """Of a recipe: only the cohorts of these folders, and of each so many subjects, the first ones."""
    n_subjects: int | None = Field(default=None, ge=1)
    """At most so many, the first ones; None takes all."""
    dose_reduction_factors: Factors | None = None
    """Only these; None takes all that the subjects have."""


class MethodEntry(_Strict):
    """A method, and where its weights are."""

    method: str | None = None
    """Name or path of the method's file; by default the name of the entry. For input and filters nothing is needed."""
    weights: Literal["trained", "shipped", "none"] = "trained"
    """``trained`` are those in the folder of the name of the entry below that of the trainings, ``shipped`` those that
    the method's file names, ``none`` is for a method without."""
    seeds: int = Field(default=1, ge=1)
    """Number of trainings with other seeds: NAME, NAME_seed1, NAME_seed2 ..."""
    label: str | None = None
    """What tables and page call it; by default its name."""
    group: str = "methods"
    """Methods of one group are shown together."""

    @model_validator(mode="after")
    def _seeds_of_trained(self) -> "MethodEntry":
        if self.seeds > 1 and self.weights != "trained":
            raise ValueError(f"{self.seeds} seeds of weights that are {self.weights}, which have one")
        return self


class RealScan(_Strict):
    """A real scan, to which the noise of lower doses is added."""

    path: str
    """DICOM folder, or NIfTI with JSON sidecar; a relative path is one below the folder of real scans."""
    scanner: str
    """Preset whose noise is inserted."""
    dose_reduction_factors: Factors
    seed: int = Field(ge=0)
    """Seed of the noise."""


class Samples(_Strict):
    """The images that the page shows of each method."""

    subject: int = Field(default=0, ge=0)
    """Number of the subject among those of images."""
    dose_reduction_factor: Factor | None = None
    """None is the middle one of those that the subject has."""


class Uncertainty(_Strict):
    """How the coverage of intervals is measured."""

    fitting: Source
    """Subjects that factors are fitted on."""
    testing: Source
    """Other subjects, that coverage is measured on."""
    n_draws: int = Field(default=8, ge=2)
    """Number of draws of a method that can be drawn from."""


class Definition(_Strict):
    """A benchmark; a part that is left out is not measured."""

    title: str
    limits: tuple[str, ...] = ()
    """Sentences on what the benchmark does not show."""
    reference: Name = "unipet"
    """The method that the others are compared with."""
    filters: tuple[Literal["gaussian", "nonlocal_means", "bm4d"], ...] = ("gaussian", "nonlocal_means")
    tuning: tuple[Source, ...] = ()
    """Subjects on which the settings of the filters are chosen, for each scanner and dose: others than are measured."""
    methods: Mapping[Name, MethodEntry]
    images: Mapping[Name, Source] = {}
    """Held-out subjects at doses that were trained on, by the name of their condition."""
    unseen: Mapping[Name, Source] = {}
    """Subjects of conditions outside of the training, by the name of the condition."""
    real: Mapping[Name, RealScan] = {}
    samples: Samples | None = None
    detection: Mapping[str, Any] | None = None
    """Settings of the study of detection, those of `pipeline.simulation.lesion_pairs.LesionPairs`."""
    phantom: Mapping[str, Any] | None = None
    """Settings of the phantom."""
    uncertainty: Uncertainty | None = None
    cost: bool = True
    """Whether time, memory and size are measured, on the subject and dose of the samples."""

    @model_validator(mode="after")
    def _fits_together(self) -> "Definition":
        if not self.methods:
            raise ValueError("methods: none is named")
        if self.reference not in self.methods:
            raise ValueError(f"reference: {self.reference} is not among the methods")
        if taken := sorted({"input", *FILTERS} & set(self.methods)):
            raise ValueError(f"methods: {taken[0]} is the name of a competitor, which every benchmark has")
        if twice := sorted(set(self.images) & set(self.unseen)):
            raise ValueError(f"unseen: {twice[0]} is a condition of images too")
        if self.samples is not None and not self.images:
            raise ValueError("samples: there is no subject of images to show")
        return self

    @property
    def names(self) -> list[str]:
        """Names that can be asked for, in the order of the tables: input, filters, methods."""
        return ["input", *self.filters, *self.methods]

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts that are measured."""
        missing = {name for name in PARTS if not getattr(self, name)}
        return tuple(name for name in PARTS if name not in missing and (name != "cost" or self.samples is not None))


def read_definition(path: str | Path) -> Definition:
    """Read a benchmark from a YAML file; paths in it are relative to its folder.

    A manifest, a recipe or a folder of simulated subjects is the benchmark that comes along on these subjects instead:
    its methods on the split ``test``, its filters tuned on the split ``validation``, the shipped weights the reference.
    Without subjects to tune on, such as in a folder, there are no filters.

    Raises
    ------
    PETError
        If the file cannot be read, is no benchmark, or names a manifest that does not exist.
    """
    place = Path(path)
    if place.is_dir():
        return _on_subjects(place, None)
    content = read_yaml(place)
    if isinstance(content, dict) and "layout" in content:
        return _on_subjects(place, validated(Manifest, content, place, expected="a manifest"))
    found = validated(Definition, content, place, expected="the definition of a benchmark or a manifest")

    def located(source: Source) -> Source:
        return source.model_copy(update={"manifest": _located(source.manifest, place)})

    def of_method(entry: MethodEntry) -> MethodEntry:
        own = (entry.method or "").endswith(".yaml")
        return entry.model_copy(update={"method": str(place.parent / str(entry.method))}) if own else entry

    judged = found.uncertainty
    if judged is not None:
        places = {"fitting": located(judged.fitting), "testing": located(judged.testing)}
        judged = judged.model_copy(update=places)
    return found.model_copy(
        update={
            "uncertainty": judged,
            "tuning": tuple(map(located, found.tuning)),
            "images": {name: located(source) for name, source in found.images.items()},
            "unseen": {name: located(source) for name, source in found.unseen.items()},
            "methods": {name: of_method(entry) for name, entry in found.methods.items()},
        }
    )


def _on_subjects(place: Path, manifest: Manifest | None) -> Definition:
    """Return the benchmark that comes along on the subjects of a manifest or recipe, or of a folder without one."""
    own, subjects = read_definition(own_definition()), Source(manifest=str(place))
    title, has_others = place.resolve().name, False
    if manifest is not None:
        cohorts = () if manifest.recipe is None else manifest.recipe.cohorts
        title = manifest.title
        has_others = bool(manifest.of_split("validation")) or any(c.split == "validation" for c in cohorts)
    tuning = (subjects.model_copy(update={"split": "validation"}),) if has_others else ()
    return Definition(
        title=f"Methods of low-dose PET denoising on {title}",
        limits=("Networks whose training drew on these subjects have seen what they are measured on.",),
        reference="shipped",
        filters=own.filters if tuning else (),
        tuning=tuning,
        methods=own.methods,
        images={"held_out": subjects},
        samples=Samples(),
    )


def study_from(kind: type[Study], settings: Mapping[str, Any], *, part: str) -> Study:
    """Return the study, a dataclass, that a part's settings describe; what they leave out is as in the dataclass.

    Raises
    ------
    PETError
        If a setting is not known or of the wrong kind; the message names the part.
    """
    known = [f.name for f in fields(cast(Any, kind))]
    if unknown := [name for name in settings if name not in known]:
        raise PETError(f"{part}: {unknown[0]} is not known, expected {', '.join(known)}")
    try:
        return TypeAdapter(kind).validate_python(dict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        raise PETError(f"{part}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def own_definition() -> Path:
    """Return the file of the benchmark that comes along with this package."""
    return own_bundle() / "configs" / "benchmark.yaml"


def _located(manifest: str, definition: Path) -> str:
    """Return the path of a manifest that is named, or lies relative to the definition."""
    if Path(manifest).name == manifest and not Path(manifest).suffix and not (definition.parent / manifest).exists():
        try:
            return own_manifest(manifest)
        except PETError as error:
            raise PETError(f"{definition}: {error}") from None
    found = definition.parent / manifest
    if not found.exists():
        raise PETError(f"{definition}: {manifest} does not exist, expected a manifest or a folder of subjects")
    return str(found)
