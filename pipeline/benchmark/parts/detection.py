"""The part on detection: what a channelized Hotelling observer sees in a method's images, and in the noisy ones.

Patients are scanned with and without lesions at known places (`pipeline.simulation.lesion_pairs`). For each organ,
size and dose the observer has a template of its own, made of the other patients; areas under the ROC of several of them
together compare each lesion with empty places of its own organ only.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from pipeline.benchmark.definition import study_from
from pipeline.benchmark.work import Piece, Tables, Work
from pipeline.comparison import Method, noisy_input, with_dose
from pipeline.errors import PETError
from pipeline.evaluation import (
    PEAK_SUV,
    Answers,
    Channels,
    ask_observer,
    jackknife_interval,
    pooled_area,
    psnr,
)
from pipeline.pet import read_pet
from pipeline.simulation.lesion_pairs import ABSENT, LesionPairs, PairedPatient, simulate_lesion_pairs

__all__ = ["detection", "detection_rows", "observed_patient", "study_of"]

_FEWEST_PATIENTS = 4
_GROUPS: tuple[tuple[str, ...], ...] = ((), ("diameter",), ("level",), ("site",), ("diameter", "level"))
"""What a row's lesions have in common, besides the dose."""


def study_of(settings: Mapping[str, Any]) -> LesionPairs:
    """Return the study that settings of a benchmark describe; what they leave out is as in `LesionPairs`.

    Raises
    ------
    PETError
        If a setting is not known, or there are too few patients to leave one out.
    """
    study = study_from(LesionPairs, settings, part="detection")
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
    patients = simulate_lesion_pairs(work.simulated_root / "lesion_pairs", study, jobs=work.jobs)
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
) -> list[dict[str, Any]]:
    """Return areas under the ROC by dose, and at each dose by size, contrast and organ.

    Rows have dose_reduction_factor, diameter [mm], level and site (``all`` where they are together), n_lesions, auc
    with auc_low and auc_high, auc_gaussian (mean over the kinds of lesions of what d' gives), and gain with gain_low
    and gain_high: the area less that of the noisy input. Intervals of 95 % are of a jackknife over patients with the
    templates learnt anew, paired for the gain. Rows of all lesions of a dose have the psnr_noise_free [dB] of the scans
    without lesions as well, and auc_without_each, the areas without each patient: of two methods they are paired.

    `places` and `scans` are the tables of `observed_patient` of all patients; `input_places` are those of the input.
    """
    own, without_each = _with_jackknife(places)
    noisy = None if input_places is None else _with_jackknife(input_places)
    measured = pd.DataFrame(scans)
    rows = []
    for group, figures in own.items():
        areas = [each[group]["auc"] for each in without_each if group in each]
        low, high = jackknife_interval(figures["auc"], areas)
        low, high = max(low, 0.0), min(high, 1.0)
        row = dict(zip(("dose_reduction_factor", "diameter", "level", "site"), group, strict=True))
        row |= {**figures, "auc_low": low, "auc_high": high}
        if noisy is not None:
            pairs = [(a, b) for a, b in zip(without_each, noisy[1], strict=True) if group in a]
            gains = [a[group]["auc"] - b[group]["auc"] for a, b in pairs]
            gain = figures["auc"] - noisy[0][group]["auc"]
            low, high = jackknife_interval(gain, gains)
            row |= {"gain": gain, "gain_low": low, "gain_high": high}
        if group[1:] == ("all", "all", "all"):
            row["auc_without_each"] = areas
            if len(measured):
                of_dose = measured[measured["dose_reduction_factor"] == group[0]]
                row["psnr_noise_free"] = float(of_dose["psnr_noise_free"].mean())
        rows.append(row)
    return rows


Figures = dict[tuple[Any, ...], dict[str, Any]]
"""(Dose reduction factor, diameter, level, site), each but the first a value or ``all`` -> what was found."""


def _with_jackknife(places: Sequence[Mapping[str, Any]]) -> tuple[Figures, list[Figures]]:
    """Return the figures of all patients, and of all but each."""
    table = pd.DataFrame(places)
    patients = sorted(table["patient"].unique())
    return _figures(table), [_figures(table[table["patient"] != patient]) for patient in patients]


def _figures(table: pd.DataFrame) -> Figures:
    """Return the areas under the ROC of each dose, and of every group of its lesions."""
    kinds = _kinds(table)
    figures: Figures = {}
    for factor in sorted({key[0] for key in kinds}):
        for group in _GROUPS:
            members: dict[tuple[Any, ...], list[Answers]] = {}
            for key in sorted(key for key in kinds if key[0] == factor):
                members.setdefault(_labels(key, group), []).append(kinds[key])
            for labels, answers in members.items():
                figures[labels] = {
                    "n_lesions": sum(len(kind.present) for kind in answers),
                    "auc": pooled_area(answers),
                    "auc_gaussian": float(np.mean([kind.gaussian_area for kind in answers])),
                }
    return figures


def _labels(key: tuple[Any, ...], group: Sequence[str]) -> tuple[Any, ...]:
    factor, *kind = key
    return factor, *(v if n in group else "all" for n, v in zip(("diameter", "level", "site"), kind, strict=True))


def _kinds(table: pd.DataFrame) -> dict[tuple[Any, ...], Answers]:
    """Return what the observer answers for each dose, size, contrast and organ.

    A template is for both contrasts: they differ along the same direction, and twice the lesions are known.
    """
    empty = dict(list(table[table["scan"] == ABSENT].groupby(["dose_reduction_factor", "site"])))
    kinds = {}
    groups = table[table["scan"] != ABSENT].groupby(["dose_reduction_factor", "diameter", "site"])
    for (factor, diameter, site), rows in groups:
        without = empty[factor, site]
        answers = ask_observer(
            np.array(rows["responses"].tolist()),
            np.array(without["responses"].tolist()),
            patients_present=rows["patient"],
            patients_absent=without["patient"],
        )
        for level in rows["level"].unique():
            kinds[float(factor), float(diameter), level, site] = answers.to((rows["level"] == level).to_numpy())
    return kinds
