"""One volume in one file, NIfTI, MetaImage or NRRD: its grid, its voxels, and labels on the grid of a PET image."""

import gzip
import math
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import IOBase
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, ImageDataError
from numpy.typing import NDArray

from pipeline.errors import PETError, naming, reason_of
from pipeline.pet.grid import (
    LPS_TO_RAS,
    SAME_GRID,
    Grid,
    canonical_grid,
    check_geometry,
    check_same_grid,
    corner_distance,
    to_canonical,
)

__all__ = [
    "NIFTI",
    "is_volume_name",
    "read_grid",
    "read_labels",
    "read_labels_on",
    "read_on",
    "read_voxels",
    "sidecar_path_of",
]

NIFTI = (".nii.gz", ".nii")
"""Ends of the names of NIfTI files."""

FOREIGN = {".mha": "MetaImage", ".nrrd": "NRRD"}
"""Ends of the names of files that ITK and 3D Slicer write, which SimpleITK reads, and what they are called."""

MAX_GZIP_RATIO = 1032
"""Deflate cannot expand data by more; a header that promises more does not belong to its file."""

_DAMAGE = (
    *(EOFError, OSError, ValueError, KeyError, OverflowError, RuntimeError),
    *(zlib.error, ImageFileError, HeaderDataError, ImageDataError),
)


def _suffix_of(name: str) -> str | None:
    return next((end for end in (*NIFTI, *FOREIGN) if name.lower().endswith(end) and len(name) > len(end)), None)


def is_volume_name(path: str | Path) -> bool:
    """Return whether a name ends in .nii, .nii.gz, .mha or .nrrd."""
    return _suffix_of(Path(path).name) is not None


def sidecar_path_of(path: Path) -> Path:
    """Return where the JSON sidecar of a volume lies, whether it exists or not.

    Raises
    ------
    PETError
        If the name is not that of a volume.
    """
    suffix = _suffix_of(path.name)
    if suffix is None:
        raise PETError(f"{path}: expected a name ending in .nii, .nii.gz, .mha or .nrrd")
    return path.with_name(f"{path.name[: -len(suffix)]}.json")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Grid, Callable[[], NDArray[np.float32]]]]:
    """Yield the grid of a volume as it is stored, its header checked, and a function that reads its voxels.

    Whatever a damaged file makes the libraries raise becomes one sentence.
    """
    try:
        if not path.name.lower().endswith(NIFTI):
            yield _foreign_reader(path)
            return
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as stream:
            image = _checked_image(path, stream)
            yield _grid_of(image), lambda: _voxels_of(image, stream)
    except (PETError, FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except _DAMAGE as error:
        kind = "NIfTI" if path.name.lower().endswith(NIFTI) else FOREIGN[path.suffix.lower()]
        raise PETError(f"not a readable {kind} file, damaged or cut short ({reason_of(error)})") from error


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


def _voxels_of(image: nib.Nifti1Image, stream: IOBase) -> NDArray[np.float32]:
    voxels = image.get_fdata(dtype=np.float32, caching="unchanged").reshape(image.shape[:3])
    # Only at the end of the stream does gzip compare its checksum.
    while stream.read(1 << 20):
        pass
    return voxels


def _foreign_reader(path: Path) -> tuple[Grid, Callable[[], NDArray[np.float32]]]:
    """Return the grid of a file that SimpleITK reads, its header checked, and a function that reads its voxels."""
    # Imported here, since most scans need none of its 264 MB.
    import SimpleITK

    with path.open("rb") as file:
        header = file.read(1 << 16).partition(b"\n\n")[0]
    if re.search(rb"(?im)^data ?file:|^ElementDataFile *= *(?! |LOCAL)", header):
        raise PETError("voxels are in another file, expected them in this one")
    if path.suffix.lower() == ".nrrd" and not re.search(rb"(?im)^space: *(left|right|LPS|RAS|LAS)", header):
        raise PETError("the patient's coordinates are not named (space), position and orientation are unknown")
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    shape, kind = reader.GetSize(), SimpleITK.GetPixelIDValueAsString(reader.GetPixelID())
    if len(shape) != 3:
        raise PETError(f"image has shape {shape}, expected one static volume (X, Y, Z)")
    if not re.fullmatch(r"\d+-bit (float|(un)?signed integer)", kind):
        raise PETError(f"image holds values of {kind}, expected real numbers")
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(reader.GetDirection(), (3, 3)) * reader.GetSpacing()
    affine[:3, 3] = reader.GetOrigin()
    grid = Grid(shape, LPS_TO_RAS @ affine)
    check_geometry(grid)

    def voxels() -> NDArray[np.float32]:
        # Without this name the memory that the view shows would be given back.
        image = reader.Execute()
        return SimpleITK.GetArrayViewFromImage(image).T.astype(np.float32)

    return grid, voxels


def read_grid(path: Path) -> Grid:
    """Return the grid of a volume with its axes in RAS+ order; no voxel is read and no sidecar is asked for.

    Raises
    ------
    PETError
        If the file is not one static volume in mm at a stated place.
    """
    with _opened(path) as (grid, _):
        return canonical_grid(grid)


def read_voxels(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return voxels as they lie in the file, with its scaling applied, and their affine; no sidecar is asked for.

    Raises
    ------
    PETError
        If the file is damaged or cut short, is not one static volume in mm, or holds what is not finite.
    """
    with _opened(path) as (grid, read):
        voxels = read()
    n_bad = voxels.size - int(np.isfinite(voxels).sum())
    if n_bad:
        raise PETError(f"{n_bad} voxels are not finite, expected numbers")
    return voxels, grid.affine


def read_on(path: str | Path, grid: Grid) -> NDArray[np.float32]:
    """Read a volume that lies on the grid of a PET image, such as labels or attenuation.

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
    with naming(path):
        return _whole_numbers(read_on(path, grid))


def read_labels(path: Path) -> tuple[NDArray[np.unsignedinteger], Grid]:
    """Read whole numbers from 0 up with their own grid, axes in RAS+ order, in the smallest type that holds them.

    Raises
    ------
    PETError
        If they cannot be read, or are no whole numbers from 0 up.
    """
    values, affine = to_canonical(*read_voxels(path))
    return _whole_numbers(values), Grid(values.shape, affine)


def _whole_numbers(values: NDArray[np.float32]) -> NDArray[np.unsignedinteger]:
    # Above 2^24 float32 has no odd numbers left.
    if values.min() < 0 or values.max() > 2**24 or (values != np.rint(values)).any():
        raise PETError(f"holds values from {values.min():g} to {values.max():g}, expected whole numbers from 0 up")
    return values.astype(np.min_scalar_type(int(values.max())))
