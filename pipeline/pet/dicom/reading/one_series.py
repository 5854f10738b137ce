"""Check that DICOM files are the slices of one static PET series of one patient.

What is refused here is what other readers let pass: two patients, two units or two frames of reference in one
folder, several frames stacked as slices, a slice that is there twice.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, PositronEmissionTomographyImageStorage

from pipeline.errors import PETError, naming
from pipeline.pet.dicom.private import REFERENCE_TIMES, SCALE_FACTORS, PrivateAttribute, private_value
from pipeline.pet.dicom.reading.files import ENHANCED, SliceFile
from pipeline.pet.dicom.values import number_of, text_of, value_of

__all__ = ["check_instances", "check_one_frame", "check_one_series", "check_uniform"]


def _describe(members: Sequence[SliceFile]) -> str:
    dataset = members[0].dataset
    description = text_of(dataset, "SeriesDescription") or "no description"
    return f"{description!r} ({text_of(dataset, 'Modality') or 'no modality'}, {len(members)} files)"


@dataclass(frozen=True)
class _Uniform:
    """An attribute that one series has one value of."""

    name: str
    read: Callable[[Dataset], str]
    """Its value."""

    stored: Callable[[Dataset], object]
    """Something that is equal in two slices only if the value is, and takes no decoding."""

    may_show: bool
    """Whether an error may show the value; one that identifies a person is compared, never shown."""


def _bytes_of(dataset: Dataset, tag: BaseTag) -> object:
    # What pydicom has not decoded yet, which takes most of the time of reading a header.
    try:
        element = dataset.get_item(tag)
    except Exception as error:
        raise PETError(f"element {tag} is damaged and cannot be read") from error
    return None if element is None else element.value


def _of_slice(keyword: str, *, may_show: bool = True) -> _Uniform:
    tag = Tag(keyword)
    return _Uniform(
        keyword, lambda dataset: text_of(dataset, keyword), lambda dataset: _bytes_of(dataset, tag), may_show
    )


_RADIOPHARMACEUTICAL = Tag("RadiopharmaceuticalInformationSequence")


def _of_item(keyword: str, *, may_show: bool = True) -> _Uniform:
    tag = Tag(keyword)

    def items(dataset: Dataset) -> Sequence[Dataset]:
        return value_of(dataset, "RadiopharmaceuticalInformationSequence") or []

    def stored(dataset: Dataset) -> object:
        sequence = _bytes_of(dataset, _RADIOPHARMACEUTICAL)
        # A sequence of explicit length is bytes still.
        return [_bytes_of(item, tag) for item in sequence] if isinstance(sequence, DicomSequence) else sequence

    return _Uniform(keyword, lambda dataset: str([text_of(item, keyword) for item in items(dataset)]), stored, may_show)


def _of_vendor(attribute: PrivateAttribute) -> _Uniform:
    creator, next_creator = (Tag(attribute.group, 0x10 + k) for k in range(2))
    element = Tag(attribute.default_tag)

    def stored(dataset: Dataset) -> object:
        if next_creator in dataset:
            return private_value(dataset, attribute)
        return _bytes_of(dataset, creator), _bytes_of(dataset, element)

    return _Uniform(attribute.name, lambda dataset: str(private_value(dataset, attribute)), stored, may_show=False)


_UNIFORM = (
    *(_of_slice(keyword, may_show=False) for keyword in ("PatientID", "PatientName", "StudyInstanceUID")),
    _of_slice("FrameOfReferenceUID", may_show=False),
    *(_of_slice(keyword) for keyword in ("Units", "SUVType", "DecayCorrection", "CorrectedImage", "SeriesType")),
    *(_of_slice(keyword) for keyword in ("Manufacturer", "PatientWeight", "PatientSize", "PatientSex")),
    *(_of_slice(keyword, may_show=False) for keyword in ("SeriesDate", "SeriesTime", "DecayCorrectionDateTime")),
    *(_of_vendor(attribute) for attribute in (*REFERENCE_TIMES, *SCALE_FACTORS)),
    *(_of_item(keyword) for keyword in ("RadionuclideTotalDose", "RadionuclideHalfLife")),
    _of_item("RadiopharmaceuticalStartTime", may_show=False),
    _of_item("RadiopharmaceuticalStartDateTime", may_show=False),
)


def check_uniform(files: Sequence[SliceFile]) -> None:
    """Check that slices agree in everything that one series has one value of.

    Raises
    ------
    PETError
        Naming the first slice that differs, and in what.
    """
    for attribute in _UNIFORM:
        expected_bytes = attribute.stored(files[0].dataset)
        if all(attribute.stored(file.dataset) == expected_bytes for file in files):
            continue
        values = []
        for file in files:
            with naming(file.name):
                values.append(attribute.read(file.dataset))
        counts = Counter(values)
        if len(counts) == 1:
            continue
        expected, n_expected = counts.most_common(1)[0]
        odd = next(k for k, value in enumerate(values) if value != expected)
        if attribute.may_show:
            difference = f"{attribute.name} is {values[odd]!r}, expected {expected!r}"
        else:
            difference = f"another {attribute.name}, expected the one"
        raise PETError(f"{files[odd].name}: {difference} as in {n_expected} of {len(files)} files")


def check_instances(files: Sequence[SliceFile]) -> None:
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


def check_one_frame(files: Sequence[SliceFile]) -> tuple[str, ...]:
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


def _unlike(files: Sequence[SliceFile], *keywords: str) -> Sequence[SliceFile]:
    """Return the first file alone where all files have the same bytes for some attributes, else all of them."""
    for tag in map(Tag, keywords):
        first = _bytes_of(files[0].dataset, tag)
        if any(_bytes_of(file.dataset, tag) != first for file in files):
            return files
    return files[:1]


def check_one_series(files: Sequence[SliceFile], n_other: int) -> tuple[str, ...]:
    """Check that files are the slices of one static PET series of one patient.

    Parameters
    ----------
    files
        All DICOM files of a folder.
    n_other
        Number of files that are not DICOM.

    Returns
    -------
    notes
        What was noticed and is harmless, one sentence each.

    Raises
    ------
    PETError
        Naming the first file that does not belong, what was found and what was expected.
    """
    series: dict[str, list[SliceFile]] = {}
    for file in _unlike(files, "SeriesInstanceUID"):
        series.setdefault(text_of(file.dataset, "SeriesInstanceUID"), []).append(file)
    if len(series) > 1:
        listed = ", ".join(_describe(members) for members in series.values())
        raise PETError(f"{len(series)} series in one folder: {listed}; expected one")
    for file in _unlike(files, "SOPClassUID", "Modality"):
        sop_class, modality = text_of(file.dataset, "SOPClassUID"), text_of(file.dataset, "Modality")
        if sop_class in ENHANCED:
            raise PETError(f"{file.name}: {UID(sop_class).name} beside {len(files) - 1} other files, expected it alone")
        if modality != "PT":
            raise PETError(f"{file.name}: Modality is {modality or 'missing'}, expected PT")
        if sop_class != PositronEmissionTomographyImageStorage:
            raise PETError(f"{file.name}: SOP class is {UID(sop_class).name or 'missing'}, expected PET Image Storage")
    check_uniform(files)
    frame_notes = check_one_frame(files)
    n_stated = int(number_of(files[0].dataset, "NumberOfSlices") or 0)
    if len(files) < n_stated:
        raise PETError(f"{len(files)} slices, expected {n_stated} as NumberOfSlices says")
    left_out = f"{n_other} files that are not DICOM images were left out."
    return (left_out, *frame_notes) if n_other else frame_notes
