"""Everything that the headers of a DICOM PET series say: its slices, their grid, and the SUVbw factor of each.

Reading a series and explaining its SUV have this in common; no pixel is decoded here. Other readers let pass what is
refused here: two patients, two units or two frames of reference in one folder, several frames stacked as slices, a
slice that is there twice, and the slices of two scans.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from zipfile import is_zipfile

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag
from pydicom.uid import UID, PositronEmissionTomographyImageStorage
from pydicom.valuerep import DT, TM

from pipeline.errors import PETError, naming
from pipeline.pet.dicom.reading.enhanced import read_frames
from pipeline.pet.dicom.reading.files import ENHANCED, FoundFiles, SliceFile, read_dataset, read_slice_files
from pipeline.pet.dicom.reading.header import read_header
from pipeline.pet.dicom.slices import POSITION_TOLERANCE, SliceStack, check_pixels, stack_slices
from pipeline.pet.dicom.values import (
    REFERENCE_TIMES,
    SCALE_FACTORS,
    PrivateAttribute,
    number_of,
    private_number,
    private_value,
    stored_value,
    text_of,
    value_of,
)
from pipeline.pet.header import PETHeader
from pipeline.pet.suv.factor import explained_factor, slice_factors

__all__ = ["Survey", "survey_series"]

PET_CLASSES = {PositronEmissionTomographyImageStorage, *ENHANCED}


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

    Parameters
    ----------
    path
        Folder that holds the series, or the file of a multi-frame one.
    with_pixels
        Whether to read the pixel data, too, so that the slices can be decoded afterwards.
    series
        SeriesInstanceUID or SeriesNumber of the series to read, needed where there are several.

    Raises
    ------
    PETError
        If this is not one complete, static, attenuation-corrected PET series of one patient from which SUVbw can
        be computed.
    """
    files, notes, stated = _find(path, with_pixels=with_pixels, series=series)
    check_pixels(files)
    stack = stack_slices([file.dataset for file in files], [file.name for file in files])
    if files[0].image is None:
        # After the geometry, which says more of a slice that is there twice.
        _check_instances(files)
    if stack.unevenness > POSITION_TOLERANCE:
        notes.append(f"Slices lie up to {stack.unevenness:.2f} mm off an even grid.")
    files = [files[k] for k in stack.order]
    found = read_header([file.dataset for file in files])
    header, first = found.header, files[0].dataset
    factors = slice_factors(header, found.average_times, len(files))
    kind = "slices" if files[0].image is None else "frames of a multi-frame image"
    per_count, activity_per_count = (private_number(first, attribute) for attribute in SCALE_FACTORS)
    explained = explained_factor(
        header, factors, stated=stated, suv_per_count=per_count, activity_per_count=activity_per_count
    )
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
            *explained,
        ),
        warnings=found.warnings,
    )


def _find(
    path: Path, *, with_pixels: bool, series: str | int | None
) -> tuple[list[SliceFile], list[str], float | None]:
    """Return the checked slices of a series, what was noticed, and the factor that the images state."""
    if path.is_dir():
        found = read_slice_files(path, with_pixels=with_pixels, pixels_of=PET_CLASSES)
    else:
        dataset = read_dataset(path, stop_before_pixels=not with_pixels)
        if dataset is None:
            archive = "a zip archive, expected a folder; unpack it first" if is_zipfile(path) else ""
            raise PETError(archive or "not a DICOM file, expected the folder of a DICOM PET series")
        found = FoundFiles([SliceFile(path, path.name, dataset, has_pixels=with_pixels)], 0, [])
    files, notes = _choose(found, series)
    if len(files) == 1 and text_of(files[0].dataset, "SOPClassUID") in ENHANCED:
        frames, stated = read_frames(files[0])
        _check_uniform(frames)
        return frames, [*notes, *_check_one_frame(frames)], stated
    if not path.is_dir():
        raise PETError("a single DICOM file, expected the folder that holds the whole series")
    _check_slices(files)
    n_stated = int(number_of(files[0].dataset, "NumberOfSlices") or 0)
    if len(files) < n_stated:
        raise PETError(f"{len(files)} slices, expected {n_stated} as NumberOfSlices says")
    if found.dangling and not n_stated:
        raise PETError(f"{found.dangling[0]}: link to a file that does not exist, which may be a slice")
    return files, [*notes, *_check_one_frame(files)], None


