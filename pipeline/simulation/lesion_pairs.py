"""Matched scans of the same patients with and without lesions at known places, on disk, for studies of detection."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline import __version__
from pipeline.engine import Workers, run_tasks
from pipeline.errors import PETError
from pipeline.files import locked_folder, new_folder, remove_unfinished, write_json
from pipeline.pet import PETSeries, write_nifti
from pipeline.simulation.cohort import subject_seed
from pipeline.simulation.lesion_places import (
    SEPARATION,
    SITES,
    Place,
    PlacedLesion,
    centers_seen,
    find_places,
    with_lesions,
)
from pipeline.simulation.low_dose import check_dose_reduction_factors, dose_entity
from pipeline.simulation.patient.organs import ORGAN_LABELS
from pipeline.simulation.patient.phantom import Phantom, make_phantom
from pipeline.simulation.scanner.acquisition import Acquisition
from pipeline.simulation.scanner.calibration import calibrated_scale, draw_counts
from pipeline.simulation.scanner.presets import scanner_preset
from pipeline.simulation.scanner.reconstruction import SystemModel, system_model
from pipeline.simulation.scanner.scanner import Scanner
from pipeline.simulation.subject import measured_liver
from pipeline.simulation.subject_folder import GENERATOR, is_complete, scan_header, subject_record
from pipeline.tables import SUBJECT_COLUMN, write_table

__all__ = ["ABSENT", "CONTRASTS", "LesionPairs", "PairedPatient", "simulate_lesion_pairs"]

ABSENT = "absent"
"""Name of the scans without lesions."""

_BELOW_DOME = 0.6  # of the scan's length lies below the top of the liver
_GENERATOR = 1  # goes up when the same seed gives other images
_COLUMNS = {
    "scan": "name of a scan of the subject: without lesions, or with those of one kind at each place",
    "place": "number of the place, the same in all scans",
    "site": "organ that the place lies in",
    "diameter": "diameter of the lesion there, n/a without one [mm]",
    "level": "faint or clear, n/a without a lesion",
    "contrast": "uptake of the lesion over that of the place without it",
    "background": "uptake of the place without a lesion [g/mL]",
    "x": "centre from that of voxel (0, 0, 0), +x is the patient's right [mm]",
    "y": "centre from that of voxel (0, 0, 0), +y is anterior [mm]",
    "z": "centre from that of voxel (0, 0, 0), +z is superior [mm]",
}

CONTRASTS: Mapping[str, Mapping[float, tuple[float, float]]] = {
    "liver": {7.0: (0.8, 1.8), 10.0: (0.35, 0.8), 14.0: (0.2, 0.45)},
    "lung": {7.0: (2.0, 4.5), 10.0: (0.9, 2.2), 14.0: (0.35, 0.8)},
    "bone": {7.0: (0.7, 1.6), 10.0: (0.5, 1.1), 14.0: (0.3, 0.75)},
}
"""Organ -> diameter [mm] -> a faint and a clear contrast: what the lesion has more than its background, relative to it.
Set so that the observer's area under the ROC for the noisy scans of a twentieth of the dose lies about .7 and .9."""


@dataclass(frozen=True)
class LesionPairs:
    """What to simulate: patients, each with several well separated places, scanned with and without lesions there.

    Each scan has its own counts. Every place has another size and contrast in each scan with lesions.
    """

    n_patients: int = 16
    seed: int = 50000
    scanner: str = "vereos"
    """Name of a preset."""
    dose_reduction_factors: tuple[float, ...] = (4.0, 20.0, 100.0)
    axial_extent: float = 220.0
    """Length of the scans, around the top of the liver [mm]."""
    n_present: int = 2
    """Scans with lesions for each scan without, at every dose."""
    contrasts: Mapping[str, Mapping[float, tuple[float, float]]] = field(default_factory=lambda: CONTRASTS)
    """As in `CONTRASTS`."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the scans at each dose."""
        return (ABSENT, *(f"present{k + 1}" for k in range(self.n_present)))

    def patient_seed(self, index: int) -> int:
        """Return the seed of a patient, counted from 0: a longer study begins with the shorter one."""
        return subject_seed(self.seed, index)

    def request(self, index: int) -> dict[str, Any]:
        """Return what fixes a patient's bytes, as JSON reads it back."""
        scanner = scanner_preset(self.scanner).covering(self.axial_extent)
        request = {
            "generator": GENERATOR,
            "lesion_pairs": _GENERATOR,
            "seed": self.patient_seed(index),
            "index": index,
            "scanner": asdict(scanner),
            "dose_reduction_factors": list(check_dose_reduction_factors(self.dose_reduction_factors)),
            "n_present": self.n_present,
            "contrasts": self.contrasts,
        }
        return json.loads(json.dumps(request))


