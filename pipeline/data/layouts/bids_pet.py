"""BIDS-PET: ``sub-*/[ses-*/]pet/*_pet.nii.gz`` with JSON files, weight and sex in ``participants.tsv`` if need be.

Sources: Brain Imaging Data Structure, modality PET (Norgaard et al. 2022) and the inheritance principle.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.data.layouts.found_session import FoundSession, file_at, files_below, identifier, relative
from pipeline.data.manifest import Exclusion, File, Image
from pipeline.errors import PETError
from pipeline.pet.nifti import read_sidecar
from pipeline.pet.sidecar import number_in

__all__ = ["find_bids_pet"]

_IMAGE = re.compile(r"(sub-[A-Za-z0-9]+)((?:_[a-z]+-[A-Za-z0-9]+)*)_pet\.nii(?:\.gz)?")
_LOW_DOSE = re.compile(r"drf(\d+)(?:p(\d+))?")


def find_bids_pet(root: Path, units: str | None) -> Iterator[FoundSession]:
    """Find the PET images of every subject and session.

    A session's images are told apart by DoseReductionFactor in the JSON, or by ``rec-drf010`` and ``rec-full`` in the
    name. An image that says neither is of full dose if it is the only one of its session.
    """
    sessions: dict[tuple[str, ...], list[Path]] = {}
    for path in files_below(root, "sub-*_pet.nii*"):
        if path.parent.name == "pet" and _IMAGE.fullmatch(path.name) and "derivatives" not in path.parts:
            session = tuple(part for part in path.parent.relative_to(root).parts if part != "pet")
            sessions.setdefault(session, []).append(path)
    for session in sorted(sessions):
        yield _session(session, sessions[session], root)


def _session(session: tuple[str, ...], paths: list[Path], root: Path) -> FoundSession:
    id_ = identifier(*session)
    patient = next((part for part in session if part.startswith("sub-")), session[-1] if session else root.name)
    images: dict[float, Image] = {}
    left_out: list[Exclusion] = []
    for path in paths:
        try:
            factor = _factor(path, read_sidecar(path), is_alone=len(paths) == 1)
            if factor in images:
                raise PETError(f"a second image of dose reduction factor {factor:g}, expected one per session")
            images[factor] = Image(path=relative(path, root), dose_reduction_factor=factor)
        except (PETError, ValueError) as error:
            left_out.append(Exclusion(subject=id_, path=relative(path, root), reason=" ".join(str(error).split())))
    if 1.0 not in images:
        left_out.append(Exclusion(subject=id_, reason=f"no image of the full dose among {len(paths)}"))
    return FoundSession(
        id=id_,
        name=session[-1] if session else root.name,
        patient=patient,
        images=tuple(images[factor] for factor in sorted(images)),
        lesions=_labels(paths[0].parent, "*_desc-lesions_mask.nii.gz", root),
        organs=_labels(paths[0].parent, "*_dseg.nii.gz", root),
        left_out=tuple(left_out),
    )


def _labels(folder: Path, pattern: str, root: Path) -> File | None:
    found = sorted(folder.glob(pattern))
    return file_at(found[0], root) if len(found) == 1 else None


def _factor(path: Path, sidecar: Mapping[str, Any], *, is_alone: bool) -> float:
    stated = number_in(sidecar, "DoseReductionFactor", positive=True)
    named = re.search(r"_rec-([A-Za-z0-9]+)", path.name)
    low = _LOW_DOSE.fullmatch(named[1]) if named else None
    if stated is not None:
        return stated
    if low:
        return float(f"{int(low[1])}.{low[2] or 0}")
    if is_alone or (named and named[1] == "full"):
        return 1.0
    raise PETError("dose reduction factor is stated neither in the JSON nor in the name, expected it of several images")