# ------------------------------------------------------------------------------------------- which series is read


def _choose(found: FoundFiles, wanted: str | int | None) -> tuple[list[SliceFile], list[str]]:
    """Return the files of the one PET series, or of the one that is wanted, and sentences on what is left aside."""
    groups: dict[str, list[SliceFile]] = {}
    others: Counter[str] = Counter()
    for file in found.slices:
        with naming(file.name):
            uid, sop_class = text_of(file.dataset, "SeriesInstanceUID"), text_of(file.dataset, "SOPClassUID")
            if not sop_class:
                raise PETError("SOPClassUID is missing, the file may be cut short")
            if sop_class in PET_CLASSES or uid in groups:
                groups.setdefault(uid, []).append(file)
            else:
                others[text_of(file.dataset, "Modality")[:16] or "without Modality"] += 1
    listed = ", ".join(f"{n} {modality}" for modality, n in sorted(others.items()))
    if not groups:
        raise PETError(f"no PET image among {len(found.slices)} DICOM files ({listed}), expected a PET series")
    if "" in groups and len(groups) > 1:
        raise PETError(f"{groups[''][0].name}: SeriesInstanceUID is missing, the file may be cut short")
    chosen = {uid: files for uid, files in groups.items() if wanted is None or _is_wanted(uid, files[0], str(wanted))}
    if len(chosen) != 1:
        described = ", ".join(_describe(files) for files in (chosen or groups).values())
        if not chosen:
            raise PETError(f"no PET series {wanted}, expected one of: {described}")
        raise PETError(
            f"{len(chosen)} PET series: {described}, expected one; choose it by SeriesNumber or SeriesInstanceUID "
            "(series)"
        )
    ((uid, files),) = chosen.items()
    notes = [f"{found.n_other} files that are not DICOM images were left out."] if found.n_other else []
    if found.dangling:
        notes.append(f"{len(found.dangling)} links to files that do not exist were left out.")
    if listed:
        notes.append(f"Objects that are no PET images were left aside: {listed}.")
    notes += [
        f"Another PET series ({len(members)} files) was left aside." for key, members in groups.items() if key != uid
    ]
    n_bare = sum(not file.has_meta_information for file in files)
    if n_bare:
        notes.append(f"{n_bare} files have no file meta information (DICOM PS3.10).")
    return files, notes


def _is_wanted(uid: str, file: SliceFile, wanted: str) -> bool:
    number = text_of(file.dataset, "SeriesNumber")
    return wanted.strip() in {uid, number} or (wanted.strip().lstrip("0") or "0") == number.lstrip("0")


def _describe(members: Sequence[SliceFile]) -> str:
    # A description may name the patient, and de-identification removes it (PS3.15 E.1).
    number = text_of(members[0].dataset, "SeriesNumber")
    return f"number {number} ({len(members)} files)" if number else f"one without number ({len(members)} files)"


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
    _check_uniform(files)


# --------------------------------------------------------------------- what one series has one value of


@dataclass(frozen=True)
class _Uniform:
    """An attribute that one series has one value of."""

    name: str
    read: Callable[[Dataset], object]
    """Its value, the same however it is written."""

    stored: Callable[[Dataset], object]
    """Something that is equal in two slices only if the value is, and takes no decoding."""

    may_show: bool
    """Whether an error may show the value; one that identifies a person is compared, never shown."""


Reader = Callable[[Dataset, str], object]


def _number(dataset: Dataset, keyword: str) -> object:
    try:
        return number_of(dataset, keyword)
    except PETError:
        return text_of(dataset, keyword)


def _moment(parse: type[DT] | type[TM], dataset: Dataset, keyword: str) -> object:
    text = text_of(dataset, keyword)
    try:
        return parse(text).isoformat() if text else None
    except (ValueError, TypeError):
        return text


