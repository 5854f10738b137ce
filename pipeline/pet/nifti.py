"""NIfTI volumes with a PET-BIDS style JSON sidecar: read to, and written from, SUVbw."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from pipeline.errors import PETError, naming
from pipeline.files import image_stream, replaced_file
from pipeline.pet.grid import Grid, same_grid, to_canonical
from pipeline.pet.header import PETHeader
from pipeline.pet.series import PETSeries
from pipeline.pet.sidecar import header_from_sidecar, number_in, sidecar_of
from pipeline.pet.sidecar_files import read_sidecar
from pipeline.pet.suv.factor import suvbw_factor_of
from pipeline.pet.volumes import NIFTI, read_grid, read_voxels, sidecar_path_of

__all__ = ["NiftiSurvey", "read_nifti", "survey_nifti", "write_nifti"]

FORMATS = {".mha": "MetaImage", ".nrrd": "NRRD"}
"""What provenance calls a file that is not NIfTI."""

FACTOR_AGREEMENT = 1e-4
"""Relative difference allowed between SUVbwFactor and the factor from dose, weight and times."""


def read_nifti(path: str | Path, *, sidecar: Mapping[str, Any] | None = None) -> PETSeries:
    """Read a static NIfTI volume in activity concentration or SUVbw, with the JSON sidecar of the same stem.

    MetaImage (.mha) and NRRD (.nrrd) are read in the same way.
    Axes are flipped and permuted, never resampled, to the closest RAS+ orientation.

    Parameters
    ----------
    path
        File ending in .nii, .nii.gz, .mha or .nrrd.
    sidecar
        What stands for the JSON file, in the same keys; None reads the file.

    Raises
    ------
    PETError
        If the file is damaged, dynamic or not finite, the sidecar is missing or lacks what SUV needs, or
        qform and sform disagree.
    """
    path = Path(path)
    with naming(path):
        stated = survey_nifti(path, sidecar=sidecar)
        voxels, affine = read_voxels(path)
        if stated.factor is not None:
            voxels *= np.float32(stated.factor)
        suv, affine = to_canonical(voxels, affine)
        return PETSeries(
            suv=suv,
            affine=affine,
            header=stated.header,
            suvbw_factor=None if stated.factor is None else stated.factor / stated.unit,
            provenance=stated.provenance,
            warnings=stated.warnings,
            source_files=(path,),
        )


@dataclass(frozen=True)
class NiftiSurvey:
    """What the header and the sidecar of a NIfTI volume say, before any voxel is read."""

    header: PETHeader
    """What SUV depends on."""

    factor: float | None
    """SUVbw per stored unit, None if the volume is SUVbw already."""

    unit: float
    """How many Bq/mL, or g/mL, one stored unit is."""

    provenance: tuple[str, ...]
    """How the factor came about, after the history in the sidecar, one sentence each."""

    warnings: tuple[str, ...]
    """Those sentences that a person should see at once, because SUV may be wrong."""

    grid: Grid
    """Number and place of the voxels, axes in RAS+ order."""


def survey_nifti(path: Path, *, sidecar: Mapping[str, Any] | None = None) -> NiftiSurvey:
    """Read the header of a NIfTI volume and its sidecar, or take the one given, and work out the factor.

    Raises
    ------
    PETError
        If the file or its sidecar is missing, or lacks what SUV needs, or its header is not that of one volume.
    """
    source = sidecar_path_of(path).name if sidecar is None else "sidecar"
    if not path.is_file():
        raise PETError("no such file")
    grid = read_grid(path)
    sidecar = read_sidecar(path) if sidecar is None else sidecar
    with naming(source):
        found = header_from_sidecar(sidecar)
        header = found.header
        stated = number_in(sidecar, "SUVbwFactor", positive=True)
        factor, origin = None, "SUVbw"
        if header.units != "GML":
            if stated is not None and header.injected_dose is None and header.attenuation_corrected:
                factor = stated * found.unit
            else:
                found.check_complete()
                timed = header if found.average_time is None else replace(header, reference_time=found.average_time)
                factor = suvbw_factor_of(timed) * found.unit
            origin = f"{sidecar['Units']}, SUVbw factor {factor:.6e} g/mL per {sidecar['Units']}"
            if stated is not None and abs(factor / (stated * found.unit) - 1) > FACTOR_AGREEMENT:
                computed = factor / found.unit
                raise PETError(f"SUVbwFactor is {stated:.6e} per Bq/mL, dose and weight give {computed:.6e}")
    history = sidecar.get("Provenance")
    earlier = [str(sentence) for sentence in history] if isinstance(history, list) else []
    provenance = (*earlier, f"Read from {FORMATS.get(path.suffix.lower(), 'NIfTI')} in {origin}.", *found.notes)
    return NiftiSurvey(header, factor, found.unit, provenance, found.warnings, grid)


def _image_of(series: PETSeries) -> nib.Nifti1Image:
    image = nib.Nifti1Image(series.suv, series.affine)
    image.set_data_dtype(np.float32)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(series.affine, code="scanner")
    # A quaternion has no shear: of a sheared grid only the sform tells.
    image.set_qform(series.affine, code="scanner")
    if not same_grid(Grid(series.suv.shape, image.get_qform()), series.grid):
        image.set_qform(None, code="unknown")
    return image


def write_nifti(series: PETSeries, path: str | Path, *, extra: Mapping[str, Any] | None = None) -> Path:
    """Write a series as float32 SUVbw, with a JSON sidecar of the same stem.

    Both files are written to temporary names, read back and compared, then renamed.

    Parameters
    ----------
    series
        The volume.
    path
        File ending in .nii or .nii.gz, in an existing folder; existing files are replaced.
    extra
        Further entries of the sidecar; they may not replace its own.

    Returns
    -------
    path
        The file written.

    Raises
    ------
    PETError
        If the name, the folder or an extra entry is not usable, or what was written reads back differently.
    """
    path = Path(path)
    with naming(path):
        if not path.name.lower().endswith(NIFTI):
            raise PETError("expected a name ending in .nii or .nii.gz")
        sidecar_path = sidecar_path_of(path)
        # The entry is SUVbw per Bq/mL; the factor of another quantity stands in the provenance alone.
        factor = series.suvbw_factor if series.header.units == "BQML" else None
        sidecar = sidecar_of(series.header, suvbw_factor=factor, provenance=series.provenance)
        taken = sorted(set(sidecar) & set(extra or {}))
        if taken:
            raise PETError(f"extra sidecar entries {', '.join(taken)} are taken, expected other names")
        try:
            text = json.dumps({**sidecar, **(extra or {})}, indent=2, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise PETError(f"sidecar entry cannot be written as JSON ({error})") from error
        image = _image_of(series)
        with replaced_file(path) as temporary, replaced_file(sidecar_path) as temporary_sidecar:
            temporary_sidecar.write_text(text + "\n", encoding="utf-8")
            with image_stream(temporary) as stream:
                image.to_stream(stream)
            voxels, affine = read_voxels(temporary)
            if not (np.array_equal(voxels, series.suv) and same_grid(Grid(voxels.shape, affine), series.grid)):
                raise PETError("file reads back differently from what was written")
    return path
