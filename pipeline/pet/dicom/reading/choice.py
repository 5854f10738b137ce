"""Which series of a study is read: the only one of PET, the only one corrected for attenuation, or the one asked for.

Where none is, one message lists all series. It names nobody: words of a description that stand in an attribute of
identity, or that may be a date or a number of somebody, are covered (SeriesDescription is free text, PS3.15 E.1).
"""

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from pydicom.dataset import Dataset
from pydicom.uid import PositronEmissionTomographyImageStorage

from pipeline.errors import NoSuchSeriesError, PETError, naming, one_line
from pipeline.pet.dicom.reading.enhanced import read_frames
from pipeline.pet.dicom.reading.files import ENHANCED, FoundFiles, SliceFile
from pipeline.pet.dicom.reading.header import attenuation_corrected
from pipeline.pet.dicom.values import IDENTITY, number_of, text_of

__all__ = ["PET_CLASSES", "by_series", "choose_pet", "listed", "only_corrected"]

PET_CLASSES = {PositronEmissionTomographyImageStorage, *ENHANCED}

MOST_LISTED = 40
"""Series that one message lists; studies have fewer."""

LONGEST_DESCRIPTION = 64
"""A description (LO) has so many characters."""

_COVERED = "***"
_DATE_OR_NUMBER = re.compile(
    r"\d{4}|\d+([-./:_])\d+\1\d+|\d{1,2}(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\d{2}", re.IGNORECASE
)

K = TypeVar("K")

Series = Mapping[str, Sequence[SliceFile]]
"""Files of each series by SeriesInstanceUID."""


def by_series(files: Iterable[SliceFile]) -> dict[str, list[SliceFile]]:
    """Return the files of each series; one without SOPClassUID is a `PETError`."""
    groups: dict[str, list[SliceFile]] = {}
    for file in files:
        with naming(file.name):
            if not text_of(file.dataset, "SOPClassUID"):
                raise PETError("SOPClassUID is missing, the file may be cut short")
            groups.setdefault(text_of(file.dataset, "SeriesInstanceUID"), []).append(file)
    return groups


def choose_pet(found: FoundFiles, wanted: str | int | None) -> tuple[Sequence[SliceFile], list[str]]:
    """Return the files of one PET series, and sentences on what is left aside.

    It is the series whose UID, number or description is `wanted`; if None, the only one, or of several of one study the
    only one that is corrected for attenuation where all others say that they are not.

    Raises
    ------
    PETError
        If no series is, or several are; the message lists them.
    NoSuchSeriesError
        If no series is the one that is wanted.
    """
    every = by_series(found.slices)
    pet = {uid: files for uid, files in every.items() if any(_sop_class(file) in PET_CLASSES for file in files)}
    others = Counter(_modality(file) for uid, files in every.items() if uid not in pet for file in files)
    counted = ", ".join(f"{n} {modality}" for modality, n in sorted(others.items()))
    if not pet:
        raise PETError(f"no PET image among {len(found.slices)} DICOM files ({counted}), expected a PET series")
    if "" in pet and len(pet) > 1:
        raise PETError(f"{pet[''][0].name}: SeriesInstanceUID is missing, the file may be cut short")
    chosen: Series = pet if wanted is None else _matching(pet, str(wanted))
    notes = []
    if wanted is None and len(pet) > 1 and (corrected := only_corrected(pet)) is not None:
        chosen = {corrected: pet[corrected]}
        notes.append(f"Of {len(pet)} PET series the only one that is corrected for attenuation was read.")
    if len(chosen) != 1:
        n, which = len(chosen), "" if wanted is None else f" {str(wanted)[:LONGEST_DESCRIPTION]}"
        raise (PETError if n else NoSuchSeriesError)(
            f"{n or 'no'} PET series{which}, expected one; choose it by number, description or UID (--series; series: "
            f"in a manifest) from: {listed(every)}"
        )
    ((uid, files),) = chosen.items()
    if found.n_other:
        notes.append(f"{found.n_other} files that are not DICOM images were left out.")
    if found.dangling:
        notes.append(f"{len(found.dangling)} links to files that do not exist were left out.")
    if counted:
        notes.append(f"Objects that are no PET images were left aside: {counted}.")
    notes += [
        f"Another PET series ({len(members)} files) was left aside." for key, members in pet.items() if key != uid
    ]
    n_bare = sum(not file.has_meta_information for file in files)
    if n_bare:
        notes.append(f"{n_bare} files have no file meta information (DICOM PS3.10).")
    return files, notes


