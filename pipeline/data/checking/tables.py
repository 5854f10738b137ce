"""A data set as tables: what it holds, what was left out, what is wrong, and how noisy each dose is."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import pandas as pd

from pipeline.data.checking.finding import Problem
from pipeline.data.manifest import Manifest, Split, Subject, read_image
from pipeline.images.noise import high_pass_energy, high_pass_energy_table

__all__ = ["exclusion_table", "noise_table", "problem_table", "summary_table"]


def summary_table(manifest: Manifest) -> pd.DataFrame:
    """Return one row per split and one for all, with the numbers of subjects, patients and images of each dose.

    Columns are ``subjects``, ``patients``, ``tracers``, ``scanners`` and one per dose reduction factor.
    """
    groups: dict[str, tuple[Subject, ...]] = {split: manifest.of_split(split) for split in get_args(Split)}
    groups["all"] = manifest.subjects
    rows = {}
    for name, subjects in groups.items():
        doses = Counter(image.dose_reduction_factor for s in subjects for image in s.images if image.role == "dose")
        rows[name] = {
            "subjects": len(subjects),
            "patients": len({subject.patient for subject in subjects}),
            "tracers": ", ".join(sorted({subject.tracer for subject in subjects if subject.tracer})),
            "scanners": ", ".join(sorted({subject.scanner for subject in subjects if subject.scanner})),
            **{f"DRF {factor:g}": n for factor, n in sorted(doses.items())},
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    factors = sorted((c for c in table.columns if c.startswith("DRF ")), key=lambda column: float(column[4:]))
    others = [column for column in table.columns if column not in factors]
    return table[[*others, *factors]].fillna(0).astype(dict.fromkeys(factors, int))


def exclusion_table(manifest: Manifest) -> pd.DataFrame:
    """Return one row per exclusion: subject, excluded part (a dose, a path, or all) and reason."""
    rows = [
        {
            "subject": exclusion.subject,
            "what": exclusion.path
            or ("all" if exclusion.is_whole else f"dose reduction factor {exclusion.dose_reduction_factor:g}"),
            "reason": exclusion.reason,
        }
        for exclusion in manifest.exclusions
    ]
    return pd.DataFrame(rows, columns=["subject", "what", "reason"])


def problem_table(problems: Iterable[Problem]) -> pd.DataFrame:
    """Return the problems as a table with columns kind, subject, path and detail."""
    return pd.DataFrame([asdict(problem) for problem in problems], columns=list(Problem.__dataclass_fields__))


def noise_table(
    manifest: Manifest, root: str | Path, *, progress: Callable[[int, int], object] | None = None
) -> pd.DataFrame:
    """Return medians of the high-pass energy by scanner and dose, under the published rows of two scanners.

    It takes about two seconds for an image of 96 x 96 x 192 voxels of 5 mm, a minute for a total-body scan at 1.65 mm.
    `progress` is called with the number of subjects done and of all.

    Raises
    ------
    PETError
        If an image cannot be read as SUVbw.
    """
    measured: dict[str, list[dict[float, float]]] = defaultdict(list)
    for n_done, subject in enumerate(manifest.subjects, start=1):
        values = {}
        for image in (subject.full_dose, *subject.low_dose):
            series = read_image(image, root)
            values[image.dose_reduction_factor] = high_pass_energy(series.suv, voxel_size=series.voxel_size)
        voxels = " x ".join(f"{size:.3g}" for size in series.voxel_size)
        measured[f"{subject.scanner or 'unknown scanner'}, {voxels} mm"].append(values)
        if progress is not None:
            progress(n_done, len(manifest.subjects))
    return high_pass_energy_table(measured)
