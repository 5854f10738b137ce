"""Read a DICOM PET series into a `PETSeries`, refusing what cannot be trusted."""

from pathlib import Path

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array
from pydicom.uid import UID

from pipeline.pet.dicom_files import ENHANCED, SliceFile, check_one_series, read_dataset, read_slice_files
from pipeline.pet.dicom_geometry import POSITION_TOLERANCE, stack_slices, to_canonical
from pipeline.pet.dicom_header import read_header
from pipeline.pet.dicom_values import number_of, text_of, value_of
from pipeline.pet.errors import PETError, naming
from pipeline.pet.series import PETSeries
from pipeline.pet.suv import suvbw_factor_of

__all__ = ["read_dicom_series", "rescaled_slice"]


def read_dicom_series(folder: str | Path) -> PETSeries:
    """Read the one PET series in a folder.

    Files are found in subfolders too; files that are not DICOM by content are left out. Slices are sorted by
    geometry, each is rescaled with its own slope, and axes are flipped and permuted, never resampled, to the
    closest RAS+ orientation.

    Parameters
    ----------
    folder
        Folder that holds the series and no other.

    Raises
    ------
    PETError
        If the folder does not hold exactly one complete, static, attenuation-corrected PET series of one
        patient from which SUVbw can be computed. One line names the file, what was found and what was expected.
    """
    path = Path(folder)
    with naming(path):
        if not path.is_dir():
            _refuse_single_file(path)
        files, n_other = read_slice_files(path)
        notes = list(check_one_series(files, n_other))
        for file in files:
            _check_pixels(file)
        stack = stack_slices([file.dataset for file in files], [file.name for file in files])
        if stack.unevenness > POSITION_TOLERANCE:
            notes.append(f"Slices lie up to {stack.unevenness:.2f} mm off an even grid.")
        files = [files[k] for k in stack.order]
        header, header_notes = read_header([file.dataset for file in files])
        factor = suvbw_factor_of(header)
        native = np.empty(stack.shape, dtype=np.float32, order="F")
        for k, file in enumerate(files):
            # Slices are stored by rows: the transpose has columns first.
            native[:, :, k] = rescaled_slice(file, factor).T
            # The stored copy is not needed any more; a long series would otherwise lie in memory twice.
            del file.dataset.PixelData
        suv, affine = to_canonical(native, stack.affine)
        return PETSeries(
            suv=suv,
            affine=affine,
            header=header,
            suvbw_factor=factor,
            provenance=(
                f"Read from a DICOM series of {len(files)} slices, Units {header.units}, "
                f"DecayCorrection {header.decay_correction}.",
                *notes,
                *header_notes,
                f"SUVbw factor {factor:.6e} g/mL per Bq/mL.",
            ),
            source_files=_along_volume([file.path for file in files], stack.affine),
        )


def _along_volume(paths: list[Path], native_affine: NDArray[np.float64]) -> tuple[Path, ...]:
    """Return the files in the order of the canonical volume's slices."""
    flip = io_orientation(native_affine)[2, 1]
    return tuple(paths if flip > 0 else reversed(paths))


def _refuse_single_file(path: Path) -> None:
    dataset = read_dataset(path, stop_before_pixels=True)
    if dataset is None:
        raise PETError("not a DICOM file, expected the folder of a DICOM PET series")
    sop_class = UID(text_of(dataset, "SOPClassUID"))
    if sop_class in ENHANCED:
        raise PETError(f"{sop_class.name} (multi-frame) is not supported, expected single slices")
    raise PETError("a single DICOM file, expected the folder that holds the whole series")


def _positive_int(dataset: Dataset, keyword: str) -> int:
    value = value_of(dataset, keyword)
    if not isinstance(value, int) or value <= 0:
        found = "missing" if value is None else value
        raise PETError(f"{keyword} is {found}, expected a positive number")
    return value


def _check_pixels(file: SliceFile) -> None:
    """Check rescaling and the size of the pixel data against the header, before any memory is taken."""
    dataset = file.dataset
    with naming(file.name):
        slope, intercept = number_of(dataset, "RescaleSlope"), number_of(dataset, "RescaleIntercept")
        if slope is None:
            raise PETError("RescaleSlope is missing, expected one on every slice")
        if slope <= 0:
            raise PETError(f"RescaleSlope is {slope:g}, expected a positive number")
        # DICOM PS3.3 C.8.9.4: the intercept of a PET image shall be 0, so a missing one is.
        if intercept:
            raise PETError(f"RescaleIntercept is {intercept:g}, expected 0")
        pixels = value_of(dataset, "PixelData")
        if pixels is None:
            raise PETError("PixelData is missing, the file may be cut short")
        n_samples = (number_of(dataset, "SamplesPerPixel") or 1) * (number_of(dataset, "NumberOfFrames") or 1)
        if n_samples != 1:
            raise PETError(f"{n_samples:g} frames or samples per pixel, expected one grey-level slice")
        bits = _positive_int(dataset, "BitsAllocated")
        expected = _positive_int(dataset, "Rows") * _positive_int(dataset, "Columns") * bits // 8
        if not dataset.file_meta.TransferSyntaxUID.is_compressed and len(pixels) < expected:
            raise PETError(f"PixelData has {len(pixels)} bytes, expected {expected}; the file is cut short")


def rescaled_slice(file: SliceFile, factor: float) -> NDArray[np.float64]:
    """Return one slice in SUVbw, stored value x RescaleSlope of this slice x factor.

    Parameters
    ----------
    file
        The slice, with its pixel data.
    factor
        SUVbw per stored unit, [g/mL] per [Bq/mL].

    Returns
    -------
    slice
        Shape (rows, columns).

    Raises
    ------
    PETError
        If the pixel data cannot be decoded.
    """
    try:
        # Unlike Dataset.pixel_array, this keeps no second copy in the data set.
        stored = pixel_array(file.dataset)
    except (RuntimeError, ValueError, AttributeError, TypeError, NotImplementedError) as error:
        syntax = file.dataset.file_meta.TransferSyntaxUID.name
        reason = " ".join(str(error).split())
        raise PETError(f"{file.name}: pixel data ({syntax}) cannot be decoded: {reason}") from error
    return stored.astype(np.float64) * (float(file.dataset.RescaleSlope) * factor)
