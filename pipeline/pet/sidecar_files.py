"""Which files describe a volume: the JSON file beside it, those that BIDS lets it inherit, the participants' table."""

import csv
import json
import re
from pathlib import Path
from typing import Any

from pipeline.errors import PETError, naming
from pipeline.pet.sidecar import DICOM_NAMES
from pipeline.pet.volumes import sidecar_path_of

__all__ = ["files_of_sidecar", "read_sidecar", "sidecar_files"]


def _json_object(file: Path) -> dict[str, Any]:
    """Return the keys of a JSON file that are not null."""

    def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            names = [name for name, _ in pairs]
            raise PETError(f"{next(name for name in names if names.count(name) > 1)} stands twice, expected it once")
        return content

    with naming(f"sidecar {file.name}"):
        try:
            # Given bytes, json finds the encoding itself, with or without a byte order mark.
            content = json.loads(file.read_bytes(), object_pairs_hook=without_doubles)
            json.dumps(content, ensure_ascii=False).encode()
        except PETError:
            raise
        except UnicodeEncodeError as error:
            raise PETError("holds half a surrogate pair, which is no text of Unicode") from error
        except (ValueError, RecursionError) as error:
            raise PETError(f"is not JSON ({error})") from error
        if not isinstance(content, dict):
            raise PETError(f"holds a {type(content).__name__}, expected an object")
    return {key: value for key, value in content.items() if value is not None}


def _entities(stem: str) -> set[str]:
    return set(stem.split("_")) - {"", "pet"}


def sidecar_files(path: Path) -> list[Path]:
    """Return the JSON files that apply to a NIfTI volume, the nearest last; none if there is none.

    Beside the file of the same stem these are, for a BIDS name, those that the inheritance principle names: files
    ``*pet.json`` between the folder of the image and that which holds the ``sub-`` folder, whose entities the image
    has, too.
    """
    beside = sidecar_path_of(path)
    stem = beside.stem
    files = []
    if stem.startswith("sub-") and stem.endswith("_pet"):
        for folder in reversed(_folders_of_subject(path, stem)):
            applying = [file for file in folder.glob("*pet.json") if _entities(file.stem) <= _entities(stem)]
            files += sorted(applying, key=lambda file: (len(_entities(file.stem)), file.name))
    return [file for file in files if file != beside] + ([beside] if beside.is_file() else [])


def _folders_of_subject(path: Path, stem: str) -> list[Path]:
    """Return the folders from that of an image to the root of its data set, or its own alone outside of BIDS."""
    folders = [path.parent, *path.parent.parents]
    named = [k for k, folder in enumerate(folders) if folder.name == stem.partition("_")[0]]
    return folders[: named[0] + 2] if named else folders[:1]


def read_sidecar(path: Path) -> dict[str, Any]:
    """Return what is known of a NIfTI volume: its JSON files merged, and what ``participants.tsv`` adds.

    Of each key the nearest file wins; the participant's weight, height and sex are taken where no file states them.

    Raises
    ------
    PETError
        If there is no JSON file, or one of them cannot be read.
    """
    files = sidecar_files(path)
    if not files:
        raise PETError(f"sidecar {sidecar_path_of(path).name} is missing, SUV cannot be computed")
    merged: dict[str, Any] = {}
    for file in files:
        merged |= _json_object(file)
    stated = {key for key, other in DICOM_NAMES.items() if {key, other} & set(merged)}
    return {**{key: value for key, value in _participant(path).items() if key not in stated}, **merged}


_COLUMNS = {
    "weight": ("BodyWeight", {"kg", "kilogram", "kilograms"}),
    "height": ("BodyHeight", {"m", "metre", "meter"}),
}


def _participants_of(path: Path) -> tuple[Path, Path]:
    folder = _folders_of_subject(path, path.name)[-1]
    return folder / "participants.tsv", folder / "participants.json"


def files_of_sidecar(path: Path) -> list[Path]:
    """Return every file that `read_sidecar` may read for a NIfTI volume, so that a change of one is noticed."""
    return [file for file in _participants_of(path) if file.is_file()] + sidecar_files(path)


def _participant(path: Path) -> dict[str, Any]:
    """Return weight [kg] and height [m], where ``participants.json`` states the unit, and sex of an image's subject."""
    subject = path.name.partition("_")[0]
    table, described = _participants_of(path)
    if not subject.startswith("sub-") or not table.is_file():
        return {}
    units = _json_object(described) if described.is_file() else {}
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (ValueError, csv.Error) as error:
        raise PETError(f"{table}: cannot be read ({error})") from error
    row = next((row for row in rows if (row.get("participant_id") or "").strip() == subject), {})
    known: dict[str, Any] = {}
    for column, (key, names) in _COLUMNS.items():
        unit = units[column].get("Units", "") if isinstance(units.get(column), dict) else ""
        # A weight of unknown unit is left out, never guessed.
        value = (row.get(column) or "").strip()
        if str(unit).lower() in names and re.fullmatch(r"\d+(\.\d*)?", value):
            known[key] = float(value)
    if sex := (row.get("sex") or "").strip():
        known["Sex"] = sex
    return known
