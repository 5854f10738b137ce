"""What must not be used: a user's list, and whom an exclusion means."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from pipeline.data.layouts.found_session import FoundSession
from pipeline.data.manifest import Exclusion, File, Image, Manifest, Subject, other_files, validated
from pipeline.files import read_yaml

__all__ = ["excluded_of", "names_of", "read_exclusions", "without_excluded"]


def read_exclusions(path: str | Path) -> tuple[Exclusion, ...]:
    """Read a YAML list of exclusions, each with ``subject``, ``reason`` and perhaps ``dose_reduction_factor``.

    Raises
    ------
    PETError
        If the file is not such a list.
    """
    content = read_yaml(Path(path))
    if isinstance(content, dict) and set(content) == {"exclusions"}:
        content = content["exclusions"]
    return validated(tuple[Exclusion, ...], content or [], path, expected="a list of exclusions")


def names_of(subject: Subject | FoundSession) -> frozenset[str]:
    """Return what an exclusion may call a subject: its id, its case, or one of its folders."""
    names = {subject.id} if isinstance(subject, Subject) else {subject.id, subject.name}
    for image in subject.images:
        names.update(PurePosixPath(image.path).parts[:-1])
    return frozenset(names)


def excluded_of(files: Iterable[File], exclusions: Collection[Exclusion]) -> set[str]:
    """Return the places of those files of a subject that its exclusions mean, by path or as the scan of a dose."""
    paths = {exclusion.path for exclusion in exclusions}
    factors = {exclusion.dose_reduction_factor for exclusion in exclusions if exclusion.path is None}
    return {
        file.place
        for file in files
        if file.path in paths
        or (isinstance(file, Image) and file.role == "dose" and file.dose_reduction_factor in factors)
    }


def without_excluded(manifest: Manifest) -> tuple[Subject, ...]:
    """Return the subjects of a manifest less what it excludes: whole subjects, single images, labels and maps.

    A subject whose full dose is excluded is left out.
    """
    by_name: dict[str, list[Exclusion]] = defaultdict(list)
    for exclusion in manifest.exclusions:
        by_name[exclusion.subject].append(exclusion)
    kept = []
    for subject in manifest.subjects:
        stated = [exclusion for name in names_of(subject) for exclusion in by_name.get(name, ())]
        gone = excluded_of(subject.files(), stated)
        if any(exclusion.is_whole for exclusion in stated) or subject.full_dose.place in gone:
            continue
        images = tuple(image for image in subject.images if image.place not in gone)
        without = {name: None for name, file in other_files(subject).items() if file.place in gone}
        kept.append(subject.model_copy(update={"images": images, **without}))
    return tuple(kept)
