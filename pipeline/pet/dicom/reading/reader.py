"""Read a DICOM PET series into a `PETSeries`, refusing what cannot be trusted."""

from pathlib import Path

import numpy as np
from nibabel.orientations import io_orientation

from pipeline.errors import naming
from pipeline.pet.dicom.reading.files import collector_paused
from pipeline.pet.dicom.reading.survey import Survey, survey_series
from pipeline.pet.dicom.slices import check_slopes, decoded_slice, padding_of
from pipeline.pet.grid import to_canonical
from pipeline.pet.series import PETSeries

__all__ = ["read_dicom_series"]


def read_dicom_series(path: str | Path, *, series: str | int | None = None) -> PETSeries:
    """Read one PET series of a folder, or the file of a multi-frame image.

    Files are found in subfolders and through links, too; objects that are no PET images and files that are not DICOM
    by content are left out. Slices are sorted by geometry, each is rescaled with its own slope, and axes are flipped
    and permuted, never resampled, to the closest RAS+ orientation.

    Parameters
    ----------
    path
        Folder that holds the series, or the file of an enhanced or legacy converted enhanced PET image.
    series
        SeriesInstanceUID or SeriesNumber of the series to read, needed where the folder holds several of PET.

    Raises
    ------
    PETError
        If it does not hold exactly one complete, static, attenuation-corrected PET series of one patient from
        which SUVbw can be computed. One line names the file, what was found and what was expected.
    """
    path = Path(path)
    with naming(path), collector_paused():
        survey = survey_series(path, with_pixels=True, series=series)
        native = np.empty(survey.stack.shape, dtype=np.float32, order="F")
        padding, largest = None, []
        for k, (file, factor) in enumerate(zip(survey.files, survey.factors, strict=True)):
            stored = decoded_slice(file)
            # Slices are stored by rows: the transpose has columns first.
            native[:, :, k] = (stored.astype(np.float64) * (float(file.dataset.RescaleSlope) * factor)).T
            largest.append(int(stored.max()))
            outside = padding_of(file, stored)
            if outside is not None:
                padding = np.zeros(native.shape, bool, order="F") if padding is None else padding
                padding[:, :, k] = outside.T
            if file.image is None:
                # The stored copy is not needed any more; a long series would otherwise lie in memory twice.
                del file.dataset.PixelData
        check_slopes(survey.files, largest)
        provenance = survey.provenance
        if padding is not None:
            native[padding] = 0
            provenance = (
                *provenance,
                f"{padding.sum()} voxels hold PixelPaddingValue, are no part of the image, and are 0 here.",
            )
        suv, affine = to_canonical(native, survey.stack.affine)
        return PETSeries(
            suv=suv,
            affine=affine,
            header=survey.header,
            suvbw_factor=survey.factor,
            padding=None if padding is None else to_canonical(padding, survey.stack.affine)[0],
            warnings=survey.warnings,
            provenance=provenance,
            source_files=_sources(survey),
        )


def _sources(survey: Survey) -> tuple[Path, ...]:
    """Return the files in the order of the canonical volume's slices; a multi-frame image is one."""
    if survey.files[0].image is not None:
        return (survey.files[0].path,)
    paths = [file.path for file in survey.files]
    flip = io_orientation(survey.stack.affine)[2, 1]
    return tuple(paths if flip > 0 else reversed(paths))
