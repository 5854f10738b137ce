"""ENHANCE.PET 1.6k: numbered FDG PET/CT volumes with organ labels.

``imaging-data/images/PT/NNNN.nii.gz`` or ``PT_0001-1683/NNNN.nii.gz``, CT likewise in one folder or two, labels in
``imaging-data/ground-truth/Organs/NNNN.nii.gz``. The unit of the PET volumes is not published, and must be given.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.data.layouts.found_session import FoundSession, file_at, folders_below, identifier, relative
from pipeline.data.manifest import Exclusion, Image
from pipeline.errors import PETError

__all__ = ["find_enhance_pet"]

_NUMBERED = re.compile(r"(\d{4})\.nii\.gz")
_FOLDER = re.compile(r"(PT|CT)(?:_\d{4}-\d{4})?")


def find_enhance_pet(root: Path, units: str | None) -> Iterator[FoundSession]:
    """Find the numbered volumes below every ``imaging-data`` folder; the user must state that they are SUVbw (g/mL).

    Raises
    ------
    PETError
        If the units are not given or not g/mL, since dose and weight are not in the files.
    """
    if units != "g/mL":
        found = "not given" if units is None else units
        raise PETError(
            f"{root}: units of the PET volumes are {found}, and the data set does not publish them; look at the liver "
            "(SUV about 2) and state g/mL if they are SUVbw, expected nothing else as dose and weight are not there"
        )
    for data in folders_below(root, "imaging-data"):
        volumes: dict[str, dict[str, list[Path]]] = {"PT": {}, "CT": {}}
        for folder in sorted((data / "images").glob("*")):
            if kind := _FOLDER.fullmatch(folder.name):
                for path in sorted(folder.glob("*.nii.gz")):
                    if numbered := _NUMBERED.fullmatch(path.name):
                        volumes[kind[1]].setdefault(numbered[1], []).append(path)
        for number in sorted(volumes["PT"]):
            yield _session(number, volumes, data, root)


def _session(number: str, volumes: dict[str, dict[str, list[Path]]], data: Path, root: Path) -> FoundSession:
    id_ = identifier(number)
    images = volumes["PT"][number]
    if len(images) > 1:
        reason = f"{len(images)} PET volumes of this number, expected one"
        return FoundSession(id=id_, name=number, patient=number, left_out=(Exclusion(subject=id_, reason=reason),))
    ct = volumes["CT"].get(number, [])
    organs = data / "ground-truth" / "Organs" / f"{number}.nii.gz"
    sidecar = {"Units": "g/mL", "SUVType": "BW", "TracerName": "FDG", "TracerRadionuclide": "F18"}
    return FoundSession(
        id=id_,
        name=number,
        patient=number,
        images=(Image(path=relative(images[0], root), sidecar=sidecar),),
        tracer="FDG",
        organs=file_at(organs, root),
        ct=file_at(ct[0], root) if len(ct) == 1 else None,
    )
