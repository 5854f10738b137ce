"""Files derived from a scan: their names, a volume as NIfTI and DICOM together, and the data set around them."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pipeline import __version__
from pipeline.errors import PETError
from pipeline.files import write_json, write_text
from pipeline.pet.dicom.writing.equipment import PRODUCT
from pipeline.pet.dicom.writing.writer import DicomOptions, DicomOutputError, write_dicom_series
from pipeline.pet.nifti import write_nifti
from pipeline.pet.series import PETSeries
from pipeline.pet.suv.factor import stored_header, suvbw_factor_of

__all__ = [
    "COHORT_FILES",
    "bids_name",
    "bids_stem",
    "describe_dataset",
    "describe_results",
    "pet_images",
    "scan_name",
    "write_denoised",
    "write_derived",
]

_BIDS_NAME = re.compile(r"(sub-[A-Za-z0-9]+(?:_[a-z]+-[A-Za-z0-9]+)*)_pet\.nii(?:\.gz)?$")

_ENTITIES = ("sub", "ses", "task", "trc", "rec", "run")
"""Entities of a PET image in BIDS, in their order."""

_DOI = re.compile(r"10\.\d{4,9}/[-._;()/:A-Za-z0-9]+")

_PROGRAM = {"Name": PRODUCT, "Version": __version__}

_TABLES = ("lesions", "quantities", "burden", "matches", "changes", "spots", "repeats", "noise")

COHORT_FILES = (".lock", ".cohort", "logs", "cohort.*", "scans.*", "failed.*")
"""What a folder of results of several scans holds beside them."""

_NOT_BIDS = (
    *COHORT_FILES,
    *("dicom", "dicom_*", "*_dicom", "*_dicom_*", "*report.html", "*viewer.html", "*run.json"),
    "*_dseg.*",  # of anatomy, function and diffusion alone
    *(f"*{table}.{ending}" for table in _TABLES for ending in ("tsv", "json")),
)
"""Files beside derived volumes that BIDS has no place for."""


def bids_stem(path: Path) -> str:
    """Return the entities of a volume that is named as BIDS names PET, which are pseudonyms; empty for any other."""
    match = _BIDS_NAME.match(path.name)
    return match[1] if match else ""


def pet_images(subject: Path) -> list[Path]:
    """Return the PET images of a subject of a BIDS data set, sorted: ``sub-LABEL/[ses-*/]pet/*_pet.nii[.gz]``.

    Derivatives, whose names have a ``desc``, are none.
    """
    folders = [subject / "pet", *sorted(subject.glob("ses-*/pet"))]
    found = (path for folder in folders for path in sorted(folder.glob(f"{subject.name}_*")))
    return [path for path in found if bids_stem(path) and "_desc-" not in path.name]


def scan_name(series: PETSeries) -> str:
    """Return a name for files made from a series that tells nothing of the patient.

    The entities of a BIDS name are pseudonyms and are kept; any other source is named by a digest of its voxels.
    """
    if len(series.source_files) == 1 and (stem := bids_stem(series.source_files[0])):
        return stem
    return "pet-" + hashlib.sha256(series.suv.tobytes()).hexdigest()[:8]


def bids_name(name: str, *, apart: str = "") -> str:
    """Return what BIDS calls a derivative of a scan of this name (`scan_name`): a subject, and entities that PET has.

    Other entities become part of ``rec``, since a name without them could be that of another scan. `apart` is added to
    the label of the subject. A scan that is named by a digest is a subject of its own, ``sub-petDIGEST``.
    """
    labels = dict(part.split("-", 1) for part in name.split("_"))
    if "sub" not in labels:
        labels = {"sub": "".join(part.replace("-", "") for part in name.split("_"))}
    others = "".join(key + label for key, label in labels.items() if key not in _ENTITIES)
    if rec := labels.get("rec", "") + others:
        labels["rec"] = rec
    labels["sub"] += apart
    return "_".join(f"{key}-{labels[key]}" for key in _ENTITIES if key in labels)


def describe_dataset(folder: Path, *, name: str, kind: Literal["raw", "derivative"], ignored: Sequence[str]) -> None:
    """Make a folder a data set of BIDS 1.10, unless it holds ``dataset_description.json`` already.

    It is ``"raw"`` if it was acquired, or simulated as if it were. `ignored` are patterns of the files that BIDS has
    no place for.
    """
    description = folder / "dataset_description.json"
    if description.exists():
        return
    write_text(folder / ".bidsignore", "\n".join(ignored) + "\n")
    write_json(description, {"Name": name, "BIDSVersion": "1.10.0", "DatasetType": kind, "GeneratedBy": [_PROGRAM]})