@dataclass(frozen=True)
class PairedPatient:
    """The scans of one patient on disk."""

    folder: Path

    @property
    def name(self) -> str:
        """Such as sub-0001."""
        return self.folder.name

    def scan(self, name: str, factor: float) -> Path:
        """Return the path of a scan of a name of `LesionPairs.names` at a dose."""
        return self.folder / "pet" / f"{self.name}_desc-{name}_rec-{dose_entity(factor)}_pet.nii.gz"

    @property
    def noise_free(self) -> Path:
        """Path of the reconstruction of the expected counts without lesions."""
        return self.folder / "pet" / f"{self.name}_desc-{ABSENT}_rec-noisefree_pet.nii.gz"

    def files(self) -> list[Path]:
        """Return every file of the patient, sorted."""
        return sorted((self.folder / "pet").iterdir())

    def lesions(self) -> pd.DataFrame:
        """Return a row for each scan's name and place.

        Columns: scan, place, site, diameter [mm], level (faint or clear), contrast, background [g/mL], and the centre
        x, y, z from that of voxel (0, 0, 0) [mm]. In scans without lesions diameter, level and contrast are missing.
        What was written by later versions than 0.3.0 has the column subject, too.

        Raises
        ------
        PETError
            If the table cannot be read.
        """
        path = self.folder / "pet" / f"{self.name}_lesions.tsv"
        try:
            return pd.read_csv(path, sep="\t", na_values="n/a")
        except (OSError, ValueError) as error:
            raise PETError(f"{path}: cannot be read ({error}), expected a table of places") from error


def simulate_lesion_pairs(
    folder: str | Path,
    study: LesionPairs,
    *,
    jobs: Workers | int = 1,
    progress: Callable[[int, int], object] | None = None,
) -> list[PairedPatient]:
    """Simulate the patients of a study, ``sub-0001``, ``sub-0002``, ... into a folder; those already there are kept.

    An interrupted run goes on where it stopped. `jobs` is the number of processes; `progress` is called with the number
    of finished patients and of all, after each and for those kept.

    Raises
    ------
    PETError
        If a patient is there that was made otherwise, another run is writing, or an argument is out of range.
    """
    folder = Path(folder)
    _check(study)
    made = [PairedPatient(folder / f"sub-{i + 1:04d}") for i in range(study.n_patients)]
    with locked_folder(folder, "simulating into it"):
        remove_unfinished(folder)
        missing = [i for i, patient in enumerate(made) if not is_complete(patient.folder, study.request(i))]
        n_done = study.n_patients - len(missing)
        tasks = [partial(_write_patient, made[i].folder, study, i) for i in missing]
        if progress is not None and n_done:
            progress(n_done, study.n_patients)
        for _ in run_tasks(tasks, where=jobs):
            n_done += 1
            if progress is not None:
                progress(n_done, study.n_patients)
    return made


def _check(study: LesionPairs) -> None:
    if study.n_patients < 1 or study.n_present < 1:
        raise PETError(f"n_patients {study.n_patients}, n_present {study.n_present}: expected at least 1")
    if unknown := [site for site in study.contrasts if site not in SITES]:
        raise PETError(f"contrasts: {unknown[0]!r} is no place for lesions, expected one of {', '.join(SITES)}")
    for site, sizes in study.contrasts.items():
        for diameter, levels in sizes.items():
            if not (0 < diameter < SEPARATION and min(levels) > 0):
                raise PETError(
                    f"contrasts: {site} has lesions of {diameter:g} mm with contrasts {levels}, expected diameters "
                    f"above 0 and below {SEPARATION:g} mm and contrasts above 0"
                )


def _around_the_dome(patient: Phantom, scanner: Scanner) -> Phantom:
    """Return the part of a patient that a scan around the top of the liver sees."""
    n, factor = scanner.matrix[2] * scanner.supersampling, scanner.supersampling
    of_liver = np.flatnonzero((patient.labels == ORGAN_LABELS["liver"]).any(axis=(0, 1)))
    if not len(of_liver):
        raise PETError("no voxel of the liver lies in the field of view, expected it there")
    start = int(np.clip(of_liver[-1] - _BELOW_DOME * n, 0, patient.labels.shape[2] - n)) // factor * factor
    return patient.slices(slice(start, start + n))


