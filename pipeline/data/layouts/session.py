"""One session of a data set: what its headers say, and what of it cannot be used."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.data.building.exclusions import names_of
from pipeline.data.building.image_header import ImageHeader, read_grid, read_image_header
from pipeline.data.building.tracer_names import tracer_conflict
from pipeline.data.layouts import Candidate
from pipeline.data.manifest import Exclusion, Image, first_mistake
from pipeline.errors import PETError, one_line, reason_of

__all__ = ["Session", "read_session", "reason_for"]


@dataclass
class Session:
    """A session after a look at its headers."""

    candidate: Candidate
    """What of it can be used."""
    header: ImageHeader | None = None
    """Of the full-dose image; None if the session is excluded."""
    left_out: list[Exclusion] = field(default_factory=list)
    """What cannot."""
    identities: frozenset[str] = frozenset()
    """Digests of what tells the patient in DICOM."""


def read_session(candidate: Candidate, root: Path, stated: Sequence[Exclusion]) -> Session:
    """Read the headers of a session; what cannot be used is left out with its reason.

    Parameters
    ----------
    candidate
        The session as its layout found it.
    root
        Folder of the data.
    stated
        Exclusions of the data set and the user, also about other sessions.
    """
    names = names_of(candidate)
    mine = [exclusion for exclusion in stated if exclusion.subject in names]
    session = Session(candidate, left_out=list(candidate.left_out))
    if any(exclusion.is_whole for exclusion in (*mine, *candidate.left_out)):
        return session
    factors = {exclusion.dose_reduction_factor for exclusion in mine}
    paths = {exclusion.path for exclusion in mine}
    wanted = tuple(
        image
        for image in candidate.images
        if image.path not in paths and not (image.role == "dose" and image.dose_reduction_factor in factors)
    )
    session.candidate = replace(candidate, images=wanted)
    try:
        _read_headers(session, root)
    except Exception as error:  # whatever is wrong with one subject, the others are looked at
        session.header = None
        session.left_out.append(Exclusion(subject=candidate.id, reason=reason_for(error, root)))
    return session


def _read_headers(session: Session, root: Path) -> None:
    """Set the session's header, and drop the images and labels that do not go with its full dose.

    Raises
    ------
    PETError
        If there is no usable full dose, or the tracer is not what the session is labelled with.
    """
    candidate = session.candidate
    is_full = {image.path: image.role == "dose" and image.dose_reduction_factor == 1 for image in candidate.images}
    full = next((image for image in candidate.images if is_full[image.path]), None)
    if full is None:
        raise PETError("the image of full dose is excluded")
    reference = read_image_header(root / full.path, sidecar=full.sidecar)
    kept: list[Image] = []
    for image in candidate.images:
        try:
            header = reference if image is full else read_image_header(root / image.path, sidecar=image.sidecar)
            if difference := reference.unlike(header):
                raise PETError(difference)
        except PETError as error:
            if image is full:
                raise
            reason = reason_for(error, root)
            session.left_out.append(Exclusion(subject=candidate.id, path=image.path, reason=reason))
            continue
        if conflict := tracer_conflict(
            label=header.tracer, nuclide=header.nuclide, half_life=header.half_life, expected=candidate.tracer
        ):
            raise PETError(f"{image.path}: {conflict}")
        session.identities |= header.identities
        kept.append(image)
    labels: dict[str, Any] = {}
    for name in ("lesions", "organs", "attenuation"):
        file = getattr(candidate, name)
        if file is None:
            continue
        try:
            if difference := reference.unlike(read_grid(root / file.path)):
                raise PETError(difference)
        except PETError as error:
            labels[name] = None
            reason = reason_for(error, root)
            session.left_out.append(Exclusion(subject=candidate.id, path=file.path, reason=reason))
    session.candidate = replace(candidate, images=tuple(kept), **labels)
    session.header = reference


def reason_for(error: Exception, root: Path) -> str:
    """Return an error in one line, without the place of the data on this machine."""
    if isinstance(error, ValidationError):
        return first_mistake(error)
    text = str(error) if isinstance(error, PETError) else f"{type(error).__name__}: {reason_of(error)}"
    return one_line(text.replace(f"{root}{os.sep}", ""))