def describe_results(root: Path, *, source: Path | None = None) -> None:
    """Describe a folder of derived scans as a BIDS derivative; what is described there already gains what is new.

    New may be the version of this program, and the data set that a `source` lies in, if it has a DOI: a path could name
    a patient.
    """
    describe_dataset(root, name="Scans derived by unipet_3d", kind="derivative", ignored=_NOT_BIDS)
    path = root / "dataset_description.json"
    stated = json.loads(path.read_text(encoding="utf-8"))
    described = dict(stated)
    sources = [] if source is None else _published_dataset_of(source)
    for key, entries in (("GeneratedBy", [_PROGRAM]), ("SourceDatasets", sources)):
        there = stated.get(key, [])
        if new := [entry for entry in entries if entry not in there]:
            described[key] = [*there, *new]
    if described != stated:
        write_json(path, described)


def _published_dataset_of(source: Path) -> list[dict[str, str]]:
    """Return the entry of SourceDatasets for the data set that a scan of a subject lies in; none if it has no DOI."""
    subject = next((folder for folder in source.resolve().parents if folder.name.startswith("sub-")), None)
    if subject is None:
        return []
    try:
        described = json.loads(subject.with_name("dataset_description.json").read_text(encoding="utf-8"))
        doi = described.get("DatasetDOI")
    except (OSError, ValueError, AttributeError):
        return []
    if not isinstance(doi, str) or not (match := _DOI.search(doi)):
        return []
    return [{"URL": f"https://doi.org/{match[0]}", "DOI": f"doi:{match[0]}"}]


def write_derived(
    series: PETSeries,
    image: str | Path,
    dicom_folder: str | Path,
    *,
    description: str,
    derivation: str,
    extra: Mapping[str, Any] | None = None,
    options: DicomOptions | None = None,
) -> str | None:
    """Write a derived series as NIfTI with sidecar, and as a DICOM series where that can be trusted.

    Return why no DICOM was written, None if it was. DICOM in Bq/mL needs dose, weight, half-life, times and
    corrections, so that every viewer computes the same SUV from it; a series of SUVbw without them is written as NIfTI
    alone, unless ``options`` ask for SUVbw in DICOM. So is one that DICOM cannot express, such as a sheared one, or one
    from a big endian source.

    Raises
    ------
    PETError
        If a file cannot be written.
    """
    options = options or DicomOptions()
    why_not = None
    try:
        suvbw_factor_of(stored_header(series.header, units=options.units))
    except PETError as error:
        why_not = f"no reader could compute SUV from it: {error}"
    if why_not is None:
        try:
            write_dicom_series(series, dicom_folder, description=description, derivation=derivation, options=options)
        except DicomOutputError as error:
            why_not = str(error).removeprefix(f"{dicom_folder}: ")
    # The volume is written last: if it exists, so does the rest. BIDS asks whether the skull was cut out.
    write_nifti(series, image, extra={"Description": description, "SkullStripped": False, **(extra or {})})
    return why_not


def write_denoised(
    series: PETSeries,
    folder: str | Path,
    *,
    name: str,
    method: str,
    strength: float = 1.0,
    weights_sha256: str | None = None,
    source_sha256: str | None = None,
    dicom_folder: str = "dicom",
    options: DicomOptions | None = None,
    uncertainty: PETSeries | None = None,
) -> str | None:
    """Write a denoised series as ``NAME_desc-denoised_pet.nii.gz`` and DICOM into a folder; see `write_derived`.

    The standard deviation of its voxels, in SUV, goes to ``NAME_desc-uncertainty_pet.nii.gz`` beside it.
    """
    shown = method if strength == 1 else f"{method}, strength {strength:g}"
    hashes = {"DenoisingWeightsSHA256": weights_sha256, "DenoisingSourceSHA256": source_sha256}
    made = {"DenoisingMethod": method, "DenoisingStrength": strength, **{k: v for k, v in hashes.items() if v}}
    weights = f", weights SHA-256 {weights_sha256}" if weights_sha256 else ""
    if uncertainty is not None:
        described = {"Description": f"Standard deviation of denoised PET ({shown})", "SkullStripped": False}
        write_nifti(uncertainty, Path(folder) / f"{name}_desc-uncertainty_pet.nii.gz", extra=described | made)
    return write_derived(
        series,
        Path(folder) / f"{name}_desc-denoised_pet.nii.gz",
        Path(folder) / dicom_folder,
        description=f"Denoised PET ({shown})",
        derivation=f"Denoised by unipet_3d {__version__}, method {method}, strength {strength:g}{weights}",
        extra=made,
        options=options,
    )
