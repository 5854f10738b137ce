"""Check a manifest against its data: leaks between splits, missing files, unlike grids, wrong doses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from pipeline.data.building.exclusions import excluded_of, names_of
from pipeline.data.checking.finding import Problem
from pipeline.data.checking.images import check_images, shared_identities
from pipeline.data.manifest import Manifest, Subject
from pipeline.data.store.fingerprints import content_sha256
from pipeline.errors import PETError

__all__ = ["Level", "check_manifest"]

Level = Literal["files", "headers", "voxels"]


def check_manifest(
    manifest: Manifest,
    root: str | Path,
    *,
    level: Level = "headers",
    checksums: bool | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> list[Problem]:
    """Return what is wrong with a data set, an empty list if nothing is; one bad subject never stops the others.

    Parameters
    ----------
    manifest
        With subjects; of a recipe only the description is checked.
    root
        Folder that its paths are relative to.
    level
        ``"files"``: description, leaks by patient and checksum, missing files, exclusions that are used; at once.
        ``"headers"``: also grids, tracers, and leaks by identifiers in DICOM; milliseconds per NIfTI file, a second
        per DICOM series. ``"voxels"``: also whether noise rises with the dose reduction factor and the mean stays;
        every image is read.
    checksums
        Whether to compare the recorded SHA-256 of every file, which reads every byte; None does so at ``"voxels"``.
    progress
        Called with the number of subjects done and of all after each.

    Raises
    ------
    PETError
        If the level is unknown, or the folder does not exist.
    """
    root = Path(root)
    if level not in ("files", "headers", "voxels"):
        raise PETError(f"level is {level!r}, expected files, headers or voxels")
    if manifest.subjects and not root.is_dir():
        raise PETError(f"{root}: no such folder")
    contents = {image.path: image.sha256 for subject in manifest.subjects for image in subject.images}
    if level == "voxels":
        # What is read anyway is compared, too: a copy of an image in another split has another name.
        for path in (path for path, sha256 in contents.items() if sha256 is None and (root / path).exists()):
            contents[path] = content_sha256(root / path)
    problems = [*_description(manifest), *_leaks(manifest, contents), *_used_exclusions(manifest)]
    with_checksums = level == "voxels" if checksums is None else checksums
    identities: dict[str, set[str]] = {}
    for n_done, subject in enumerate(manifest.subjects, start=1):
        missing = {file.path for file in subject.files() if not (root / file.path).exists()}
        problems += [Problem("missing", subject.id, path, "is not there") for path in sorted(missing)]
        if with_checksums:
            for file in subject.files():
                if file.sha256 is not None and file.path not in missing:
                    problems += _changed(subject.id, file.path, file.sha256, root)
        if level != "files":
            found, identities[subject.id] = check_images(subject, root, without=missing, with_voxels=level == "voxels")
            problems += found
        if progress is not None:
            progress(n_done, len(manifest.subjects))
    problems += shared_identities(manifest, identities)
    return problems


def _description(manifest: Manifest) -> Iterator[Problem]:
    stated = {
        "source": manifest.source,
        "how_to_get": manifest.how_to_get,
        "licence.name": manifest.licence.name,
        "licence.allows": manifest.licence.allows,
    }
    for name, value in stated.items():
        if not value:
            yield Problem("licence", "", "", f"{name} is empty, expected what its source says")


def _leaks(manifest: Manifest, contents: Mapping[str, str | None]) -> Iterator[Problem]:
    """Find patients, files and contents that are in more than one split, or in more than one subject."""
    splits: dict[str, dict[str, str]] = defaultdict(dict)
    for subject in manifest.subjects:
        splits[subject.patient].setdefault(subject.split, subject.id)
    for by_split in splits.values():
        if len(by_split) > 1:
            where = " and ".join(f"{id_} in {split}" for split, id_ in by_split.items())
            yield Problem("leak", next(iter(by_split.values())), "", f"one patient in {len(by_split)} splits: {where}")
    seen: dict[str, tuple[str, str, str]] = {}
    for subject in manifest.subjects:
        for image in subject.images:
            # Of labels many are equal: those without a lesion.
            sha256 = contents[image.path]
            # Of a study that holds several images the content is that of all.
            for key in filter(None, (image.place, sha256 and image.place.replace(image.path, sha256, 1))):
                if key not in seen:
                    seen[key] = subject.id, subject.split, image.place
                    continue
                other, split, path = seen[key]
                is_leak = split != subject.split
                what = f"the same file as {other} in {split}" if key == image.place else f"the same content as {path}"
                detail = f"{what} of {other} in {split}" if key != image.place else what
                yield Problem("leak" if is_leak else "duplicate", subject.id, image.place, detail)
                break


def _used_exclusions(manifest: Manifest) -> Iterator[Problem]:
    named: dict[str, list[Subject]] = defaultdict(list)
    for subject in manifest.subjects:
        for name in names_of(subject):
            named[name].append(subject)
    for exclusion in manifest.exclusions:
        for subject in named.get(exclusion.subject, ()):
            if exclusion.is_whole:
                yield Problem("exclusion", subject.id, "", f"is excluded ({exclusion.reason}), but listed as a subject")
                continue
            for path in sorted(excluded_of(subject.files(), [exclusion])):
                yield Problem("exclusion", subject.id, path, f"is excluded ({exclusion.reason}), but listed")


def _changed(subject: str, path: str, expected: str, root: Path) -> list[Problem]:
    try:
        found = content_sha256(root / path)
    except PETError as error:
        return [Problem("checksum", subject, path, str(error))]
    if found == expected:
        return []
    return [Problem("checksum", subject, path, f"SHA-256 is {found[:12]}..., expected {expected[:12]}...")]
