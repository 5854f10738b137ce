"""A manifest as the data list of the Medical Segmentation Decathlon, which MONAI and its examples read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.data.building.exclusions import without_excluded
from pipeline.data.manifest import Image, Manifest, Subject
from pipeline.errors import PETError, naming
from pipeline.pet.dicom.reading.reader import survey_series
from pipeline.pet.nifti import survey_nifti
from pipeline.pet.volumes import is_volume_name

__all__ = ["decathlon_datalist"]

_KEYS = {"training": "train", "validation": "validation", "test": "test"}


def decathlon_datalist(manifest: Manifest, root: str | Path) -> dict[str, Any]:
    """Return the pairs of a manifest by split, as `monai.data.load_decathlon_datalist` reads them from JSON.

    One item for each low dose: ``image`` and ``label`` (the full dose) are paths relative to the root, to be given as
    ``base_dir``; ``dose`` is the fraction of the full dose, ``dose_reduction_factor`` its inverse; ``suv`` and
    ``suv_label`` are what the voxels of each file have to be multiplied with to be SUVbw [g/mL], which differ between
    doses of one patient; headers below `root` are read for them. A subject of full dose only is an item with itself as
    image. What the manifest excludes is left out, and so are splits without subjects: MONAI cannot read an empty one.

    Raises
    ------
    PETError
        If there are no subjects, a factor cannot be told from the headers, or an image is a series of a study, which
        MONAI would not find.
    """
    subjects = without_excluded(manifest)
    if not subjects:
        raise PETError(f"{manifest.name}: has no subjects, expected a manifest that was built from data")
    items = {
        key: [item for subject in subjects if subject.split == split for item in _items(subject, Path(root))]
        for key, split in _KEYS.items()
    }
    return {
        "name": manifest.name,
        "description": manifest.title,
        "reference": manifest.source,
        "licence": manifest.licence.name,
        "tensorImageSize": "3D",
        "modality": {"0": "PET"},
        "numTraining": len(items["training"]),
        "numTest": len(items["test"]),
        **{key: value for key, value in items.items() if value},
    }


def _items(subject: Subject, root: Path) -> Iterator[dict[str, Any]]:
    full = subject.full_dose
    factor = _suv_factor(full, root)
    for image in subject.low_dose or (full,):
        yield {
            "image": image.path,
            "label": full.path,
            "dose": 1 / image.dose_reduction_factor,
            "dose_reduction_factor": image.dose_reduction_factor,
            "suv": factor if image is full else _suv_factor(image, root),
            "suv_label": factor,
            "tracer": subject.tracer,
            # MONAI takes a text for a path where a file of that name exists.
            "subject": f"{subject.patient}:{subject.id}",
        }


def _suv_factor(image: Image, root: Path) -> float:
    path = root / image.path
    with naming(path):
        if image.series is not None:
            raise PETError(f"a study of which series {image.series} is meant, expected a folder of that series alone")
        if is_volume_name(path):
            factor = survey_nifti(path, sidecar=image.sidecar)[0].factor
            return 1.0 if factor is None else factor
        common = survey_series(path, with_pixels=False).factor
        if common is None:
            raise PETError("every slice has an SUV factor of its own, expected one for the image")
        return common
