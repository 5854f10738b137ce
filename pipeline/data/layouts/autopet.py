"""autoPET: FDG and PSMA PET/CT with lesion labels, as studies in folders or in the layout of nnU-Net.

Folders: ``PETCT_0011f3deaf/<study>/{SUV,SEG,CTres,CT,PET}.nii.gz`` (FDG-PET-CT-Lesions). nnU-Net (autoPET III on):
``imagesTr/<tracer>_<patient>_<study>_0000.nii.gz`` is the CT on the PET's grid, ``_0001`` the PET in SUV, and
``labelsTr/<tracer>_<patient>_<study>.nii.gz`` the lesions; ``psma_metadata.csv`` says radionuclide and scanner.
"""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.data.layouts.found_session import FoundSession, file_at, files_below, folders_below, identifier, relative
from pipeline.data.manifest import Exclusion, Image, Split
from pipeline.errors import PETError

__all__ = ["find_autopet"]

_CT, _PET = "_0000.nii.gz", "_0001.nii.gz"
_TRACERS: dict[str, dict[str, Any]] = {
    "fdg": {"TracerName": "FDG", "TracerRadionuclide": "F18"},
    # Ligands of Ga-68 and F-18 are mixed; only psma_metadata.csv says which it is.
    "psma": {"TracerName": "PSMA"},
}
_FDG_SCANNER = "Siemens Biograph mCT"
"""The one scanner of the FDG cohort, as its publication says."""
_PARTS: tuple[tuple[str, str, Split | None], ...] = (("imagesTr", "labelsTr", None), ("imagesTs", "labelsTs", "test"))


def find_autopet(root: Path, units: str | None) -> Iterator[FoundSession]:
    """Find the studies of both forms. SUVbw is published as the unit of the images taken."""
    studies = {path.parent for name in ("SUV.nii.gz", "PET.nii.gz") for path in files_below(root, name)}
    for study in sorted(studies):
        yield _study(study, root)
    for images, labels, split in _PARTS:
        for folder in folders_below(root, images):
            suffixes = (_CT, _PET)
            about = _psma_metadata(folder.parent / "psma_metadata.csv")
            cases = {path.name[: -len(end)] for end in suffixes for path in folder.glob(f"*{end}")}
            for case in sorted(cases):
                yield _case(case, folder, folder.parent / labels, split, about.get(case, {}), root)


def _suv(path: Path, root: Path, tracer: str, **known: str) -> Image:
    sidecar = {"Units": "g/mL", "SUVType": "BW", **_TRACERS[tracer], **known}
    return Image(path=relative(path, root), sidecar=sidecar)


def _psma_metadata(table: Path) -> dict[str, dict[str, str]]:
    """PET-BIDS keys by case, from the columns Subject ID, Study Date, pet_radionuclide, manufacturer_model_name."""
    if not table.is_file():
        return {}
    columns = {"pet_radionuclide": "TracerRadionuclide", "manufacturer_model_name": "ManufacturersModelName"}
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise PETError(f"{table}: not a readable CSV file ({error})") from error
    return {
        f"psma_{(row.get('Subject ID') or '').rpartition('_')[2]}_{row.get('Study Date')}": {
            key: value.strip() for column, key in columns.items() if (value := row.get(column))
        }
        for row in rows
    }


def _study(study: Path, root: Path) -> FoundSession:
    id_ = identifier(study.parent.name, study.name)
    suv = study / "SUV.nii.gz"
    missing = Exclusion(
        subject=id_, reason="SUV.nii.gz is not there; PET.nii.gz lacks the dose and weight that SUV needs"
    )
    return FoundSession(
        id=id_,
        name=study.parent.name,
        patient=study.parent.name,
        images=(_suv(suv, root, "fdg"),) if suv.is_file() else (),
        tracer="FDG",
        scanner=_FDG_SCANNER,
        lesions=file_at(study / "SEG.nii.gz", root),
        ct=file_at(study / "CTres.nii.gz", root) or file_at(study / "CT.nii.gz", root),
        left_out=() if suv.is_file() else (missing,),
    )


def _case(
    case: str, images: Path, labels: Path, split: Split | None, about: Mapping[str, str], root: Path
) -> FoundSession:
    tracer, _, rest = case.partition("_")
    patient = rest.partition("_")[0]
    id_ = identifier(case)
    pet = images / (case + _PET)
    reason = None
    if tracer not in _TRACERS or not patient or "_" not in rest:
        reason = f"case {case!r} is not named <tracer>_<patient>_<study>, so that its patient is unknown"
    elif not pet.is_file():
        reason = f"{pet.name} (PET in SUV) is not there"
    if reason is not None:
        return FoundSession(
            id=id_, name=case, patient=patient or case, left_out=(Exclusion(subject=id_, reason=reason),)
        )
    return FoundSession(
        id=id_,
        name=case,
        patient=patient,
        images=(_suv(pet, root, tracer, **about),),
        split=split,
        tracer=tracer.upper(),
        scanner=_FDG_SCANNER if tracer == "fdg" else "",
        lesions=file_at(labels / f"{case}.nii.gz", root),
        ct=file_at(images / (case + _CT), root),
    )
