"""Read a DICOM PET series into a `PETSeries`, or survey what its headers alone say of it.

A survey gives the slices, their grid, and the SUVbw factor of each; no pixel is decoded. Other readers let pass what is
refused here: two patients, two units or two frames of reference in one folder, several frames stacked as slices, a
slice that is there twice, and the slices of two scans.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray
from pydicom.uid import UID, PositronEmissionTomographyImageStorage

from pipeline.errors import PETError, naming
from pipeline.pet.dicom.reading.choice import PET_CLASSES, choose_pet
from pipeline.pet.dicom.reading.enhanced import read_frames
from pipeline.pet.dicom.reading.files import ENHANCED, SliceFile, collector_paused, read_slice_files
from pipeline.pet.dicom.reading.header import read_header
from pipeline.pet.dicom.slices import (
    POSITION_TOLERANCE,
    SliceStack,
    check_pixels,
    check_slopes,
    decoded_slice,
    padding_of,
    stack_slices,
)
from pipeline.pet.dicom.values import SCALE_FACTORS, check_agreement, number_of, private_number, text_of, value_of
from pipeline.pet.grid import to_canonical
from pipeline.pet.series import PETHeader, PETSeries
from pipeline.pet.suv.factor import explained_factor, suvbw_factor_of

__all__ = ["Survey", "read_dicom_series", "survey_series"]


@dataclass(frozen=True)
class Survey:
    """A series before its pixels are decoded."""

    files: tuple[SliceFile, ...]
    """The slices, in the order of the stack."""

    stack: SliceStack
    """Their grid."""

    header: PETHeader
    """What SUV depends on."""

    factors: NDArray[np.float64]
    """SUVbw per stored unit, one for each slice. Shape (slices,)."""

    provenance: tuple[str, ...]
    """How the factor came about, one sentence each."""

    warnings: tuple[str, ...]
    """The sentences of `provenance` that a person should see at once."""

    @property
    def factor(self) -> float | None:
        """The factor of all slices, or None where every slice has its own."""
        return float(self.factors[0]) if (self.factors == self.factors[0]).all() else None


def survey_series(path: Path, *, with_pixels: bool, series: str | int | None = None) -> Survey:
    """Check the files of one series, and work out its grid and its factors.

    Path, series and errors are those of `read_dicom_series`. Only a survey `with_pixels` reads the pixel data, too, so
    that the slices can be decoded afterwards.
    """
    files, notes, stated = _find(path, with_pixels=with_pixels, series=series)
    check_pixels(files)
    stack = stack_slices(files)
    if files[0].image is None:
        # After the geometry, which says more of a slice that is there twice.
        _check_instances(files)
    if stack.unevenness > POSITION_TOLERANCE:
        notes.append(f"Slices lie up to {stack.unevenness:.2f} mm off an even grid.")
    files = [files[k] for k in stack.order]
    found = read_header([file.dataset for file in files])
    header = found.header
    factors = _slice_factors(header, found.average_times, len(files))
    per_count = [private_number(files[0].dataset, attribute) for attribute in SCALE_FACTORS]
    kind = "slices" if files[0].image is None else "frames of a multi-frame image"
    return Survey(
        files=tuple(files),
        stack=stack,
        header=header,
        factors=factors,
        provenance=(
            f"Read from a DICOM series of {len(files)} {kind}, Units {header.units}, "
            f"DecayCorrection {header.decay_correction or 'missing'}.",
            *notes,
            *found.notes,
            *explained_factor(header, factors, stated=stated, per_count=per_count),
        ),
        warnings=found.warnings,
    )


def read_dicom_series(path: str | Path, *, series: str | int | None = None) -> PETSeries:
    """Read one PET series of a study.

    Files are found in subfolders and through links, too; objects that are no PET images and files that are not DICOM
    by content are left out. Of a zip archive nothing is unpacked to the disk. Slices are sorted by geometry, each is
    rescaled with its own slope, and axes are flipped and permuted, never resampled, to the closest RAS+ orientation.

    Parameters
    ----------
    path
        Folder that holds the series, zip archive of one, DICOMDIR, or the file of an enhanced or legacy converted
        enhanced PET image.
    series
        SeriesInstanceUID, SeriesNumber or SeriesDescription (all of it, or words of it) of the series to read. By
        default it is the only one of PET, or the only one that is corrected for attenuation.

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


def _slice_factors(header: PETHeader, average_times: Sequence[float] | None, n_slices: int) -> NDArray[np.float64]:
    """Return SUVbw per stored unit of every slice; without decay correction, each has a factor of its own."""
    if header.units in {"BQML", "CNTS"} and header.suv_per_count is None and average_times is not None:
        return np.array([suvbw_factor_of(replace(header, reference_time=time)) for time in average_times])
    return np.full(n_slices, suvbw_factor_of(header))


