"""A simulated subject on disk: a BIDS-like folder that is either complete or not there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from pipeline import __version__
from pipeline.errors import PETError
from pipeline.files import image_stream, new_folder, replaced_file, write_json
from pipeline.pet import DicomOptions, PETHeader, PETSeries, write_dicom_series, write_nifti
from pipeline.pet.suv.nuclides import HALF_LIFE
from pipeline.simulation.low_dose import DoseMode, dose_entity
from pipeline.simulation.patient.lesions import LESION_COLUMNS
from pipeline.simulation.patient.organs import ORGAN_LABELS
from pipeline.simulation.patient.phantom import Phantom
from pipeline.simulation.patient.uptake import Tracer
from pipeline.simulation.scanner.scanner import Scanner
from pipeline.simulation.subject import SimulatedSubject
from pipeline.tables import SUBJECT_COLUMN, write_table

__all__ = ["GENERATOR", "is_complete", "scan_header", "subject_record", "subject_request", "write_subject"]

_FULL_FRAME_DURATION = 150.0  # [s] per bed position at full dose
_REQUEST = "request"
_FILES = "files"
GENERATOR = 5
"""Goes up when the same seed gives other images, so that cohorts of two kinds are never mixed."""


def subject_request(
    *,
    seed: int,
    scanner: Scanner,
    tracer: Tracer,
    dose_reduction_factors: Sequence[float],
    dose_mode: DoseMode,
    n_lesions: int | None,
    axial_extent: float | None = None,
    references: bool = True,
) -> dict[str, Any]:
    """Return what fixes a subject's bytes, as JSON reads it back."""
    request = {
        "generator": GENERATOR,
        "tracer": tracer.name,
        "seed": seed,
        "scanner": asdict(scanner.covering(axial_extent)),
        "axial_extent": axial_extent,
        "dose_reduction_factors": [float(f) for f in sorted(dose_reduction_factors)],
        "dose_mode": dose_mode,
        "n_lesions": n_lesions,
        "references": references,
    }
    return json.loads(json.dumps(request))


def scan_header(
    patient: Phantom, scanner: Scanner, *, dose_reduction_factor: float, dose_mode: DoseMode = "shorter_scan"
) -> PETHeader:
    """Return the attributes of a scan of this patient at a dose."""
    tracer, weight = patient.tracer, round(patient.body_weight, 1)
    shorter = dose_mode == "shorter_scan"
    psf = " with PSF" if scanner.models_psf else ""
    tof = " and time of flight" if scanner.tof_fwhm is not None else ""
    return PETHeader(
        units="GML",
        decay_correction="START",
        patient_weight=weight,
        patient_height=round(patient.physique.height, 2),
        patient_sex=patient.physique.sex,
        radionuclide=tracer.radionuclide,
        radiopharmaceutical=tracer.name,
        radionuclide_half_life=HALF_LIFE[tracer.radionuclide],
        injected_dose=tracer.injected_activity(weight) / (1 if shorter else dose_reduction_factor),
        administration_time=-tracer.uptake_time,
        reference_time=0.0,
        frame_duration=round(_FULL_FRAME_DURATION / (dose_reduction_factor if shorter else 1), 3),
        manufacturer="simulated",
        model_name=scanner.name,
        reconstruction_method=(
            f"OSEM {scanner.n_iterations}i{scanner.n_subsets}s{psf}{tof}, {scanner.post_filter:g} mm Gaussian"
        ),
    )


def _write_volume(volume: np.ndarray, affine: np.ndarray, path: Path) -> None:
    """Write labels or attenuation."""
    image = nib.Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm", "sec")
    with replaced_file(path) as temporary, image_stream(temporary) as stream:
        image.to_stream(stream)


@dataclass(frozen=True)
class _Image:
    """One PET image of a subject."""

    entity: str
    """Its part of the file's name."""
    suv: np.ndarray
    """SUVbw [g/mL], shape (X, Y, Z)."""
    meaning: str
    """In a few words."""
    dose_reduction_factor: float | None = None
    """None for what has no noise."""

    def sidecar(self, scanner: Scanner) -> dict[str, Any]:
        """Return what the sidecar says beyond the header: the dose, and what PET-BIDS requires of every image."""
        dose = {} if self.dose_reduction_factor is None else {"DoseReductionFactor": self.dose_reduction_factor}
        unknown = ("InjectedMass", "InjectedMassUnits", "SpecificRadioactivity", "SpecificRadioactivityUnits")
        return {
            **dose,
            "Description": self.meaning,
            **dict.fromkeys(unknown, "n/a"),
            "ModeOfAdministration": "bolus",
            "AcquisitionMode": "static",
            "ReconMethodParameterLabels": ["iterations", "subsets"],
            "ReconMethodParameterUnits": ["none", "none"],
            "ReconMethodParameterValues": [scanner.n_iterations, scanner.n_subsets],
            "ReconFilterType": "Gaussian" if scanner.post_filter else "none",
            "ReconFilterSize": scanner.post_filter,
        }


