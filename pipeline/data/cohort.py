"""Items of a simulated cohort, as MONAI datasets want them."""

import re
from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import PETError
from pipeline.simulation.low_dose import dose_from_entity

__all__ = ["cohort_items", "dose_keys"]

_LOW_DOSE = re.compile(r"_rec-(drf[0-9p]+)_pet\.nii\.gz$")


def cohort_items(subject_folders: Iterable[str | Path]) -> list[dict[str, str]]:
    """One item per simulated subject: paths of its images.

    Returns
    -------
    list of dict
        Keys ``label`` (full dose), ``full_repeat`` (an independent full-dose draw), ``noise_free``, ``lesions``
        and ``organs`` (their labels), ``subject`` (its name) and ``drf004``, ``drf007p5``, ... for each dose.

    Raises
    ------
    PETError
        If a folder lacks an image, or holds other dose reduction factors than the first one.
    """
    items = []
    for folder in sorted(Path(f) for f in subject_folders):
        name = folder.name
        pet = folder / "pet"
        paths = {
            "label": pet / f"{name}_rec-full_pet.nii.gz",
            "full_repeat": pet / f"{name}_rec-fullrepeat_pet.nii.gz",
            "noise_free": pet / f"{name}_rec-noisefree_pet.nii.gz",
            "lesions": pet / f"{name}_desc-lesions_mask.nii.gz",
            "organs": pet / f"{name}_desc-organs_dseg.nii.gz",
        }
        for path in sorted(pet.glob(f"{name}_rec-drf*_pet.nii.gz")):
            if match := _LOW_DOSE.search(path.name):
                paths[match[1]] = path
        for path in paths.values():
            if not path.is_file():
                raise PETError(f"{folder}: image {path.name} is missing, expected a simulated subject")
        items.append({"subject": name, **{key: str(path) for key, path in paths.items()}})
    if not items:
        raise PETError("no simulated subjects were given, expected folders named sub-*")
    for item in items[1:]:
        if dose_keys(item) != dose_keys(items[0]):
            raise PETError(
                f"{item['subject']}: has {', '.join(dose_keys(item))}, expected {', '.join(dose_keys(items[0]))}"
                f" as in {items[0]['subject']}"
            )
    return items


def dose_keys(item: Iterable[str]) -> dict[str, float]:
    """Keys of an item's low-dose images -> dose reduction factor, in rising order."""
    factors = {key: factor for key in item if (factor := dose_from_entity(key)) is not None}
    return dict(sorted(factors.items(), key=lambda pair: pair[1]))
