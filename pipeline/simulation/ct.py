"""The attenuation map of a PET series from the patient's CT: a DICOM series or a NIfTI volume in HU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from pipeline.errors import PETError, naming
from pipeline.pet import PETSeries
from pipeline.pet.dicom.reading.choice import by_series, listed
from pipeline.pet.dicom.reading.files import SliceFile, read_slice_files
from pipeline.pet.dicom.slices import decoded_slice, stack_slices
from pipeline.pet.dicom.values import number_of, text_of, value_of
from pipeline.pet.grid import to_canonical
from pipeline.pet.volumes import is_volume_name, read_voxels
from pipeline.simulation.attenuation import attenuation_from_ct, resampled

__all__ = ["attenuation_of_series"]

_SMALLEST_COVER = 0.9  # of the PET's slices must lie within the CT
_USUAL_VOLTAGE = 120


def attenuation_of_series(path: str | Path, series: PETSeries) -> np.ndarray:
    """Return the attenuation at 511 keV on the grid of a PET series.

    Where the CT does not reach there is air. The two must share the patient's coordinates, as on a PET/CT.

    `path` is a folder, a zip archive or a DICOMDIR of a study with one CT series beside others, or a NIfTI volume in HU
    (taken as of 120 kV). The result is float32 [1/mm], of the series' shape (X, Y, Z).

    Raises
    ------
    PETError
        If the file is no CT, its values are not HU, or it covers less than 90 % of the PET's slices.
    """
    path = Path(path)
    with naming(path):
        if not path.exists():
            raise PETError("no such file or folder")
        if is_volume_name(path):
            (hu, affine), tube_voltage = to_canonical(*read_voxels(path)), _USUAL_VOLTAGE
        else:
            hu, affine, tube_voltage = _read_dicom(path)
        if not (np.isfinite(hu).all() and hu.min() < -500 and hu.max() > -200):
            raise PETError(f"values are {hu.min():g} to {hu.max():g}, expected HU with air and tissue")
        covered = _covered_slices(hu.shape, affine, series)
        if covered < _SMALLEST_COVER:
            raise PETError(f"the CT covers {covered:.0%} of the PET's slices, expected {_SMALLEST_COVER:.0%} or more")
        attenuation = attenuation_from_ct(hu, tube_voltage=tube_voltage)
        return resampled(attenuation, affine, onto_shape=series.suv.shape, onto_affine=series.affine, outside=0.0)


def _covered_slices(shape: tuple[int, ...], affine: np.ndarray, series: PETSeries) -> float:
    """Return the fraction of the PET's slices whose middle lies in the CT."""
    nx, ny, nz = series.suv.shape
    middles = np.stack([np.full(nz, (nx - 1) / 2), np.full(nz, (ny - 1) / 2), np.arange(nz), np.ones(nz)])
    inside = np.linalg.solve(affine, series.affine @ middles)[:3]
    limits = np.array(shape)[:, None]
    return float(((inside >= -0.5) & (inside <= limits - 0.5)).all(axis=0).mean())


def _read_dicom(path: Path) -> tuple[np.ndarray, np.ndarray, int]:
    found = by_series(read_slice_files(path, classes={CTImageStorage}).slices)
    series = {uid: files for uid, files in found.items() if _is_volume(files[0].dataset)}
    if not series:
        raise PETError(f"no DICOM CT slice, expected one CT series; found {listed(found)}")
    if len(series) != 1:
        raise PETError(
            f"{len(series)} CT series, expected one in a folder or archive of its own; found {listed(found)}"
        )
    ((_, files),) = series.items()
    stack = stack_slices(files)
    hu = np.stack([_hounsfield(files[k]) for k in stack.order], axis=-1)
    volume, affine = to_canonical(hu, stack.affine)
    voltage = number_of(files[0].dataset, "KVP")
    return volume, affine, _USUAL_VOLTAGE if voltage is None else round(voltage)


def _is_volume(dataset: Dataset) -> bool:
    """Return whether an object is a slice of a CT rather than an overview of it, or something else."""
    is_localizer = "LOCALIZER" in (value_of(dataset, "ImageType") or ())
    return dataset.get("Modality") == "CT" and text_of(dataset, "SOPClassUID") == CTImageStorage and not is_localizer


def _hounsfield(file: SliceFile) -> np.ndarray:
    """Return one slice [HU], float32, axes in the order column, row."""
    slope, intercept = (number_of(file.dataset, keyword) for keyword in ("RescaleSlope", "RescaleIntercept"))
    if slope is None or intercept is None:
        raise PETError(f"{file.name}: RescaleSlope or RescaleIntercept is missing, expected both on a CT slice")
    return (decoded_slice(file) * slope + intercept).astype(np.float32).T