def _lesions_of(places: Sequence[Place], study: LesionPairs, *, index: int) -> list[list[tuple[PlacedLesion, str]]]:
    """Return the lesions of each scan with some, and their levels: sizes and contrasts take turns at each place."""
    scans: list[list[tuple[PlacedLesion, str]]] = []
    for run in range(study.n_present):
        lesions = []
        count: dict[str, int] = {}
        for place in places:
            sizes = study.contrasts[place.site]
            kinds = [(d, level) for d in sizes for level in (0, 1)]
            k = count.setdefault(place.site, 0)
            # An odd step between runs: the other contrast, and another size.
            diameter, level = kinds[(k + index + run * (len(kinds) // 2)) % len(kinds)]
            count[place.site] += 1
            lesions.append((PlacedLesion(place, diameter, sizes[diameter][level]), ("faint", "clear")[level]))
        scans.append(lesions)
    return scans


def _write_patient(folder: Path, study: LesionPairs, index: int) -> None:
    """Simulate one patient and write the scans."""
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(study.patient_seed(index)).spawn(5)]
    for_phantom, for_places, for_level, for_trial, for_counts = streams
    whole = scanner_preset(study.scanner)
    scanner = whole.covering(study.axial_extent)
    model = system_model(scanner)
    patient = make_phantom(for_phantom, shape=whole.object_shape, voxel_size=whole.object_voxel_size, n_lesions=0)
    patient = _around_the_dome(patient, scanner)
    n_kinds = max(2 * len(sizes) for sizes in study.contrasts.values())
    places = [p for p in find_places(patient, for_places, n_per_site=n_kinds) if p.site in study.contrasts]
    truth = patient.coarser(scanner.supersampling)
    healthy = model.acquire(*patient.averaged_over_a_breath(), correction_map=truth.correction_map())
    cov = float(for_level.uniform(*scanner.liver_cov))
    scale = calibrated_scale(model, healthy, measured_liver(truth), liver_cov=cov, rng=for_trial)
    placed = _lesions_of(places, study, index=index)
    table = _table(places, placed, centers_seen(patient, places), scanner, study)
    made = PairedPatient(folder)
    with new_folder(folder) as temporary:
        pet = temporary / "pet"
        pet.mkdir()

        def write(path: Path, suv: np.ndarray, factor: float, meaning: str) -> None:
            header = scan_header(truth, scanner, dose_reduction_factor=factor)
            note = f"Simulated {truth.tracer.name} PET, {meaning}, scanner {scanner.name}, unipet_3d {__version__}."
            series = PETSeries(suv=suv, affine=scanner.affine, header=header, provenance=(note,))
            write_nifti(series, pet / path.name, extra={"Description": meaning, "DoseReductionFactor": factor})

        expected = [healthy.expected(k) * np.float32(scale) for k in range(scanner.n_subsets)]
        write(made.noise_free, model.reconstruct(expected, healthy, scale=scale), 1.0, "expected counts, no lesion")
        del expected
        for name, acquisition in _acquisitions(model, patient, truth, healthy, placed):
            for factor in check_dose_reduction_factors(study.dose_reduction_factors):
                counts = draw_counts(acquisition, scale / factor, for_counts)
                image = model.reconstruct(counts, acquisition, scale=scale / factor)
                write(made.scan(name, factor), image, factor, f"lesions {name}, dose reduced by {factor:g}")
        table.insert(0, "subject", made.name)
        write_table(table, pet / f"{made.name}_lesions.tsv", columns=SUBJECT_COLUMN | _COLUMNS)
        said = {"liver_cov_target": round(cov, 5), "counts_per_suv_mm": scale, "body_weight": truth.body_weight}
        write_json(pet / f"{made.name}_simulation.json", subject_record(study.request(index), said, pet))


def _acquisitions(
    model: SystemModel,
    patient: Phantom,
    truth: Phantom,
    healthy: Acquisition,
    placed: Sequence[Sequence[tuple[PlacedLesion, str]]],
) -> Iterator[tuple[str, Acquisition]]:
    """Yield the name and the expected data of the scan without lesions and of those with them."""
    yield ABSENT, healthy
    for run, lesions in enumerate(placed):
        ill = with_lesions(patient, [lesion for lesion, _ in lesions])
        yield (
            f"present{run + 1}",
            model.acquire(*ill.averaged_over_a_breath(), correction_map=truth.correction_map()),
        )


def _table(
    places: Sequence[Place],
    placed: Sequence[Sequence[tuple[PlacedLesion, str]]],
    centers: np.ndarray,
    scanner: Scanner,
    study: LesionPairs,
) -> pd.DataFrame:
    """Return the table of `PairedPatient.lesions`."""
    # The first voxel of the image begins where that of the finer object does.
    shift = (scanner.supersampling - 1) / 2 * np.array(scanner.object_voxel_size)
    rows = []
    for name, lesions in zip(study.names, [None, *placed], strict=True):
        for i, place in enumerate(places):
            row: dict[str, Any] = {"scan": name, "place": i, "site": place.site, "background": place.background}
            row |= dict(zip("xyz", centers[i] - shift, strict=True))
            if lesions is not None:
                lesion, level = lesions[i]
                row |= {"diameter": lesion.diameter, "level": level, "contrast": lesion.contrast}
            rows.append(row)
    return pd.DataFrame(rows, columns=list(_COLUMNS))
