"""UDPET's test set of 2025: NIfTI files in Bq/mL, and a CSV with what SUV needs, one row per file.

The dose of a file is a middle window of the scan, so that the time from injection differs from dose to dose: every
file gets a sidecar of its own.
"""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.data.layouts.found_session import FoundSession, files_below, identifier, relative
from pipeline.data.manifest import Exclusion, Image
from pipeline.errors import PETError

__all__ = ["find_test_set", "sidecar_of_row"]

_COLUMNS = (
    "SubjectID",
    "DoseReductionFactor",
    "NiftiFileName",
    "PatientWeight_kg",
    "ImageUnits",
    "RadiopharmaceuticalName",
    "TimeFromInjectionToAcquisition_s",
    "RadionuclideTotalDose_Bq",
    "RadionuclideHalfLife_s",
    "DecayCorrection",
)
_UNITS = {"bqml": "Bq/mL", "bq/ml": "Bq/mL"}
_FULL = {"normal", "full", "full dose", "full_dose"}


def find_test_set(tables: Iterable[Path], root: Path) -> Iterator[FoundSession]:
    """Find the subjects that CSV files of this form list; other CSV files are left alone.

    The NIfTI files may lie in any folder below that of the CSV.

    Raises
    ------
    PETError
        If a CSV of this form lacks a column that SUV needs.
    """
    for table in tables:
        rows = _rows(table)
        if rows is None:
            continue
        files = {path.name: path for path in files_below(table.parent, "*.nii*")[::-1]}
        subjects: dict[str, list[dict[str, str]]] = {}
        for row in rows:
            subjects.setdefault(row["SubjectID"].strip(), []).append(row)
        for name in sorted(subjects):
            yield _session(name, subjects[name], files, table, root)


def _rows(table: Path) -> list[dict[str, str]] | None:
    """Return the rows of a CSV that lists the test set, or None for any other CSV."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = [column.strip() for column in reader.fieldnames or ()]
            if not {"NiftiFileName", "DoseReductionFactor"} <= set(columns):
                return None
            if missing := [column for column in _COLUMNS if column not in columns]:
                raise PETError(f"{table}: columns {', '.join(missing)} are missing, expected them as published")
            reader.fieldnames = columns
            return [{key: value or "" for key, value in row.items() if key is not None} for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise PETError(f"{table}: not a readable CSV file ({error})") from error


def _session(name: str, rows: list[dict[str, str]], files: Mapping[str, Path], table: Path, root: Path) -> FoundSession:
    id_ = identifier(*table.parent.relative_to(root).parts, name)
    images: dict[float, Image] = {}
    left_out: list[Exclusion] = []
    for row in rows:
        listed = row["NiftiFileName"].strip()
        file = files.get(Path(listed).name)
        try:
            factor = _factor(row["DoseReductionFactor"])
            if file is None:
                left_out.append(Exclusion(subject=id_, dose_reduction_factor=factor, reason=f"{listed} is not there"))
                continue
            if factor in images:
                raise PETError(f"a second file of dose reduction factor {factor:g}, expected one")
            images[factor] = Image(path=relative(file, root), dose_reduction_factor=factor, sidecar=sidecar_of_row(row))
        except PETError as error:
            place = relative(file or table, root)
            left_out.append(Exclusion(subject=id_, path=place, reason=f"{listed}: {error}"))
    if 1.0 not in images:
        left_out.append(
            Exclusion(subject=id_, reason="no file of the full dose; it is not part of the public test set")
        )
    return FoundSession(
        id=id_,
        name=name,
        patient=name,
        images=tuple(images[factor] for factor in sorted(images)),
        split="test",
        tracer="FDG",
        left_out=tuple(left_out),
    )


def _factor(text: str) -> float:
    words = text.strip().lower()
    if words in _FULL:
        return 1.0
    factor = _number(words.removeprefix("drf").lstrip("-_ "), "DoseReductionFactor")
    if not 1 <= factor <= 1000:
        raise PETError(f"DoseReductionFactor is {factor:g}, expected 1 to 1000")
    return factor


def _number(text: str, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise PETError(f"{column} is {text.strip() or 'missing'!r}, expected a number")
    return value


def sidecar_of_row(row: Mapping[str, str]) -> dict[str, Any]:
    """Return the PET-BIDS keys of one file from its row of the published CSV, as `pipeline.pet.read_pet` takes them.

    Raises
    ------
    PETError
        If units or decay correction are not known, or a number is missing.
    """
    units = _UNITS.get(row["ImageUnits"].strip().lower())
    if units is None:
        raise PETError(f"ImageUnits is {row['ImageUnits'].strip() or 'missing'!r}, expected BQML")
    correction = row["DecayCorrection"].strip().upper()
    if correction not in {"START", "ADMIN"}:
        raise PETError(f"DecayCorrection is {correction or 'missing'}, expected START or ADMIN")
    uptake = _number(row["TimeFromInjectionToAcquisition_s"], "TimeFromInjectionToAcquisition_s")
    sidecar = {
        "Units": units,
        "BodyWeight": _number(row["PatientWeight_kg"], "PatientWeight_kg"),
        "TracerName": row["RadiopharmaceuticalName"].strip(),
        "RadionuclideHalfLife": _number(row["RadionuclideHalfLife_s"], "RadionuclideHalfLife_s"),
        "InjectedRadioactivity": _number(row["RadionuclideTotalDose_Bq"], "RadionuclideTotalDose_Bq"),
        "InjectedRadioactivityUnits": "Bq",
        "TimeZero": "ScanStart",
        "ScanStart": 0.0,
        "InjectionStart": -uptake,
        "ImageDecayCorrected": True,
        "ImageDecayCorrectionTime": 0.0 if correction == "START" else -uptake,
        "Manufacturer": row.get("Manufacturer", "").strip(),
        "ManufacturersModelName": row.get("ManufacturerModelName", "").strip(),
        "ReconMethodName": row.get("ReconstructionMethod", "").strip(),
    }
    return {key: value for key, value in sidecar.items() if value != ""}
