"""Read a DICOM PET series into a `PETSeries`, refusing what cannot be trusted."""

from pathlib import Path

import numpy as np
from nibabel.orientations import io_orientation

from pipeline.errors import naming
from pipeline.pet.dicom.reading.collector import collector_paused
from pipeline.pet.dicom.reading.pixels import rescaled_slice
from pipeline.pet.dicom.reading.survey import Survey, survey_series
from pipeline.pet.grid import to_canonical
from pipeline.pet.series import PETSeries

__all__ = ["read_dicom_series"]


def read_dicom_series(path: str | Path) -> PETSeries:
    """Read the one PET series in a folder, or in the file of a multi-frame image.

    Files are found in subfolders too; files that are not DICOM by content are left out. Slices are sorted by
    geometry, each is rescaled with its own slope, and axes are flipped and permuted, never resampled, to the
    closest RAS+ orientation.

    Parameters
    ----------
    path
        Folder that holds the series and no other, or the file of an enhanced or legacy converted enhanced PET
        image.

    Raises
    ------
    PETError
        If it does not hold exactly one complete, static, attenuation-corrected PET series of one patient from
        which SUVbw can be computed. One line names the file, what was found and what was expected.
    """
    path = Path(path)
    with naming(path), collector_paused():
        survey = survey_series(path, with_pixels=True)
        native = np.empty(survey.stack.shape, dtype=np.float32, order="F")
        for k, (file, factor) in enumerate(zip(survey.files, survey.factors, strict=True)):
            # Slices are stored by rows: the transpose has columns first.
            native[:, :, k] = rescaled_slice(file, factor).T
            if file.image is None:
                # The stored copy is not needed any more; a long series would otherwise lie in memory twice.
                del file.dataset.PixelData
        suv, affine = to_canonical(native, survey.stack.affine)
        return PETSeries(
            suv=suv,
            affine=affine,
            header=survey.header,
            suvbw_factor=survey.factor,
            provenance=survey.provenance,
            source_files=_sources(survey),
        )


def _sources(survey: Survey) -> tuple[Path, ...]:
    """Return the files in the order of the canonical volume's slices; a multi-frame image is one."""
    if survey.files[0].image is not None:
        return (survey.files[0].path,)
    paths = [file.path for file in survey.files]
    flip = io_orientation(survey.stack.affine)[2, 1]
    return tuple(paths if flip > 0 else reversed(paths))
