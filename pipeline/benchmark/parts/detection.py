"""The part on detection: what a channelized Hotelling observer sees in a method's images, and in the noisy ones.

Patients are scanned with and without lesions at known places (`pipeline.simulation.lesion_pairs`). For each organ,
size, contrast and dose the observer has a template of its own, made of the other patients; areas under the ROC of
several of them together compare each lesion with empty places of its own organ only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from pydantic import TypeAdapter, ValidationError

from pipeline.benchmark.work import Piece, Tables, Work
from pipeline.comparison import Method, noisy_input, with_dose
from pipeline.errors import PETError
from pipeline.evaluation import PEAK_SUV, Answers, Channels, Comparisons, ask_observer, psnr
from pipeline.pet import read_pet
from pipeline.simulation.lesion_pairs import ABSENT, LesionPairs, PairedPatient, simulate_lesion_pairs

__all__ = ["detection", "detection_rows", "observed_patient", "study_of"]

_FEWEST_PATIENTS = 4
_GROUPS: tuple[tuple[str, ...], ...] = ((), ("diameter",), ("level",), ("site",), ("diameter", "level"))
"""What a row's lesions have in common, besides the dose."""
_LEVEL = 0.95


def study_of(settings: Mapping[str, Any]) -> LesionPairs:
    """Return the study that settings of a benchmark describe; what they leave out is as in `LesionPairs`.

    Raises
    ------
    PETError
        If a setting is not known, or there are too few patients to leave one out.
    """
    known = [f.name for f in fields(LesionPairs)]
    if unknown := [name for name in settings if name not in known]:
        raise PETError(f"detection: {unknown[0]} is not known, expected {', '.join(known)}")
    try:
        study = TypeAdapter(LesionPairs).validate_python(dict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        raise PETError(f"detection: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if study.n_patients < _FEWEST_PATIENTS:
        raise PETError(f"detection: {study.n_patients} patients, expected at least {_FEWEST_PATIENTS}")
    return study


def detection(name: str, method: Method, work: Work) -> Tables:
    """Measure what the observer detects in a method's images, and how much more than in the noisy ones.

    The table ``detection`` has the rows of `detection_rows`. What is missing of the study is simulated.
    """
    if work.definition.detection is None:
        return {}
    study = study_of(work.definition.detection)
    patients = simulate_lesion_pairs(work.root / "lesion_pairs", study, jobs=work.jobs)
    own, noisy = (_observed(n, m, study, patients, work) for n, m in ((name, method), ("input", noisy_input)))
    return {"detection": detection_rows(own["places"], own["scans"], input_places=noisy["places"])}


def _observed(name: str, method: Method, study: LesionPairs, patients: Sequence[PairedPatient], work: Work) -> Tables:
    pieces = {}
    for i, patient in enumerate(patients):
        make = partial(observed_patient, patient, i, method, study)
        files = [(path.name, stat.st_size, stat.st_mtime_ns) for path in patient.files() if (stat := path.stat())]
        pieces[f"detection_{patient.name}"] = Piece(depends=[study.request(i), files], make=make)
    return work.tables(name, pieces, code=("benchmark/parts/detection",))


def observed_patient(patient: PairedPatient, number: int, method: Method, study: LesionPairs) -> Tables:
    """Apply a method to all scans of a patient, and look at every place.

    The table ``places`` has a row for each scan and place: patient, dose_reduction_factor, scan, site, diameter [mm]
    and level (None without a lesion), and the channels' responses. ``scans`` has the PSNR of the scans without lesions
    against noise-free [dB].
    """
    lesions = patient.lesions()
    truth = read_pet(patient.noise_free).suv
    places: list[dict[str, Any]] = []
    scans = []
    for factor in study.dose_reduction_factors:
        told = with_dose(method, factor)
        for scan, rows in lesions.groupby("scan", sort=False):
            image = told(read_pet(patient.scan(str(scan), factor)))
            responses = Channels().responses(image.suv, rows[["x", "y", "z"]], voxel_size=image.voxel_size)
            which = {"patient": number, "dose_reduction_factor": float(factor)}
            for row, response in zip(rows.to_dict("records"), responses, strict=True):
                kind = {"scan": scan, "site": row["site"], "diameter": None, "level": None}
                if scan != ABSENT:
                    kind |= {"diameter": float(row["diameter"]), "level": row["level"]}
                places.append({**which, **kind, "responses": response.tolist()})
            if scan == ABSENT:
                scans.append({**which, "psnr_noise_free": psnr(image.suv, truth, data_range=PEAK_SUV)})
    return {"places": places, "scans": scans}


def detection_rows(
    places: Sequence[Mapping[str, Any]],
    scans: Sequence[Mapping[str, Any]] = (),
    *,
    input_places: Sequence[Mapping[str, Any]] | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return areas under the ROC by dose, and at each dose by size, contrast and organ.

    Rows have dose_reduction_factor, diameter [mm], level and site (``all`` where they are together), n_lesions, auc
    with auc_low and auc_high, auc_gaussian (mean over the kinds of lesions of what d' gives), and gain with gain_low
    and gain_high: the area less that of the noisy input. Intervals of 95 % are bootstrap ones over patients, paired for
    the gain. Rows of all lesions of a dose have the psnr_noise_free [dB] of the scans without lesions as well.

    `places` and `scans` are the tables of `observed_patient` of all patients; `input_places` are those of the input.
    """
    own = _kinds(places)
    other = None if input_places is None else _kinds(input_places)
    measured = pd.DataFrame(scans)
    rows = []
    for factor in sorted({float(key[0]) for key in own}):
        for group in _GROUPS:
            members: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
            for key in sorted(own):
                if key[0] == factor:
                    members.setdefault(_labels(key, group), []).append(key)
            for labels, keys in members.items():
                row = dict(zip(("dose_reduction_factor", "diameter", "level", "site"), labels, strict=True))
                row |= _areas(own, other, keys, n_resamples=n_resamples, seed=seed)
                if not group and len(measured):
                    of_dose = measured[measured["dose_reduction_factor"] == factor]
                    row["psnr_noise_free"] = float(of_dose["psnr_noise_free"].mean())
                rows.append(row)
    return rows


def _labels(key: tuple[Any, ...], group: Sequence[str]) -> tuple[Any, ...]:
    factor, *kind = key
    return factor, *(v if n in group else "all" for n, v in zip(("diameter", "level", "site"), kind, strict=True))


def _kinds(places: Sequence[Mapping[str, Any]]) -> dict[tuple[Any, ...], Answers]:
    """Return what the observer answers for each dose, size, contrast and organ."""
    table = pd.DataFrame(places)
    n_patients = int(table["patient"].max()) + 1
    empty = dict(list(table[table["scan"] == ABSENT].groupby(["dose_reduction_factor", "site"])))
    with_lesion = table[table["scan"] != ABSENT]
    kinds = {}
    for key, rows in with_lesion.groupby(["dose_reduction_factor", "diameter", "level", "site"]):
        without = empty[key[0], key[3]]
        kinds[key] = ask_observer(
            np.array(rows["responses"].tolist()),
            np.array(without["responses"].tolist()),
            patients_present=rows["patient"],
            patients_absent=without["patient"],
            n_patients=n_patients,
        )
    return kinds


def _areas(
    own: Mapping[tuple[Any, ...], Answers],
    other: Mapping[tuple[Any, ...], Answers] | None,
    keys: Sequence[tuple[Any, ...]],
    *,
    n_resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Return the area of some kinds of lesions together, and its difference to that of another method."""
    together = _together([own[key] for key in keys])
    areas = together.resampled_areas(n_resamples=n_resamples, seed=seed)
    low, high = _interval(areas)
    found = {
        "n_lesions": sum(len(own[key].present) for key in keys),
        "auc": together.area,
        "auc_low": low,
        "auc_high": high,
        "auc_gaussian": float(np.mean([own[key].gaussian_area for key in keys])),
    }
    if other is not None:
        noisy = _together([other[key] for key in keys])
        low, high = _interval(areas - noisy.resampled_areas(n_resamples=n_resamples, seed=seed))
        found |= {"gain": together.area - noisy.area, "gain_low": low, "gain_high": high}
    return found


def _together(answers: Sequence[Answers]) -> Comparisons:
    """Return the comparisons of several kinds of lesions, none with empty places of another organ."""
    total = answers[0].comparisons
    for answer in answers[1:]:
        total += answer.comparisons
    return total


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.nanquantile(values, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)
