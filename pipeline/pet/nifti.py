"""NIfTI volumes with a PET-BIDS style JSON sidecar: read to, and written from, SUVbw."""

import gzip
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from io import IOBase
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, ImageDataError
from numpy.typing import NDArray

from pipeline.errors import PETError, naming, reason_of
from pipeline.files import image_stream, replaced_file
from pipeline.pet.grid import (
    SAME_GRID,
    Grid,
    canonical_grid,
    check_geometry,
    check_same_grid,
    corner_distance,
    same_grid,
    to_canonical,
)
from pipeline.pet.header import PETHeader
from pipeline.pet.series import PETSeries
from pipeline.pet.sidecar import header_from_sidecar, number_in, read_sidecar, sidecar_of
from pipeline.pet.suv.factor import suvbw_factor_of

__all__ = [
    "NiftiSurvey",
    "is_nifti_name",
    "read_grid",
    "read_labels_on",
    "read_nifti",
    "read_on",
    "read_voxels",
    "sidecar_path_of",
    "survey_nifti",
    "write_nifti",
]

SUFFIXES = (".nii.gz", ".nii")

MAX_GZIP_RATIO = 1032
"""Deflate cannot expand data by more; a header that promises more does not belong to its file."""

FACTOR_AGREEMENT = 1e-4
"""Relative difference allowed between SUVbwFactor and the factor from dose, weight and times."""

_DAMAGE = (
    EOFError,
    zlib.error,
    gzip.BadGzipFile,
    ImageFileError,
    HeaderDataError,
    ImageDataError,
    OSError,
    ValueError,
    KeyError,
    OverflowError,
)


def is_nifti_name(path: str | Path) -> bool:
    """Return whether a name ends in .nii or .nii.gz."""
    return Path(path).name.lower().endswith(SUFFIXES)


def sidecar_path_of(path: Path) -> Path:
    """Return where the JSON sidecar of a NIfTI file lies, whether it exists or not.

    Raises
    ------
    PETError
        If the name is not that of a NIfTI file.
    """
    suffix = next((end for end in SUFFIXES if path.name.lower().endswith(end)), None)
    if suffix is None or len(path.name) == len(suffix):
        raise PETError(f"{path}: expected a name ending in .nii or .nii.gz")
    return path.with_name(path.name[: -len(suffix)] + ".json")


def _open(path: Path) -> IOBase:
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rb")
    return path.open("rb")


@contextmanager
def _decoding() -> Iterator[None]:
    """Turn whatever a damaged file makes the libraries raise into one sentence."""
    try:
        yield
    except (PETError, FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except _DAMAGE as error:
        raise PETError(f"not a readable NIfTI file, damaged or cut short ({reason_of(error)})") from error


def _checked_image(path: Path, stream: IOBase) -> nib.Nifti1Image:
    """Return the image at the start of a stream, its header checked and no voxel read yet."""
    kind = type(nib.load(path))
    if not issubclass(kind, nib.Nifti1Image):
        raise PETError("not a single-file NIfTI image")
    image = kind.from_stream(stream)
    shape, header = image.shape, image.header
    if len(shape) < 3 or any(n != 1 for n in shape[3:]) or min(shape) < 1:
        raise PETError(f"image has shape {shape}, expected one static volume (X, Y, Z)")
    kind = header.get_data_dtype()
    if kind.kind not in "iuf":
        raise PETError(f"image holds {kind} values, expected real numbers")
    n_bytes = math.prod(shape) * kind.itemsize
    limit = path.stat().st_size * (MAX_GZIP_RATIO if path.name.lower().endswith(".gz") else 1)
    if n_bytes > limit:
        raise PETError(f"header promises {n_bytes} bytes, file has {path.stat().st_size}; it is cut short")
    if header.get_xyzt_units()[0] not in {"mm", "unknown"}:
        raise PETError(f"spatial unit is {header.get_xyzt_units()[0]}, expected mm")
    qform, sform = header.get_qform(coded=True)[0], header.get_sform(coded=True)[0]
    if qform is None and sform is None:
        raise PETError("neither qform nor sform is set, position and orientation are unknown")
    check_geometry(_grid_of(image))
    if qform is not None and sform is not None:
        apart = corner_distance(Grid(shape[:3], qform), Grid(shape[:3], sform))
        if not apart <= SAME_GRID:
            raise PETError(f"qform and sform disagree by {apart:.2f} mm, expected the same geometry")
    return image


def _grid_of(image: nib.Nifti1Image) -> Grid:
    return Grid(image.shape[:3], np.asarray(image.affine, dtype=np.float64))


def read_grid(path: Path) -> Grid:
    """Return the grid of a NIfTI volume with its axes in RAS+ order; no voxel is read and no sidecar is asked for.

    Raises
    ------
    PETError
        If the file is not one static volume in mm at a stated place.
    """
    with _decoding(), closing(_open(path)) as stream:
        return canonical_grid(_grid_of(_checked_image(path, stream)))


def read_voxels(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return voxels as they lie in the file, with its scaling applied, and their affine; no sidecar is asked for.

    Raises
    ------
    PETError
        If the file is damaged or cut short, is not one static volume in mm, or holds what is not finite.
    """
    with _decoding(), closing(_open(path)) as stream:
        image = _checked_image(path, stream)
        voxels = image.get_fdata(dtype=np.float32, caching="unchanged").reshape(image.shape[:3])
        # Only at the end of the stream does gzip compare its checksum.
        while stream.read(1 << 20):
            pass
    n_bad = voxels.size - int(np.isfinite(voxels).sum())
    if n_bad:
        raise PETError(f"{n_bad} voxels are not finite, expected numbers")
    return voxels, _grid_of(image).affine


def read_on(path: str | Path, grid: Grid) -> NDArray[np.float32]:
    """Read a NIfTI volume that lies on the grid of a PET image, such as labels or attenuation.

    Returns
    -------
    numpy.ndarray
        Shape (X, Y, Z), axes in RAS+ order as those of a `PETSeries`.

    Raises
    ------
    PETError
        If it cannot be read, or lies on another grid.
    """
    path = Path(path)
    with naming(path):
        check_same_grid({"its PET image": grid, str(path): read_grid(path)})
        values, _ = to_canonical(*read_voxels(path))
    return np.ascontiguousarray(values)


def read_labels_on(path: str | Path, grid: Grid) -> NDArray[np.unsignedinteger]:
    """Read whole numbers from 0 up on the grid of a PET image, in the smallest type that holds them.

    Raises
    ------
    PETError
        If they cannot be read, lie on another grid, or are no whole numbers from 0 up.
    """
    values = read_on(path, grid)
    # Above 2^24 float32 has no odd numbers left.
    if values.min() < 0 or values.max() > 2**24 or (values != np.rint(values)).any():
        found = f"values from {values.min():g} to {values.max():g}"
        raise PETError(f"{path}: holds {found}, expected whole numbers from 0 up")
    return values.astype(np.min_scalar_type(int(values.max())))


def read_nifti(path: str | Path, *, sidecar: Mapping[str, Any] | None = None) -> PETSeries:
    """Read a static NIfTI volume in activity concentration or SUVbw, with the JSON sidecar of the same stem.

    Axes are flipped and permuted, never resampled, to the closest RAS+ orientation.

    Parameters
    ----------
    path
        File ending in .nii or .nii.gz.
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
    provenance = (*earlier, f"Read from NIfTI in {origin}.", *found.notes)
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
        sidecar_path = sidecar_path_of(path)
        # The entry is SUVbw per Bq/mL: the factor of another source quantity is told in the provenance alone.
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
