"""NIfTI volumes with a PET-BIDS style JSON sidecar: read to, and written from, SUVbw.

A volume is described by the JSON file beside it, those that BIDS lets it inherit, and the participants' table.
"""

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from pipeline import __version__
from pipeline.errors import PETError, naming
from pipeline.files import image_stream, replaced_file
from pipeline.pet.dicom.writing.equipment import PRODUCT
from pipeline.pet.grid import Grid, same_grid, to_canonical
from pipeline.pet.series import PETSeries
from pipeline.pet.sidecar import DICOM_NAMES, SidecarHeader, header_from_sidecar, sidecar_of
from pipeline.pet.volumes import NIFTI, is_volume_name, read_grid, read_voxels, sidecar_path_of

__all__ = [
    "check_is_full_dose",
    "files_of_sidecar",
    "read_nifti",
    "read_sidecar",
    "sidecar_files",
    "survey_nifti",
    "write_nifti",
]

FORMATS = {".mha": "MetaImage", ".nrrd": "NRRD"}
"""What provenance calls a file that is not NIfTI."""

INTENT_NAME = "SUVbw"
"""What the header of a NIfTI file calls its quantity."""

_DESCRIP_BYTES = 79  # of 80; readers in C take the last for the end of the text

_MOST_ENTITIES = 10
"""Of a name, those that a file may share from which it inherits; BIDS has no more for PET."""

_COLUMNS = {
    "weight": ("BodyWeight", {"kg", "kilogram", "kilograms"}),
    "height": ("BodyHeight", {"m", "metre", "meter"}),
}
"""For each column of participants.tsv: the key that it stands for, and what its unit may be called."""


def read_nifti(path: str | Path, *, sidecar: Mapping[str, Any] | None = None) -> PETSeries:
    """Read a static NIfTI volume in activity concentration or SUVbw, with the JSON sidecar of the same stem.

    MetaImage (.mha) and NRRD (.nrrd) are read in the same way.
    Axes are flipped and permuted, never resampled, to the closest RAS+ orientation.

    Parameters
    ----------
    path
        File ending in .nii, .nii.gz, .mha or .nrrd.
    sidecar
        What stands for the JSON file, in the same keys; None reads the file.

    Raises
    ------
    PETError
        If the file is damaged, dynamic or not finite, the sidecar is missing or lacks what SUV needs, or
        qform and sform disagree.
    """
    path = Path(path)
    with naming(path):
        stated, _ = survey_nifti(path, sidecar=sidecar)
        voxels, affine = read_voxels(path)
        if stated.factor is not None:
            voxels *= np.float32(stated.factor)
        suv, affine = to_canonical(voxels, affine)
        return PETSeries(
            suv=suv,
            affine=affine,
            header=stated.header,
            suvbw_factor=None if stated.factor is None else stated.factor / stated.unit,
            provenance=stated.provenance,
            warnings=stated.warnings,
            source_files=(path,),
        )


def survey_nifti(path: Path, *, sidecar: Mapping[str, Any] | None = None) -> tuple[SidecarHeader, Grid]:
    """Return what the sidecar of a NIfTI volume says, or the one given, and the grid with its axes in RAS+ order.

    No voxel is read. The provenance begins with the history in the sidecar.

    Raises
    ------
    PETError
        If the file or its sidecar is missing, or lacks what SUV needs, or its header is not that of one volume.
    """
    source = sidecar_path_of(path).name if sidecar is None else "sidecar"
    if not path.is_file():
        raise PETError("no such file")
    grid = read_grid(path)
    sidecar = read_sidecar(path) if sidecar is None else sidecar
    with naming(source):
        found = header_from_sidecar(sidecar)
    history = sidecar.get("Provenance")
    earlier = [str(sentence) for sentence in history] if isinstance(history, list) else []
    origin = f"Read from {FORMATS.get(path.suffix.lower(), 'NIfTI')} in "
    if found.factor is None:
        origin += "SUVbw."
    else:
        origin += f"{sidecar['Units']}, SUVbw factor {found.factor:.6e} g/mL per {sidecar['Units']}."
    return replace(found, provenance=(*earlier, origin, *found.provenance)), grid


