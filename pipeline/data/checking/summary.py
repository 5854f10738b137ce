"""A manifest in a few lines: how many subjects of which doses in which split, and what was left out."""

from collections import Counter

import pandas as pd

from pipeline.data.manifest import Manifest, Split, Subject

__all__ = ["exclusion_table", "summary_table"]

_SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def summary_table(manifest: Manifest) -> pd.DataFrame:
    """Return one row per split and one for all, with the numbers of subjects, patients and images of each dose.

    Returns
    -------
    pandas.DataFrame
        Columns ``subjects``, ``patients``, ``tracers``, ``scanners`` and one per dose reduction factor.
    """
    groups: dict[str, tuple[Subject, ...]] = {split: manifest.of_split(split) for split in _SPLITS}
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
    """Return one row per exclusion: subject, what of it (a dose, a path, or all) and why."""
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
