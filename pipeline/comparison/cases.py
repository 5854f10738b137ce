"""The subjects to measure on or to tune on: those of a split of manifests, or of folders of simulated subjects."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.data import described_data, read_image
from pipeline.data.building.exclusions import without_excluded
from pipeline.data.manifest import Image, Role, Split, Subject
from pipeline.engine import Workers
from pipeline.errors import PETError
from pipeline.pet import PETSeries

__all__ = ["Case", "cases_of", "check_other_cases", "doses_of", "scanner_of"]

_REFERENCES: tuple[Role, ...] = ("full_repeat", "noise_free")


@dataclass(frozen=True)
class Case:
    """One subject, and where its files lie."""

    name: str
    """Its id, preceded by the name of its data set where there are several."""
    subject: Subject
    """What a manifest says of it."""
    root: Path
    """Folder that the paths of the subject are relative to."""

    @cached_property
    def doses(self) -> Mapping[float, Image]:
        """Dose reduction factor -> image of that dose, rising; without the full dose."""
        return {image.dose_reduction_factor: image for image in self.subject.low_dose}

    def read(self, image: Image) -> PETSeries:
        """Read one of the subject's images as SUVbw."""
        return read_image(image, self.root)

    def full_dose(self) -> PETSeries:
        """Read the image at full dose as SUVbw."""
        return self.read(self.subject.full_dose)


def cases_of(
    sources: Sequence[str | Path],
    *,
    split: Split,
    root: str | Path | None = None,
    simulated_root: str | Path | None = None,
    cohorts: Mapping[str, int] | None = None,
    jobs: Workers | int = 1,
    progress: Callable[[int, int], object] | None = None,
    n_subjects: int | None = None,
    factors: Sequence[float] | None = None,
) -> list[Case]:
    """Return the subjects of manifests and of folders of simulated subjects, less what the manifests exclude.

    `sources` are YAML manifests and recipes, of which the subjects of `split` are taken, and folders of simulated
    subjects, of which all are taken. `n_subjects` is the most to take of each source, the first ones, and `factors`
    leaves out other dose reduction factors; None takes all. The other arguments are those of
    `pipeline.data.described_data`.

    Raises
    ------
    PETError
        If there is no subject, a source cannot be read, two sources or subjects are the same, or only some of the
        subjects have an independent full-dose image or a noise-free one.
    """
    if not sources:
        raise PETError("nothing to measure on was given, expected a manifest or a folder of simulated subjects")
    names: dict[str, Path] = {}
    cases: list[Case] = []
    for path in map(Path, sources):
        manifest, folder = described_data(
            path,
            root=root,
            simulated_root=simulated_root,
            split=split,
            cohorts=cohorts,
            jobs=jobs,
            progress=progress,
        )
        name = folder.resolve().name if path.is_dir() else manifest.name
        if name in names:
            raise PETError(f"{path}: has the name of {names[name]}, expected data sets with different names")
        names[name] = path
        subjects = [s for s in without_excluded(manifest) if path.is_dir() or s.split == split]
        if not subjects:
            raise PETError(f"{path}: has no subject of split {split}, expected at least one")
        subjects = [_with_doses(s, factors) for s in subjects[:n_subjects]]
        cases += [Case(f"{name}/{s.id}" if len(sources) > 1 else s.id, s, folder) for s in subjects]
    if factors is not None and (absent := sorted(set(factors) - set(doses_of(cases)))):
        raise PETError(f"{sources[0]}: no subject has a scan of DRF {absent[0]:g}, expected one")
    check_other_cases(cases, [])
    for role in _REFERENCES:
        having = [case for case in cases if case.subject.image(role) is not None]
        if having and len(having) < len(cases):
            lacking = next(case for case in cases if case not in having)
            raise PETError(
                f"{lacking.name}: has no image {role} as {having[0].name} has, expected it of all or of none"
            )
    return cases


def _with_doses(subject: Subject, factors: Sequence[float] | None) -> Subject:
    """Return a subject without the low doses that are not asked for."""
    if factors is None:
        return subject
    kept = [i for i in subject.images if i.role != "dose" or i.dose_reduction_factor in (1, *factors)]
    return subject.model_copy(update={"images": tuple(kept)})


def check_other_cases(cases: Sequence[Case], others: Sequence[Case]) -> None:
    """Refuse subjects that are twice among all of them: what is tuned or given twice on one scan proves nothing.

    Raises
    ------
    PETError
        If two of them are the same image.
    """
    seen: dict[tuple[Path, str | int | None], str] = {}
    for case in (*cases, *others):
        full = case.subject.full_dose
        place = (case.root / full.path).resolve(), full.series
        if place in seen:
            raise PETError(
                f"{case.name}: is {seen[place]} once more, expected other subjects to measure and to tune on"
            )
        seen[place] = case.name


def doses_of(cases: Iterable[Case]) -> list[float]:
    """Return the dose reduction factors that one of the subjects has, rising."""
    return sorted({factor for case in cases for factor in case.doses})


def scanner_of(series: PETSeries) -> str:
    """Return manufacturer, model and voxels of a scan: what a filter is tuned for, and results are listed by."""
    name = f"{series.header.manufacturer or ''} {series.header.model_name or ''}".strip() or "unknown scanner"
    return f"{name}, {' x '.join(f'{size:.3g}' for size in series.voxel_size)} mm"