def _images(subject: SimulatedSubject) -> list[_Image]:
    images = [_Image("rec-full", subject.full_dose, "full dose", 1.0)]
    if subject.noise_free is not None and subject.full_dose_repeat is not None:
        images += [
            _Image("desc-truth", subject.truth.activity, "true uptake"),
            _Image("rec-noisefree", subject.noise_free, "reconstruction of the expected counts"),
            _Image("rec-fullrepeat", subject.full_dose_repeat, "independent draw of the full counts", 1.0),
        ]
    for factor, image in subject.low_dose.items():
        images.append(_Image(f"rec-{dose_entity(factor)}", image, f"dose reduced by {factor:g}", factor))
    return images


def write_subject(subject: SimulatedSubject, folder: str | Path, *, dicom: bool = False) -> Path:
    """Write a subject as a new folder, whose name begins every file's name.

    Images lie in ``pet/`` as float32 SUVbw with JSON sidecars: ``rec-full``, ``rec-fullrepeat``, ``rec-noisefree``,
    ``rec-drf004``, ``rec-drf007p5``, ... and ``desc-truth``; labels as ``desc-lesions_mask`` and
    ``desc-organs_dseg``; the attenuation map [1/mm] as ``desc-attenuation_map``; the lesions' true values as
    ``lesions.tsv``, with its dictionary; every parameter as ``simulation.json``. A subject without references has the
    doses and the lesions.

    `folder` is new or empty, such as ``sub-0001``, in an existing folder; it is returned. With `dicom` each PET image
    is also written as a DICOM series in Bq/mL, to ``dicom/rec-full/`` and so on. All series of a subject share a study;
    their UIDs follow from what was simulated.

    Raises
    ------
    PETError
        If the folder holds something, or its parent is missing.
    """
    folder, patient, affine = Path(folder), subject.truth, subject.scanner.affine
    note = (
        f"Simulated {patient.tracer.name} PET, seed {subject.seed}, scanner {subject.scanner.name}, "
        f"unipet_3d {__version__}."
    )
    request = subject_request(
        seed=subject.seed,
        scanner=subject.scanner,
        tracer=patient.tracer,
        dose_reduction_factors=tuple(subject.low_dose),
        dose_mode=subject.dose_mode,
        n_lesions=subject.n_lesions_requested,
        axial_extent=subject.axial_extent,
        references=subject.has_references,
    )
    with new_folder(folder) as temporary:
        pet = temporary / "pet"
        pet.mkdir()
        stem = pet / folder.name
        for image in _images(subject):
            factor = image.dose_reduction_factor or 1.0
            header = scan_header(patient, subject.scanner, dose_reduction_factor=factor, dose_mode=subject.dose_mode)
            series = PETSeries(suv=image.suv, affine=affine, header=header, provenance=(note,))
            write_nifti(series, f"{stem}_{image.entity}_pet.nii.gz", extra=image.sidecar(subject.scanner))
            if dicom:
                (temporary / "dicom").mkdir(exist_ok=True)
                write_dicom_series(
                    series,
                    temporary / "dicom" / image.entity,
                    description=f"Simulated, {image.meaning}",
                    subject_id=folder.name,
                    options=DicomOptions(uid_key=json.dumps([__version__, folder.name, request])),
                )
        _write_volume(patient.lesion_labels, affine, Path(f"{stem}_desc-lesions_mask.nii.gz"))
        if subject.has_references:
            _write_volume(patient.labels, affine, Path(f"{stem}_desc-organs_dseg.nii.gz"))
            _write_volume(patient.attenuation, affine, Path(f"{stem}_desc-attenuation_map.nii.gz"))
        lesions = subject.lesions
        lesions.insert(0, "subject", folder.name)
        write_table(lesions, f"{stem}_lesions.tsv", columns=SUBJECT_COLUMN | LESION_COLUMNS)
        said = {"organ_labels": dict(ORGAN_LABELS), **subject.parameters}
        write_json(Path(f"{stem}_simulation.json"), subject_record(request, said, pet))
    return folder


def subject_record(request: dict[str, Any], said: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return what `is_complete` asks a subject for, with what else is said of it: the request, and files and sizes."""
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    return {_REQUEST: request, "version": __version__, **said, _FILES: files}


def is_complete(folder: Path, request: dict[str, Any], *, dicom: bool = False) -> bool:
    """Return whether a subject is there, made exactly as requested.

    Raises
    ------
    PETError
        If something else is there.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    path = folder / "pet" / f"{folder.name}_simulation.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        found, sizes = record[_REQUEST], dict(record.get(_FILES, {}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PETError(f"{folder}: has no readable {path.name}, expected a simulated subject or nothing") from error
    for key, wanted in request.items():
        if found.get(key) != wanted:
            different = f"{key} {_brief(found.get(key), wanted)}, expected {_brief(wanted, found.get(key))}"
            raise PETError(f"{folder}: was simulated with {different}; choose another folder or remove it")
    for name, size in sizes.items():
        there = path.with_name(name).stat().st_size if path.with_name(name).is_file() else 0
        if there != size:
            raise PETError(f"{folder}: {name} has {there} bytes, expected {size}; remove the folder to make it anew")
    if dicom and not (folder / "dicom").is_dir():
        raise PETError(f"{folder}: was simulated without DICOM, expected it; choose another folder or remove it")
    return True


def _brief(value: Any, other: Any) -> str:
    """Return a value in one line; of two dictionaries only what differs."""
    if isinstance(value, dict) and isinstance(other, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items() if other.get(k) != v) or "otherwise the same"
    return str(value)