def _find(
    path: Path, *, with_pixels: bool, series: str | int | None
) -> tuple[Sequence[SliceFile], list[str], float | None]:
    """Return the checked slices of a series, what was noticed, and the factor that the images state."""
    found = read_slice_files(path, with_pixels=with_pixels, classes=PET_CLASSES)
    if found.missing:
        raise PETError(
            f"{len(found.missing)} PET images that DICOMDIR refers to are missing, the first {found.missing[0]}; "
            "expected all of them, or no DICOMDIR"
        )
    files, notes = choose_pet(found, series)
    if len(files) == 1 and text_of(files[0].dataset, "SOPClassUID") in ENHANCED:
        frames, stated = read_frames(files[0])
        check_agreement([file.dataset for file in frames], [file.name for file in frames])
        return frames, [*notes, *_check_one_frame(frames)], stated
    if len(found.slices) == 1 and files[0].path == path:
        raise PETError("a single DICOM file, expected the folder that holds the whole series")
    _check_slices(files)
    n_stated = int(number_of(files[0].dataset, "NumberOfSlices") or 0)
    if len(files) < n_stated:
        raise PETError(f"{len(files)} slices, expected {n_stated} as NumberOfSlices says")
    if found.dangling and not n_stated:
        raise PETError(f"{found.dangling[0]}: link to a file that does not exist, which may be a slice")
    return files, [*notes, *_check_one_frame(files)], None


def _check_slices(files: Sequence[SliceFile]) -> None:
    """Check that files of one series are PET slices and agree in what one series has one value of."""
    for file in files:
        sop_class, modality = text_of(file.dataset, "SOPClassUID"), text_of(file.dataset, "Modality")
        if sop_class in ENHANCED:
            raise PETError(f"{file.name}: {UID(sop_class).name} beside {len(files) - 1} other files, expected it alone")
        if modality != "PT":
            raise PETError(f"{file.name}: Modality is {modality or 'missing'}, expected PT")
        if sop_class != PositronEmissionTomographyImageStorage:
            raise PETError(f"{file.name}: SOP class is {UID(sop_class).name}, expected PET Image Storage")
    check_agreement([file.dataset for file in files], [file.name for file in files])


def _check_instances(files: Sequence[SliceFile]) -> None:
    """Refuse a slice without a UID of its own, by which a derived series refers to it."""
    seen: dict[str, str] = {}
    for file in files:
        uid = text_of(file.dataset, "SOPInstanceUID")
        if not uid:
            raise PETError(f"{file.name}: SOPInstanceUID is missing, expected one on every slice")
        if uid in seen:
            raise PETError(f"{file.name}: SOPInstanceUID is that of {seen[uid]}, expected another on every slice")
        seen[uid] = file.name


# Frames of a series that is dynamic or gated differ in one of these.
_FRAME_ATTRIBUTES = (
    "FrameReferenceTime",
    "TriggerTime",
    "FrameTime",
    "TemporalPositionIdentifier",
    "AcquisitionTime",
    "AcquisitionNumber",
)


def _check_one_frame(files: Sequence[SliceFile]) -> tuple[str, ...]:
    """Check that slices are one static frame, or one frame that was picked from a dynamic or gated series.

    Return a sentence on what was noticed and is harmless. The `PETError` says how many frames were found, and how to
    choose one.
    """
    dataset = files[0].dataset
    series_type = value_of(dataset, "SeriesType") or "missing"
    kind = str(series_type if isinstance(series_type, str) else series_type[0]).upper()
    if "REPROJECTION" in series_type:
        raise PETError("SeriesType is REPROJECTION, projections of a volume are not slices")
    places = Counter(text_of(file.dataset, "ImagePositionPatient") for file in files)
    n_frames = max(places.values())
    is_repeated = set(places.values()) == {n_frames} or kind in {"DYNAMIC", "GATED"}
    if n_frames > 1 and len(places) > 1 and is_repeated:
        found = f"{n_frames} slices at each of {len(places)} positions (SeriesType {kind})"
        for keyword in _FRAME_ATTRIBUTES:
            values = Counter(text_of(file.dataset, keyword) for file in files)
            if set(values.values()) == {len(files) // n_frames}:
                choose = f"put the files of one frame (one {keyword}) into a folder of their own"
                raise PETError(f"{found}: {n_frames} frames of a dynamic or gated series, expected one; {choose}")
        raise PETError(f"{found}: the same slices {n_frames} times, or frames that nothing tells apart; expected one")
    n_stated = 1
    for keyword in ("NumberOfTimeSlices", "NumberOfTimeSlots", "NumberOfRRIntervals"):
        n_stated *= int(number_of(dataset, keyword) or 1)
    if n_stated == 1:
        return ()
    if kind in {"DYNAMIC", "GATED"}:
        return (f"One of the {n_stated} frames of a series of SeriesType {kind}.",)
    return (f"The {n_stated} frames that the header counts were ignored, SeriesType is {kind}.",)
