"""A simulated cohort described: its manifest and a picture of it."""

from collections.abc import Iterator
from pathlib import Path

from numpy.typing import NDArray

from pipeline.data import build_manifest, read_image
from pipeline.data.manifest import Manifest, Subject
from pipeline.files import replaced_file
from pipeline.report import montage_figure, montage_row

__all__ = ["describe_cohort"]

_SHOWN = 6
"""Subjects in the picture."""


def describe_cohort(folder: str | Path) -> Manifest:
    """Write ``manifest.yaml`` and ``montage.png`` into a folder of simulated subjects.

    Raises
    ------
    PETError
        If there is no subject, or one cannot be read.
    """
    folder = Path(folder)
    manifest = build_manifest("simulated", folder)
    manifest.write(folder / "manifest.yaml")
    rows = []
    for subject in manifest.subjects[:_SHOWN]:
        size = read_image(subject.full_dose, folder).voxel_size
        rows.append(montage_row(subject.id, _images(subject, folder), voxel_size=size))
    with replaced_file(folder / "montage.png") as temporary:
        temporary.write_bytes(montage_figure(rows))
    return manifest


def _images(subject: Subject, folder: Path) -> Iterator[tuple[str, NDArray]]:
    if (noise_free := subject.image("noise_free")) is not None:
        yield "noise-free", read_image(noise_free, folder).suv
    for image in (subject.full_dose, *subject.low_dose):
        factor = image.dose_reduction_factor
        yield "full dose" if factor == 1 else f"DRF {factor:g}", read_image(image, folder).suv
