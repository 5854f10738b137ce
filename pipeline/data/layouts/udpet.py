"""UDPET: Siemens Quadra and United Imaging uEXPLORER scans at several doses, one DICOM folder per dose.

Quadra parts lie as ``Subject_115-117/30122021_5_20211230_170836/1-20 dose/*.IMA``, uEXPLORER parts as
``uExplorerPART10/Anonymous_ANO_20220224_1744219_121048/2.886 x 600 WB D20/*.dcm``; the word for the dose varies
from part to part. The test set of 2025 is NIfTI with a CSV, see `pipeline.data.layouts.udpet_test_set`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.data.layouts.found_session import FoundSession, identifier, relative
from pipeline.data.layouts.udpet_test_set import find_test_set
from pipeline.data.manifest import Exclusion, Image
from pipeline.pet.dicom.reading.files import APPLE_DOUBLE, DICOM_SUFFIXES
from pipeline.pet.dicom.reading.stored_files import walk_folders

__all__ = ["PUBLISHED_FACTORS", "dose_reduction_factor_in", "find_udpet"]

PUBLISHED_FACTORS = (4.0, 10.0, 20.0, 50.0, 100.0)
"""Dose reduction factors that every part has; some have 2 as well."""

_LARGEST_FACTOR = 1000.0
_PROTOCOL = re.compile(r"\d+(?:\.\d+)? x \d+ wb (.+)")
_FULL = {"full dose", "normal", "normal dose"}
_LOW = re.compile(r"1[-/:](\d+(?:\.\d+)?) dose|(?:drf|d)[ -]?(\d+(?:\.\d+)?)")


def dose_reduction_factor_in(name: str) -> float | None:
    """Return the dose reduction factor that a folder's name states, or None where it states none.

    Names are such as ``Full_dose``, ``1-20 dose``, ``2.886 x 600 WB NORMAL`` or ``2.886 x 150 WB DRF_10``. The whole
    name is read, so that ``1-100 dose`` is not ``1-10 dose``. ``100 dose`` may be a hundred percent or a hundredth: it
    is neither.
    """
    words = " ".join(name.lower().replace("_", " ").split())
    if protocol := _PROTOCOL.fullmatch(words):
        words = protocol[1]
    if words in _FULL:
        return 1.0
    low = _LOW.fullmatch(words)
    factor = float(low[1] or low[2]) if low else 0.0
    return factor if 1 < factor <= _LARGEST_FACTOR else None


def find_udpet(root: Path, units: str | None) -> Iterator[FoundSession]:
    """Find the sessions of all parts below a folder: a folder per dose, or NIfTI files that a CSV lists.

    A folder of DICOM slices whose name is no dose is recorded, never guessed; so is a dose that is there twice.
    """
    sessions: dict[Path, tuple[dict[float, list[Path]], list[Path]]] = {}
    folders = dict(walk_folders(root))
    groups = {folder.parent for folder in folders}
    taken: set[Path] = set()
    for folder, files in folders.items():
        # What is below belongs to that dose, or to that folder of no known dose.
        if folder == root or not taken.isdisjoint(folder.parents):
            continue
        # A folder of folders called "normal" holds a group of subjects.
        is_leaf = bool(files) or folder not in groups
        factor = dose_reduction_factor_in(folder.name) if is_leaf else None
        if factor is None and not any(_is_dicom_name(name) for name in files):
            continue
        taken.add(folder)
        doses, unknown = sessions.setdefault(folder.parent, ({}, []))
        if factor is None:
            unknown.append(folder)
        else:
            doses.setdefault(factor, []).append(folder)
    tables = [folder / name for folder, files in folders.items() for name in files if name.lower().endswith(".csv")]
    for session in sorted(sessions):
        yield _session(session, *sessions[session], root=root)
    yield from find_test_set(sorted(tables), root)


def _is_dicom_name(name: str) -> bool:
    return Path(name).suffix.lower() in DICOM_SUFFIXES and not name.startswith(APPLE_DOUBLE)


def _session(session: Path, doses: dict[float, list[Path]], unknown: list[Path], *, root: Path) -> FoundSession:
    name = session.name if session != root else root.resolve().name
    id_ = identifier(*session.relative_to(root).parts) if session != root else identifier(name)
    left_out = [
        Exclusion(
            subject=id_,
            path=relative(folder, root),
            reason=f"folder {folder.name!r} is no known name of a dose",
        )
        for folder in unknown
    ]
    for factor, folders in sorted(doses.items()):
        if len(folders) > 1:
            names = " and ".join(repr(folder.name) for folder in folders)
            reason = f"folders {names} are both of dose reduction factor {factor:g}, expected one"
            left_out.append(Exclusion(subject=id_, dose_reduction_factor=factor, reason=reason))
    if 1.0 not in doses:
        known = ", ".join(f"{factor:g}" for factor in sorted(doses)) or "none"
        reason = (
            f"no folder of the full dose among {len(doses) + len(unknown)} folders (dose reduction factors {known})"
        )
        left_out.append(Exclusion(subject=id_, reason=reason))
    left_out += [
        Exclusion(subject=id_, dose_reduction_factor=factor, reason="this dose is not there")
        for factor in PUBLISHED_FACTORS
        if factor not in doses and 1.0 in doses
    ]
    return FoundSession(
        id=id_,
        name=name,
        patient=name,
        images=tuple(
            Image(path=relative(folders[0], root), dose_reduction_factor=factor)
            for factor, folders in sorted(doses.items())
            if len(folders) == 1
        ),
        tracer="FDG",
        left_out=tuple(left_out),
    )
