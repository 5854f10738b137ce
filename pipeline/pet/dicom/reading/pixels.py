"""Pixel data of DICOM slices: checked against header and file before memory is taken, then decoded and rescaled."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from pipeline.errors import PETError, naming, reason_of
from pipeline.pet.dicom.reading.files import SliceFile
from pipeline.pet.dicom.values import number_of, value_of

__all__ = ["check_pixels", "rescaled_slice"]

MAX_COMPRESSION = 1000
"""A header that promises this many times the bytes of the compressed pixel data does not belong to them."""

HARMLESS = 1 << 24
"""Images of up to this many bytes are decoded whatever their compression: an empty slice compresses well."""

HARMLESS_SERIES = 1 << 27
"""The same for all the slices of a series together."""


def check_pixels(files: Sequence[SliceFile]) -> None:
    """Check rescaling and the size of the pixel data of every slice, before any memory is taken.

    Files that were read without their pixel data are compared with the size of the file.

    Raises
    ------
    PETError
        Naming the first slice whose rescaling is not that of a PET image, or whose pixel data is missing, cut
        short, or absurdly small for Rows and Columns.
    """
    n_needed = n_stored = 0
    for file in files:
        with naming(file.name):
            needed, stored = _check_slice(file)
        n_needed += needed
        n_stored += stored
    if n_needed > max(HARMLESS_SERIES, MAX_COMPRESSION * n_stored):
        raise PETError(f"{len(files)} slices would take {n_needed} bytes, their pixel data has {n_stored}; damaged")


def _check_slice(file: SliceFile) -> tuple[int, int]:
    """Return how many bytes the slice will take, and how many its share of the pixel data has."""
    dataset = file.dataset
    slope, intercept = number_of(dataset, "RescaleSlope"), number_of(dataset, "RescaleIntercept")
    if slope is None:
        raise PETError("RescaleSlope is missing, expected one on every slice")
    if slope <= 0:
        raise PETError(f"RescaleSlope is {slope:g}, expected a positive number")
    # DICOM PS3.3 C.8.9.4: the intercept of a PET image shall be 0, so a missing one is.
    if intercept:
        raise PETError(f"RescaleIntercept is {intercept:g}, expected 0")
    n_samples = (number_of(dataset, "SamplesPerPixel") or 1) * (number_of(dataset, "NumberOfFrames") or 1)
    if n_samples != 1:
        raise PETError(f"{n_samples:g} frames or samples per pixel, expected one grey-level slice")
    bits = _positive_int(dataset, "BitsAllocated")
    bits_stored, high = number_of(dataset, "BitsStored"), number_of(dataset, "HighBit")
    if bits_stored is not None and high is not None and high != bits_stored - 1:
        raise PETError(f"HighBit is {high:g}, expected {bits_stored - 1:g}, one less than BitsStored")
    needed = _positive_int(dataset, "Rows") * _positive_int(dataset, "Columns") * bits // 8
    n_frames = 1 if file.image is None else int(number_of(file.image, "NumberOfFrames") or 1)
    stored, what = _stored_bytes(file)
    if stored is None:
        return needed, needed
    if not file.syntax.is_compressed and stored < needed * n_frames:
        raise PETError(f"{what} has {stored} bytes, expected {needed * n_frames}; the file is cut short")
    if needed * n_frames > max(HARMLESS, MAX_COMPRESSION * stored):
        raise PETError(f"{what} has {stored} bytes for an image of {needed * n_frames}; it is damaged")
    return needed, stored // n_frames


def _stored_bytes(file: SliceFile) -> tuple[int | None, str]:
    """Return the size of what holds the pixels, and its name; None where it tells nothing."""
    if not file.has_pixels:
        is_deflated = file.syntax == DeflatedExplicitVRLittleEndian
        return None if is_deflated else file.path.stat().st_size, "the file"
    pixels = value_of(file.stored, "PixelData")
    if pixels is None:
        raise PETError("PixelData is missing, the file may be cut short")
    return len(pixels), "PixelData"


def _positive_int(dataset: Dataset, keyword: str) -> int:
    value = value_of(dataset, keyword)
    if not isinstance(value, int) or value <= 0:
        found = "missing" if value is None else value if isinstance(value, int) else "damaged"
        raise PETError(f"{keyword} is {found}, expected a positive number")
    return value


def _missing_codec(syntax: UID) -> str | None:
    """Return what to install for a compressed transfer syntax that nothing installed decodes, or None."""
    try:
        is_available = get_decoder(syntax).is_available
    except NotImplementedError:
        return None
    return None if is_available else "install the decoders with: pip install 'unipet_3d[codecs]'"


def rescaled_slice(file: SliceFile, factor: float) -> NDArray[np.float64]:
    """Return one slice in SUVbw, stored value x RescaleSlope of this slice x factor.

    Parameters
    ----------
    file
        The slice, with its pixel data.
    factor
        SUVbw per stored unit, such as [g/mL] per [Bq/mL].

    Returns
    -------
    slice
        Shape (rows, columns).

    Raises
    ------
    PETError
        If the pixel data cannot be decoded; where a decoder is missing, saying what to install.
    """
    try:
        # Unlike Dataset.pixel_array, this keeps no second copy in the data set.
        stored = pixel_array(file.stored, index=file.frame)
    except Exception as error:
        # Decoders raise whatever damaged pixels and the attributes that describe them lead to.
        reason = _missing_codec(file.syntax) or reason_of(error)
        raise PETError(f"{file.name}: pixel data ({file.syntax.name}) cannot be decoded: {reason}") from error
    return stored.astype(np.float64) * (float(file.dataset.RescaleSlope) * factor)
