"""The subjects to measure on: one or several cohorts of simulated subjects, of any voxel size, at the same doses."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.data import cohort_items, dose_keys
from pipeline.errors import PETError, naming

__all__ = ["cohort_name_of", "subjects_of_cohorts"]


def subjects_of_cohorts(folders: Sequence[str | Path]) -> list[dict[str, str]]:
    """Items of all cohorts as :func:`pipeline.data.cohort_items` makes them, named ``COHORT/sub-NNNN`` if several.

    Raises
    ------
    PETError
        If no folder is given, one is given twice, two have one name, one holds no simulated subjects, or the doses
        of two differ.
    """
    if not folders:
        raise PETError("no cohort was given, expected a folder of simulated subjects")
    paths = [Path(folder) for folder in folders]
    names: dict[str, Path] = {}
    items: list[dict[str, str]] = []
    for path in paths:
        with naming(path):
            found = cohort_items(sorted(path.glob("sub-*")))
            name = cohort_name_of(path)
            if name in names:
                raise PETError(f"has the name of {names[name]}, expected different cohorts with different names")
            names[name] = path
            if items and dose_keys(found[0]) != dose_keys(items[0]):
                raise PETError(
                    f"has {', '.join(dose_keys(found[0]))}, expected {', '.join(dose_keys(items[0]))} as in {paths[0]}"
                )
        prefix = f"{name}/" if len(paths) > 1 else ""
        items.extend({**item, "subject": prefix + item["subject"]} for item in found)
    return items


def cohort_name_of(folder: str | Path) -> str:
    """Name of a cohort: that of its folder."""
    return Path(folder).resolve().name