_time, _date_time = partial(_moment, TM), partial(_moment, DT)


def _of_slice(keyword: str, read: Reader = text_of, *, may_show: bool = True) -> _Uniform:
    tag = Tag(keyword)
    return _Uniform(
        keyword, lambda dataset: read(dataset, keyword), lambda dataset: stored_value(dataset, tag), may_show
    )


_RADIOPHARMACEUTICAL = Tag("RadiopharmaceuticalInformationSequence")


def _of_item(keyword: str, read: Reader, *, may_show: bool = True) -> _Uniform:
    tag = Tag(keyword)

    def values(dataset: Dataset) -> list[object]:
        return [read(item, keyword) for item in value_of(dataset, "RadiopharmaceuticalInformationSequence") or []]

    def stored(dataset: Dataset) -> object:
        sequence = stored_value(dataset, _RADIOPHARMACEUTICAL)
        # A sequence of explicit length is bytes still.
        return [stored_value(item, tag) for item in sequence] if isinstance(sequence, DicomSequence) else sequence

    return _Uniform(keyword, values, stored, may_show)


def _of_vendor(attribute: PrivateAttribute) -> _Uniform:
    creator, next_creator = (Tag(attribute.group, 0x10 + k) for k in range(2))
    element = Tag(attribute.default_tag)

    def stored(dataset: Dataset) -> object:
        if next_creator in dataset:
            return private_value(dataset, attribute)
        return stored_value(dataset, creator), stored_value(dataset, element)

    return _Uniform(attribute.name, lambda dataset: str(private_value(dataset, attribute)), stored, may_show=False)


_UNIFORM = (
    *(_of_slice(keyword, may_show=False) for keyword in ("PatientID", "PatientName", "StudyInstanceUID")),
    _of_slice("FrameOfReferenceUID", may_show=False),
    *(_of_slice(keyword) for keyword in ("Units", "SUVType", "DecayCorrection", "CorrectedImage", "SeriesType")),
    *(_of_slice(keyword) for keyword in ("Manufacturer", "PatientSex")),
    *(_of_slice(keyword, _number) for keyword in ("PatientWeight", "PatientSize")),
    _of_slice("SeriesDate", may_show=False),
    _of_slice("SeriesTime", _time, may_show=False),
    _of_slice("DecayCorrectionDateTime", _date_time, may_show=False),
    *(_of_vendor(attribute) for attribute in (*REFERENCE_TIMES, *SCALE_FACTORS)),
    *(_of_item(keyword, _number) for keyword in ("RadionuclideTotalDose", "RadionuclideHalfLife")),
    _of_item("RadiopharmaceuticalStartTime", _time, may_show=False),
    _of_item("RadiopharmaceuticalStartDateTime", _date_time, may_show=False),
)


def _check_uniform(files: Sequence[SliceFile]) -> None:
    """Refuse slices that differ in what one series has one value of, naming the first and in what."""
    for attribute in _UNIFORM:
        expected_bytes = attribute.stored(files[0].dataset)
        if all(attribute.stored(file.dataset) == expected_bytes for file in files):
            continue
        values = []
        for file in files:
            with naming(file.name):
                values.append(attribute.read(file.dataset))
        counts = Counter(map(str, values))
        if len(counts) == 1:
            continue
        expected, n_expected = counts.most_common(1)[0]
        odd = next(k for k, value in enumerate(values) if str(value) != expected)
        if attribute.may_show:
            difference = f"{attribute.name} is {str(values[odd])!r}, expected {expected!r}"
        else:
            difference = f"another {attribute.name}, expected the one"
        raise PETError(f"{files[odd].name}: {difference} as in {n_expected} of {len(files)} files")


def _check_instances(files: Sequence[SliceFile]) -> None:
    """Check that every slice has a UID of its own, by which a derived series refers to it.

    Raises
    ------
    PETError
        Naming the first file that has none, or that of another.
    """
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

    Returns
    -------
    notes
        What was noticed and is harmless, one sentence each.

    Raises
    ------
    PETError
        Saying how many frames were found, and how to choose one.
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