def _image_of(series: PETSeries, description: str) -> nib.Nifti1Image:
    image = nib.Nifti1Image(series.suv, series.affine)
    image.set_data_dtype(np.float32)
    image.header.set_xyzt_units("mm", "sec")
    # Code 0, since the standard's intents have none for SUV; a viewer shows the name.
    image.header.set_intent("none", name=INTENT_NAME)
    made = f"{description}; {PRODUCT} {__version__}" if description else f"{PRODUCT} {__version__}"
    image.header["descrip"] = made.encode("ascii", "replace")[:_DESCRIP_BYTES]
    image.set_sform(series.affine, code="scanner")
    # A quaternion has no shear: of a sheared grid only the sform tells.
    image.set_qform(series.affine, code="scanner")
    if not same_grid(Grid(series.suv.shape, image.get_qform()), series.grid):
        image.set_qform(None, code="unknown")
    return image


def write_nifti(series: PETSeries, path: str | Path, *, extra: Mapping[str, Any] | None = None) -> Path:
    """Write a series as float32 SUVbw, with a JSON sidecar of the same stem.

    Both files are written to temporary names, read back and compared, then renamed.

    Parameters
    ----------
    series
        The volume.
    path
        File ending in .nii or .nii.gz, in an existing folder; existing files are replaced.
    extra
        Further entries of the sidecar; they may not replace its own. ``Description`` begins the header's ``descrip``,
        too, which ends with the program and its version; the name of the intent is ``SUVbw``.

    Raises
    ------
    PETError
        If the name, the folder or an extra entry is not usable, or what was written reads back differently.
    """
    path = Path(path)
    with naming(path):
        if not path.name.lower().endswith(NIFTI):
            raise PETError("expected a name ending in .nii or .nii.gz")
        sidecar_path = sidecar_path_of(path)
        # The entry is SUVbw per Bq/mL; the factor of another quantity stands in the provenance alone.
        factor = series.suvbw_factor if series.header.units == "BQML" else None
        sidecar = sidecar_of(series.header, suvbw_factor=factor, provenance=series.provenance)
        taken = sorted(set(sidecar) & set(extra or {}))
        if taken:
            raise PETError(f"extra sidecar entries {', '.join(taken)} are taken, expected other names")
        try:
            text = json.dumps({**sidecar, **(extra or {})}, indent=2, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise PETError(f"sidecar entry cannot be written as JSON ({error})") from error
        image = _image_of(series, str((extra or {}).get("Description", "")))
        with replaced_file(path) as temporary, replaced_file(sidecar_path) as temporary_sidecar:
            temporary_sidecar.write_text(text + "\n", encoding="utf-8")
            with image_stream(temporary) as stream:
                image.to_stream(stream)
            voxels, affine = read_voxels(temporary)
            if not (np.array_equal(voxels, series.suv) and same_grid(Grid(voxels.shape, affine), series.grid)):
                raise PETError("file reads back differently from what was written")
    return path


# --------------------------------------------------------------------- files of the sidecar


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


def sidecar_files(path: Path) -> list[Path]:
    """Return the JSON files that apply to a NIfTI volume, the nearest last; none if there is none.

    Beside the file of the same stem these are, for a BIDS name, those that the inheritance principle names: files
    ``*pet.json`` between the folder of the image and that which holds the ``sub-`` folder, whose entities the image
    has, too, in the same order.
    """
    beside = sidecar_path_of(path)
    files: list[Path] = []
    if beside.stem.startswith("sub-") and beside.stem.endswith("_pet"):
        # Each is asked for by its name: a folder may hold the files of thousands of scans.
        entities = [entity for entity in beside.stem.split("_")[:-1] if entity][:_MOST_ENTITIES]
        names: list[str] = []
        for n in range(len(entities) + 1):
            names += sorted("_".join((*chosen, "pet.json")) for chosen in combinations(entities, n))
        for folder in reversed(_folders_of_subject(path, beside.stem)):
            files += [file for name in names if (file := folder / name) != beside and file.is_file()]
    return files + ([beside] if beside.is_file() else [])


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


def check_is_full_dose(path: Path) -> None:
    """Refuse a volume whose sidecar says that it has less dose, or that it was denoised.

    Raises
    ------
    PETError
        Says what it has; the path is for the caller to name.
    """
    if not is_volume_name(path) or not path.is_file():
        return
    try:
        sidecar = read_sidecar(path)
    except PETError:
        return  # its reader says why, or the manifest has the sidecar
    if method := sidecar.get("DenoisingMethod"):
        raise PETError(f"was denoised by {method}, expected a full-dose scan as the scanner gave it")
    factor = sidecar.get("DoseReductionFactor", 1)
    if isinstance(factor, int | float) and factor > 1:
        raise PETError(f"has DoseReductionFactor {factor:g}, expected a full-dose scan")