def only_corrected(pet: Mapping[K, Sequence[SliceFile]]) -> K | None:
    """Return which series of one study is corrected for attenuation if all others say that they are not, else None."""
    if len({_text(files[0].dataset, "StudyInstanceUID") for files in pet.values()}) > 1:
        return None
    states = {key: _is_corrected(files[0]) for key, files in pet.items()}
    corrected = [key for key, state in states.items() if state is not False]
    return corrected[0] if len(corrected) == 1 and states[corrected[0]] else None


def _is_corrected(file: SliceFile) -> bool | None:
    try:
        frame = read_frames(file)[0][0] if _sop_class(file) in ENHANCED else file
        return attenuation_corrected(frame.dataset)
    except PETError:
        return None


def _matching(pet: Series, wanted: str) -> Series:
    """Return the series of a UID, else of a number, else of a description, else with words in their description."""
    text = " ".join(wanted.split()).casefold()
    word = re.compile(rf"(?<!\w){re.escape(text)}(?!\w)")
    tests: list[Callable[[str, Dataset], bool]] = [
        lambda uid, _: uid == text,
        lambda _, dataset: _number(dataset) == (text.lstrip("0") or "0"),
        lambda _, dataset: _description(dataset).casefold() == text,
        # A number that no series has may stand in a description, and be meant for none.
        lambda _, dataset: not text.isdigit() and word.search(_description(dataset).casefold()) is not None,
    ]
    for test in tests if text else ():
        if found := {uid: files for uid, files in pet.items() if test(uid, files[0].dataset)}:
            return found
    return {}


# ------------------------------------------------------------------------------------------- what a message says


def listed(series: Series) -> str:
    """Return number, modality, description and number of images of every series, those of PET first."""
    order = sorted(
        series.values(), key=lambda files: (_modality(files[0]) != "PT", _number(files[0].dataset).zfill(12))
    )
    lines = [_described(files) for files in order[:MOST_LISTED]]
    return "; ".join([*lines, *([f"{len(order) - MOST_LISTED} more"] if len(order) > MOST_LISTED else [])])


def _described(files: Sequence[SliceFile]) -> str:
    dataset = files[0].dataset
    number, n = _number(dataset), sum(_n_frames(file.dataset) for file in files)
    description = _anonymous(_description(dataset), dataset)[:LONGEST_DESCRIPTION].replace('"', "'")
    parts = [f"number {number}" if number else "without number", _modality(files[0])]
    parts += [f'"{one_line(description)}"'] if description else []
    return ", ".join([*parts, f"{n} image{'s' if n > 1 else ''}"])


def _anonymous(description: str, dataset: Dataset) -> str:
    """Cover the words of a description that may tell who was scanned, or when."""
    names = {word for keyword in IDENTITY for word in re.findall(r"\w+", _text(dataset, keyword).casefold())}

    def tells(word: str) -> bool:
        parts = re.findall(r"\w+", word.casefold())
        if _DATE_OR_NUMBER.search(word) or not names.isdisjoint(parts):
            return True
        return any(name in part for name in names if len(name) > 2 for part in parts)

    return " ".join(_COVERED if tells(word) else word for word in description.split())


def _text(dataset: Dataset, keyword: str) -> str:
    """Return a text, ``""`` if it cannot be decoded, and nothing on the screen: pydicom warns with the value."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return text_of(dataset, keyword)
    except PETError:
        return ""


def _number(dataset: Dataset) -> str:
    text = _text(dataset, "SeriesNumber")
    return str(int(text)) if re.fullmatch(r"\d{1,12}", text, re.ASCII) else ""


def _description(dataset: Dataset) -> str:
    return " ".join(_text(dataset, "SeriesDescription").split())


def _modality(file: SliceFile) -> str:
    return one_line(_text(file.dataset, "Modality")[:16]) or "without Modality"


def _sop_class(file: SliceFile) -> str:
    return text_of(file.dataset, "SOPClassUID")


def _n_frames(dataset: Dataset) -> int:
    try:
        return int(number_of(dataset, "NumberOfFrames") or 1)
    except PETError:
        return 1
