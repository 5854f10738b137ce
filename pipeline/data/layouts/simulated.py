"""Simulated cohorts, as `pipeline.simulation.simulate_cohort` writes them: ``<cohort>/sub-0001/pet/...``."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.data.layouts.found_session import FoundSession, file_at, files_below, identifier, relative
from pipeline.data.manifest import Exclusion, Image, Role, Split

__all__ = ["find_simulated"]

_RECORD = "_simulation.json"
_PER_GROUP = 8
_ROLES: dict[str, Role] = {
    "rec-full": "dose",
    "rec-fullrepeat": "full_repeat",
    "rec-noisefree": "noise_free",
    "desc-truth": "truth",
}


def find_simulated(root: Path, units: str | None) -> Iterator[FoundSession]:
    """Find every simulated subject below a folder.

    The patient is the subject's seed: the same seed on another scanner is the same patient. Of every eight subjects
    of a cohort the seventh is for validation and the eighth for testing, so that a cohort that grows moves none.
    """
    for record in files_below(root, f"sub-*{_RECORD}"):
        name = record.name.removesuffix(_RECORD)
        if record.parent.name == "pet" and record.parent.parent.name == name:
            yield _session(name, record, root)


def _session(name: str, record: Path, root: Path) -> FoundSession:
    folder = record.parent
    id_ = identifier(*folder.parent.relative_to(root).parts) if folder.parent != root else name
    try:
        seed = int(_json(record)["request"]["seed"])
        images = [_image(path, name, root) for path in sorted(folder.glob(f"{name}_*_pet.nii.gz"))]
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        reason = f"not a whole simulated subject ({type(error).__name__}: {error})"
        return FoundSession(id=id_, name=name, patient=id_, left_out=(Exclusion(subject=id_, reason=reason),))
    left_out = []
    if not any(image.role == "dose" and image.dose_reduction_factor == 1 for image in images):
        left_out.append(Exclusion(subject=id_, reason=f"no {name}_rec-full_pet.nii.gz"))
    return FoundSession(
        id=id_,
        name=name,
        patient=f"seed-{seed}",
        split=_split(name),
        images=tuple(images),
        lesions=file_at(folder / f"{name}_desc-lesions_mask.nii.gz", root),
        organs=file_at(folder / f"{name}_desc-organs_dseg.nii.gz", root),
        attenuation=file_at(folder / f"{name}_desc-attenuation_map.nii.gz", root),
        left_out=tuple(left_out),
    )


def _split(name: str) -> Split:
    number = int(name.removeprefix("sub-")) if name.removeprefix("sub-").isdecimal() else 1
    rest = number % _PER_GROUP
    return "test" if rest == 0 else "validation" if rest == _PER_GROUP - 1 else "train"


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _image(path: Path, name: str, root: Path) -> Image:
    entity = path.name.removeprefix(f"{name}_").removesuffix("_pet.nii.gz")
    role = _ROLES.get(entity, "dose")
    factor = 1.0
    if entity not in _ROLES:
        factor = float(_json(path.with_name(path.name.removesuffix(".nii.gz") + ".json"))["DoseReductionFactor"])
    return Image(path=relative(path, root), role=role, dose_reduction_factor=factor)
