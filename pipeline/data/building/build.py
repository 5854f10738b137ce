"""From a folder of data to a manifest: find the sessions, look at their headers, split by patient."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from scipy.cluster.hierarchy import DisjointSet

from pipeline import __version__
from pipeline.data.building.exclusions import names_of
from pipeline.data.building.headers import read_session, reason_for
from pipeline.data.building.splits import check_fractions, split_of
from pipeline.data.layouts import LAYOUTS
from pipeline.data.layouts.found_session import FoundSession, identifier
from pipeline.data.manifest import (
    Exclusion,
    File,
    Image,
    LayoutName,
    Licence,
    Manifest,
    SplitRule,
    Subject,
    other_files,
)
from pipeline.data.store.fingerprints import content_sha256, files_of
from pipeline.engine import Workers, run_tasks
from pipeline.errors import PETError
from pipeline.pet.tracer_names import tracer_in

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
    jobs: Workers | int = 1,
    progress: Callable[[int, int], object] | None = None,
) -> Manifest:
    """Describe a folder of data: its subjects with split, doses, tracer, scanner and grid, and what is left out.

    All headers are read as reading the images will: milliseconds for a NIfTI volume, about two for each slice of DICOM.
    A subject that cannot be used never stops the others; it becomes an exclusion with the reason. Scans that share a
    patient or study identifier in DICOM count as one patient, and go to one split.

    `layout` says how the files lie, see `pipeline.data.layouts.LAYOUTS`; paths in the manifest are relative to `root`.
    `recipe` is a manifest without subjects, whose description and known exclusions are taken over; `exclusions` of the
    user are added. `fractions` are those of train, validation and test among the patients without a published split,
    and `seed` decides who is where. `units` are those of the voxels, where a layout does not publish them. `checksums`
    records the SHA-256 of every file or folder, which reads every byte once. `jobs` is the number of processes that
    read headers. `progress` is called with what is done and all there is: sessions, or bytes once checksums are taken.

    Raises
    ------
    PETError
        If the folder holds no session of this layout, or an argument is not usable.
    """
    root = Path(root)
    if not root.is_dir():
        raise PETError(f"{root}: no such folder")
    if seed < 0:
        raise PETError(f"seed is {seed}, expected 0 or more")
    rule = SplitRule(seed=seed, fractions=check_fractions(fractions))
    found = _found_sessions(layout, root, recipe, units)
    stated = (*(recipe.exclusions if recipe else ()), *exclusions)
    _warn_of_unused(stated, found)
    tasks = [partial(read_session, session, root, stated) for session in _with_distinct_ids(found)]
    read: dict[int, FoundSession] = {}
    for index, session in run_tasks(tasks, where=jobs):
        read[index] = session
        if progress is not None:
            progress(len(read), len(tasks))
    sessions = [read[index] for index in range(len(tasks))]
    subjects, unusable = _subjects(sessions, rule, root)
    if checksums:
        subjects, unreadable = _with_checksums(subjects, root, progress)
        unusable += unreadable
    logger.info("%s: %d subjects, %d sessions left out", root, len(subjects), len(sessions) - len(subjects))
    left_out = (exclusion for session in sessions for exclusion in session.left_out)
    return Manifest(
        **_description(recipe, root, layout),
        split_rule=rule if any(session.split is None for session in sessions) else None,
        subjects=tuple(subjects),
        exclusions=tuple(dict.fromkeys((*stated, *left_out, *unusable))),
    )


def _found_sessions(layout: LayoutName, root: Path, recipe: Manifest | None, units: str | None) -> list[FoundSession]:
    """Return the sessions of a layout by id; refuse a recipe or units that do not go with it, and no session at all."""
    if layout not in LAYOUTS:
        raise PETError(f"layout is {layout!r}, expected one of {', '.join(LAYOUTS)}")
    if recipe is not None and recipe.layout != layout:
        raise PETError(f"recipe {recipe.name} is of layout {recipe.layout}, expected {layout}")
    if units is not None and layout != "enhance_pet":
        raise PETError(f"units {units} were stated, but layout {layout} says itself what its units are")
    found = sorted(LAYOUTS[layout](root, units), key=lambda session: session.id)
    if not found:
        raise PETError(f"{root}: no session of layout {layout} found")
    return found


def _description(recipe: Manifest | None, root: Path, layout: LayoutName) -> dict[str, Any]:
    """Return what is known of the data set as a whole; without a recipe the user has to state it."""
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
    return {"name": name, "title": name, "layout": layout}


def _warn_of_unused(stated: Sequence[Exclusion], found: Sequence[FoundSession]) -> None:
    """Warn of a misspelled name, which would let a bad subject in; it may also be a part that is not here."""
    names = {name for session in found for name in names_of(session)}
    for exclusion in stated:
        if exclusion.subject not in names:
            logger.warning("exclusion of %r matches none of %d sessions", exclusion.subject, len(found))


def _with_distinct_ids(found: Sequence[FoundSession]) -> Iterator[FoundSession]:
    """Tell apart sessions whose names differ only in characters that an id may not have."""
    counts = Counter(session.id for session in found)
    for session in found:
        if counts[session.id] == 1:
            yield session
            continue
        what = session.images[0].path if session.images else session.name
        id_ = f"{session.id[:119]}-{hashlib.sha256(what.encode()).hexdigest()[:8]}"
        left_out = tuple(exclusion.model_copy(update={"subject": id_}) for exclusion in session.left_out)
        yield replace(session, id=id_, left_out=left_out)


def _subjects(sessions: Sequence[FoundSession], rule: SplitRule, root: Path) -> tuple[list[Subject], list[Exclusion]]:
    """Name the patient of every usable session, and its split."""
    usable = [session for session in sessions if session.header is not None]
    patients = _patients(usable)
    published = {patients[session.id]: session.split for session in usable if session.split is not None}
    subjects, unusable = [], []
    for session in usable:
        patient, header = patients[session.id], session.header
        assert header is not None
        try:
            subjects.append(
                Subject(
                    id=session.id,
                    patient=patient,
                    split=published.get(patient) or split_of(patient, seed=rule.seed, fractions=rule.fractions),
                    tracer=tracer_in(header.tracer) or session.tracer or header.tracer,
                    scanner=header.scanner or session.scanner,
                    shape=header.shape,
                    voxel_size=header.voxel_size,
                    images=tuple(sorted(session.images, key=_order_of_images)),
                    **other_files(session),
                )
            )
        except ValidationError as error:
            unusable.append(Exclusion(subject=session.id, reason=reason_for(error, root)))
    return subjects, unusable


def _order_of_images(image: Image) -> tuple[bool, str, float]:
    """Doses come first and rise, the other roles follow by name."""
    return image.role != "dose", image.role, image.dose_reduction_factor


def _patients(sessions: Sequence[FoundSession]) -> dict[str, str]:
    """Return the patient for each session's id: sessions that share a name or a DICOM identifier have one patient."""
    same = DisjointSet()
    for session in sessions:
        same.add(f"name {session.patient}")
        for identity in session.identities:
            same.add(f"of {identity}")
            same.merge(f"name {session.patient}", f"of {identity}")
    # The name that sorts first speaks for all.
    return {s.id: min(same.subset(f"name {s.patient}")).removeprefix("name ") for s in sessions}


def _with_checksums(
    subjects: Sequence[Subject], root: Path, progress: Callable[[int, int], object] | None
) -> tuple[list[Subject], list[Exclusion]]:
    """Add the SHA-256 of every file; a subject that cannot be read to the end is left out."""
    n_all = sum(f.stat().st_size for s in subjects for file in s.files() for f in files_of(root / file.path))
    n_done = 0

    def advance(n_bytes: int) -> None:
        nonlocal n_done
        n_done += n_bytes
        if progress is not None:
            progress(n_done, n_all)

    def hashed(file: AnyFile) -> AnyFile:
        return file.model_copy(update={"sha256": content_sha256(root / file.path, progress=advance)})

    complete, unreadable = [], []
    for subject in subjects:
        try:
            update: dict[str, Any] = {name: hashed(file) for name, file in other_files(subject).items()}
            update["images"] = tuple(hashed(image) for image in subject.images)
            complete.append(subject.model_copy(update=update))
        except PETError as error:
            unreadable.append(Exclusion(subject=subject.id, reason=reason_for(error, root)))
    return complete, unreadable
