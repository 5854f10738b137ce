"""From a folder of data to a manifest: find the sessions, look at their headers, split by patient."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from pipeline import __version__
from pipeline.data.building.exclusions import names_of
from pipeline.data.building.splits import check_fractions, split_of
from pipeline.data.building.tracer_names import tracer_in
from pipeline.data.layouts import Candidate, layout_named
from pipeline.data.layouts.found_session import identifier
from pipeline.data.layouts.session import Session, read_session, reason_for
from pipeline.data.manifest import (
    Exclusion,
    File,
    LayoutName,
    Licence,
    Manifest,
    Split,
    SplitRule,
    Subject,
)
from pipeline.data.store.checksums import content_sha256
from pipeline.errors import PETError

__all__ = ["build_manifest"]

logger = logging.getLogger(__name__)

AnyFile = TypeVar("AnyFile", bound=File)


def build_manifest(
    layout: LayoutName,
    root: str | Path,
    *,
    recipe: Manifest | None = None,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    exclusions: Iterable[Exclusion] = (),
    units: str | None = None,
    checksums: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> Manifest:
    """Describe a folder of data: its subjects with split, doses, tracer, scanner and grid, and what is left out.

    One header per image is read, a few milliseconds each. A subject that cannot be used never stops the others; it
    becomes an exclusion with the reason. Scans that share a patient or study identifier in DICOM count as one
    patient, and go to one split.

    Parameters
    ----------
    layout
        How the files lie, see `pipeline.data.layouts.LAYOUTS`.
    root
        Folder of the data; paths in the manifest are relative to it.
    recipe
        Manifest without subjects that says what the data set is: name, source, licence, notes and known exclusions
        are taken from it.
    fractions
        Of train, validation and test among the patients without a published split.
    seed
        Another seed, another split.
    exclusions
        Of the user, added to those of the recipe.
    units
        Of the voxels, where a layout does not publish them.
    checksums
        Also record the SHA-256 of every file or folder: reads every byte once.
    progress
        Called with what is done and all there is: sessions, or bytes once checksums are taken.

    Raises
    ------
    PETError
        If the folder holds no session of this layout, or an argument is not usable.
    """
    root = Path(root)
    if not root.is_dir():
        raise PETError(f"{root}: no such folder")
    rule = SplitRule(seed=_checked_seed(seed), fractions=check_fractions(fractions))
    find = layout_named(layout)
    if recipe is not None and recipe.layout != layout:
        raise PETError(f"recipe {recipe.name} is of layout {recipe.layout}, expected {layout}")
    if units is not None and layout != "enhance_pet":
        raise PETError(f"units {units} were stated, but layout {layout} says itself what its units are")
    stated = (*(recipe.exclusions if recipe else ()), *exclusions)
    candidates = sorted(find(root, units), key=lambda candidate: candidate.id)
    if not candidates:
        raise PETError(f"{root}: no session of layout {layout} found")
    _warn_of_unused(stated, candidates)
    sessions = []
    for n_done, candidate in enumerate(_with_distinct_ids(candidates), start=1):
        sessions.append(read_session(candidate, root, stated))
        if progress is not None:
            progress(n_done, len(candidates))
    subjects = _subjects(sessions, rule, root)
    if checksums:
        subjects = _with_checksums(subjects, sessions, root, progress)
    logger.info("%s: %d subjects, %d sessions left out", root, len(subjects), len(candidates) - len(subjects))
    left_out = (exclusion for session in sessions for exclusion in session.left_out)
    return Manifest(
        **_description(recipe, root, layout),
        split_rule=rule if any(session.candidate.split is None for session in sessions) else None,
        subjects=tuple(subjects),
        exclusions=tuple(dict.fromkeys((*stated, *left_out))),
    )


def _checked_seed(seed: int) -> int:
    if seed < 0:
        raise PETError(f"seed is {seed}, expected 0 or more")
    return seed


def _description(recipe: Manifest | None, root: Path, layout: LayoutName) -> dict[str, Any]:
    """What a manifest says of the data set as a whole; without a recipe the user has to fill it in."""
    if recipe is not None:
        return {
            name: getattr(recipe, name)
            for name in ("name", "title", "source", "how_to_get", "licence", "layout", "notes", "recipe")
        }
    name = identifier(root.resolve().name)
    if layout == "simulated":
        return {
            "name": name,
            "title": "Simulated whole-body PET at several doses",
            "source": f"Simulated by unipet_3d {__version__}.",
            "how_to_get": "Every subject is made again from the request in its simulation.json, with the same bytes.",
            "licence": Licence(
                name="Apache-2.0",
                url="https://www.apache.org/licenses/LICENSE-2.0",
                allows="Everything that the licence of this package allows.",
                commercial_use=True,
            ),
            "layout": layout,
        }
    empty = {"source": "", "how_to_get": "", "licence": Licence(name="", allows="")}
    return {"name": name, "title": name, "layout": layout, **empty}


def _warn_of_unused(stated: Sequence[Exclusion], candidates: Sequence[Candidate]) -> None:
    """A misspelled name would let a bad subject in; a part of the data may be absent, so this is no error."""
    names = {name for candidate in candidates for name in names_of(candidate)}
    for exclusion in stated:
        if exclusion.subject not in names:
            logger.warning("exclusion of %r matches none of %d sessions", exclusion.subject, len(candidates))


def _with_distinct_ids(candidates: Sequence[Candidate]) -> Iterator[Candidate]:
    """Tell apart sessions whose names differ only in characters that an id may not have."""
    counts = Counter(candidate.id for candidate in candidates)
    for candidate in candidates:
        if counts[candidate.id] == 1:
            yield candidate
            continue
        what = candidate.images[0].path if candidate.images else candidate.name
        id_ = f"{candidate.id[:119]}-{hashlib.sha256(what.encode()).hexdigest()[:8]}"
        left_out = tuple(exclusion.model_copy(update={"subject": id_}) for exclusion in candidate.left_out)
        yield replace(candidate, id=id_, left_out=left_out)


def _subjects(sessions: Sequence[Session], rule: SplitRule, root: Path) -> list[Subject]:
    """Name the patient of every usable session, and its split."""
    usable = [(session, session.header) for session in sessions if session.header is not None]
    patients = _patients([session for session, _ in usable])
    published: dict[str, Split] = {}
    for session, _ in usable:
        if session.candidate.split is not None:
            published[patients[session.candidate.id]] = session.candidate.split
    subjects = []
    for session, header in usable:
        candidate = session.candidate
        patient = patients[candidate.id]
        try:
            subject = Subject(
                id=candidate.id,
                patient=patient,
                split=published.get(patient) or split_of(patient, seed=rule.seed, fractions=rule.fractions),
                tracer=tracer_in(header.tracer) or candidate.tracer or header.tracer,
                scanner=header.scanner or candidate.scanner,
                shape=header.shape,
                voxel_size=header.voxel_size,
                images=tuple(
                    sorted(candidate.images, key=lambda i: (i.role != "dose", i.role, i.dose_reduction_factor))
                ),
                lesions=candidate.lesions,
                organs=candidate.organs,
                attenuation=candidate.attenuation,
                ct=candidate.ct,
            )
        except ValidationError as error:
            session.left_out.append(Exclusion(subject=candidate.id, reason=reason_for(error, root)))
            continue
        subjects.append(subject)
    return subjects


def _patients(sessions: Sequence[Session]) -> dict[str, str]:
    """Patient of each session's id: those that share a name, or an identifier in DICOM, are one."""
    parent: dict[str, str] = {}

    def root_of(key: str) -> str:
        while parent.setdefault(key, key) != key:
            key = parent[key]
        return key

    for session in sessions:
        for other in session.identities:
            # The name that sorts first speaks for all.
            first, second = sorted((root_of(f"name {session.candidate.patient}"), root_of(f"of {other}")))
            parent[second] = first
    return {
        session.candidate.id: root_of(f"name {session.candidate.patient}").removeprefix("name ") for session in sessions
    }


def _with_checksums(
    subjects: Sequence[Subject],
    sessions: Sequence[Session],
    root: Path,
    progress: Callable[[int, int], object] | None,
) -> list[Subject]:
    """Add the SHA-256 of every file; a subject that cannot be read to the end is left out."""
    left_out = {session.candidate.id: session.left_out for session in sessions}
    n_all = sum(_n_bytes(root / file.path) for subject in subjects for file in subject.files())
    n_done = 0

    def advance(n_bytes: int) -> None:
        nonlocal n_done
        n_done += n_bytes
        if progress is not None:
            progress(n_done, n_all)

    def hashed(file: AnyFile) -> AnyFile:
        return file.model_copy(update={"sha256": content_sha256(root / file.path, progress=advance)})

    complete = []
    for subject in subjects:
        try:
            files = {name: getattr(subject, name) for name in ("lesions", "organs", "attenuation", "ct")}
            update: dict[str, Any] = {name: hashed(file) for name, file in files.items() if file is not None}
            update["images"] = tuple(hashed(image) for image in subject.images)
        except PETError as error:
            left_out[subject.id].append(Exclusion(subject=subject.id, reason=reason_for(error, root)))
            continue
        complete.append(subject.model_copy(update=update))
    return complete


def _n_bytes(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
