"""BIDS-PET: ``sub-*/[ses-*/]pet/*_pet.nii.gz`` with JSON files, weight and sex in ``participants.tsv`` if need be.

Sources: Brain Imaging Data Structure, modality PET (Norgaard et al. 2022) and the inheritance principle.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.data.layouts.found_session import Candidate, identifier, relative
from pipeline.data.manifest import Exclusion, File, Image
from pipeline.errors import PETError
from pipeline.pet.sidecar import number_in

__all__ = ["find_bids_pet"]

_IMAGE = re.compile(r"(sub-[A-Za-z0-9]+)((?:_[a-z]+-[A-Za-z0-9]+)*)_pet\.nii(?:\.gz)?")
_LOW_DOSE = re.compile(r"drf(\d+)(?:p(\d+))?")


def find_bids_pet(root: Path, units: str | None) -> Iterator[Candidate]:
    """Find the PET images of every subject and session.

    A session's images are told apart by DoseReductionFactor in the JSON, or by ``rec-drf010`` and ``rec-full`` in the
    name. An image that says neither is of full dose if it is the only one of its session.
    """
    sessions: dict[tuple[str, ...], list[Path]] = {}
    for path in sorted(root.rglob("sub-*_pet.nii*")):
        if path.parent.name == "pet" and _IMAGE.fullmatch(path.name) and "derivatives" not in path.parts:
            session = tuple(part for part in path.parent.relative_to(root).parts if part != "pet")
            sessions.setdefault(session, []).append(path)
    people = _participants(root)
    for session in sorted(sessions):
        yield _candidate(session, sessions[session], people, root)


def _candidate(
    session: tuple[str, ...], paths: list[Path], people: Mapping[str, Mapping[str, Any]], root: Path
) -> Candidate:
    id_ = identifier(*session)
    patient = next((part for part in session if part.startswith("sub-")), session[-1] if session else root.name)
    images: dict[float, Image] = {}
    left_out: list[Exclusion] = []
    for path in paths:
        try:
            inherited, beside = _inherited(path, root)
            sidecar = {**people.get(patient, {}), **inherited}
            factor = _factor(path, sidecar, is_alone=len(paths) == 1)
            if factor in images:
                raise PETError(f"a second image of dose reduction factor {factor:g}, expected one per session")
            image = Image(
                path=relative(path, root),
                dose_reduction_factor=factor,
                sidecar=None if sidecar == beside else sidecar,
            )
            images[factor] = image
        except (PETError, ValueError) as error:
            left_out.append(Exclusion(subject=id_, path=relative(path, root), reason=" ".join(str(error).split())))
    if 1.0 not in images:
        left_out.append(Exclusion(subject=id_, reason=f"no image of the full dose among {len(paths)}"))
    return Candidate(
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
    return File(path=relative(found[0], root)) if len(found) == 1 else None


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


def _inherited(path: Path, root: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keys of every JSON file that applies to an image, the nearest one winning, and those of the one beside it."""
    entities = set(path.name.split("_pet.nii")[0].split("_"))
    folders = [folder for folder in (path.parent, *path.parent.parents) if folder == root or root in folder.parents]
    merged: dict[str, Any] = {}
    beside: dict[str, Any] = {}
    for folder in reversed(folders):
        applying = [file for file in folder.glob("*pet.json") if _entities(file) <= entities]
        for file in sorted(applying, key=lambda file: len(_entities(file))):
            try:
                content = json.loads(file.read_text(encoding="utf-8"))
            except ValueError as error:
                raise PETError(f"{file.name} is not JSON ({error})") from error
            if not isinstance(content, dict):
                raise PETError(f"{file.name} holds no keys, expected a JSON object")
            content = {key: value for key, value in content.items() if value is not None}
            merged |= content
            if file.name == path.name.split(".nii")[0] + ".json":
                beside = content
    return merged, beside


def _entities(file: Path) -> set[str]:
    return set(file.name.removesuffix("pet.json").rstrip("_").split("_")) - {""}


_COLUMNS = {
    "weight": ("BodyWeight", {"kg", "kilogram", "kilograms"}),
    "height": ("BodyHeight", {"m", "metre", "meter"}),
}


def _participants(root: Path) -> dict[str, dict[str, Any]]:
    """Weight [kg] and height [m] by participant, where ``participants.json`` states the unit; and sex."""
    table, described = root / "participants.tsv", root / "participants.json"
    if not table.is_file():
        return {}
    try:
        units = json.loads(described.read_text(encoding="utf-8")) if described.is_file() else {}
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (ValueError, csv.Error) as error:
        raise PETError(f"{table}: participants.tsv or participants.json cannot be read ({error})") from error
    people: dict[str, dict[str, Any]] = {}
    for row in rows:
        known: dict[str, Any] = {}
        for column, (key, names) in _COLUMNS.items():
            unit = units.get(column, {}).get("Units", "") if isinstance(units.get(column), dict) else ""
            # A weight of unknown unit is left out, never guessed.
            if str(unit).lower() in names and (value := _number(row.get(column))) is not None:
                known[key] = value
        if sex := (row.get("sex") or "").strip():
            known["Sex"] = sex
        people[(row.get("participant_id") or "").strip()] = known
    return people


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
