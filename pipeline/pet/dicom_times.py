"""When a DICOM PET series was administered, acquired, and to which moment it is decay-corrected.

Sources: QIBA vendor-neutral SUV pseudo-code (2012); DICOM PS3.3 C.8.9.1; IBSI-SUV reference objects. No
sentence written here contains a date or a time of day: all times are given relative to one another.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydicom.dataset import Dataset
from pydicom.valuerep import DA, DT, TM

from pipeline.pet.dicom_values import number_of, text_of, value_of
from pipeline.pet.errors import PETError
from pipeline.pet.suv import average_activity_time

__all__ = [
    "ReferenceTime",
    "acquisition_time",
    "administration_time",
    "moment_of_reference",
    "reference_time",
]

DISAGREEMENT = 60.0
"""Candidates for the reference time further apart than this [s] are reported."""

ROUNDING = 1.0
"""Times of acquisition are often written to the second [s]."""

EARLIEST_UPTAKE = -3600.0
"""A RadiopharmaceuticalStartDateTime that gives a shorter uptake [s] is not believed."""

LATEST_UPTAKE_HALF_LIVES = 2.0
"""A RadiopharmaceuticalStartDateTime that gives a longer uptake [half-lives] is not believed."""

SHORT_LIVED = 6 * 3600.0
"""Up to this half-life [s], twice the half-life is within half a day, so a time of day tells the day."""

GE_CREATOR = "GEMS_PETD_01"
SIEMENS_CREATOR = "SIEMENS MED PT"


@dataclass(frozen=True)
class ReferenceTime:
    """The moment to which a series is decay-corrected, and why that one."""

    moment: datetime
    """On the scanner's clock."""

    notes: tuple[str, ...]
    """The rule that gave it, and the candidates that disagree."""


def _date_time(dataset: Dataset, date_keyword: str, time_keyword: str) -> datetime | None:
    date, time = text_of(dataset, date_keyword), text_of(dataset, time_keyword)
    if not date or not time:
        return None
    try:
        return datetime.combine(DA(date), TM(time))
    except (ValueError, TypeError) as error:
        raise PETError(f"{date_keyword} or {time_keyword} is not a DICOM date or time") from error


def _clock(value: object, dataset: Dataset, name: str) -> datetime | None:
    """Return a DT value on the clock that the data set's DA and TM values are on."""
    if isinstance(value, bytes):
        value = value.decode("ascii", errors="replace").strip(" \0")
    if not value:
        return None
    try:
        parsed = DT(str(value).strip())
    except (ValueError, TypeError) as error:
        raise PETError(f"{name} is not a DICOM date-time") from error
    if parsed is None or len(str(value).strip().split(".")[0].split("+")[0].split("-")[0]) < 12:
        raise PETError(f"{name} has no hour and minute")
    moment = datetime.combine(parsed.date(), parsed.time())
    offset = text_of(dataset, "TimezoneOffsetFromUTC")
    written = parsed.utcoffset()
    if written is None or not offset:
        return moment
    if not re.fullmatch(r"[+-]\d{4}", offset):
        raise PETError(f"TimezoneOffsetFromUTC is {offset!r}, expected +HHMM or -HHMM")
    sign = -1 if offset[0] == "-" else 1
    return moment - written + sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[3:5]))


def _private_value(dataset: Dataset, group: int, element: int, creator: str) -> object | None:
    """Return the value of a private element of a vendor, also where the creator was lost.

    De-identification may drop the element that names the creator: then block 10 of that vendor's own series
    is read, unless somebody else has reserved it.
    """
    try:
        return dataset.private_block(group, creator)[element].value
    except KeyError:
        pass
    vendor = {GE_CREATOR: "GE", SIEMENS_CREATOR: "SIEMENS"}[creator]
    if (group, 0x10) in dataset or vendor not in text_of(dataset, "Manufacturer").upper().split():
        return None
    found = dataset.get((group, 0x1000 + element))
    return None if found is None else found.value


def acquisition_time(dataset: Dataset) -> datetime | None:
    """Return when the acquisition of a slice began, or None if the slice does not say.

    Raises
    ------
    PETError
        If the attribute is not a DICOM date or time.
    """
    moment = _date_time(dataset, "AcquisitionDate", "AcquisitionTime")
    return moment or _clock(value_of(dataset, "AcquisitionDateTime"), dataset, "AcquisitionDateTime")


def moment_of_reference(manufacturer: str, *, frame_duration: float, half_life: float) -> float:
    """Return which moment of a frame [s] FrameReferenceTime (0054,1300) counts to.

    It is the moment of average activity (DICOM PS3.3 C.8.9.4.1.5), for GE the start of the frame.

    Parameters
    ----------
    manufacturer
        Manufacturer (0008,0070).
    frame_duration
        Duration of the frame [s].
    half_life
        Half-life [s].
    """
    return 0.0 if _is_ge(manufacturer) else average_activity_time(frame_duration, half_life)


def _is_ge(manufacturer: str) -> bool:
    return "GE" in manufacturer.upper().split()


def _stated(first: Dataset) -> tuple[datetime, str] | None:
    candidates = (
        ("DecayCorrectionDateTime (0018,9701)", value_of(first, "DecayCorrectionDateTime")),
        ("Siemens private (0071,1022)", _private_value(first, 0x0071, 0x22, SIEMENS_CREATOR)),
        ("GE private (0009,100d)", _private_value(first, 0x0009, 0x0D, GE_CREATOR)),
    )
    for name, value in candidates:
        moment = _clock(value, first, name)
        if moment is not None:
            return moment, name
    return None


def _back_computed(
    slices: Sequence[Dataset], half_life: float | None, earliest: datetime, series: datetime | None
) -> tuple[datetime | None, str]:
    """Return the start that frame reference times point back to, or why they cannot be believed."""
    manufacturer = text_of(slices[0], "Manufacturer")
    moments = []
    for dataset in slices:
        acquired = acquisition_time(dataset)
        reference = number_of(dataset, "FrameReferenceTime")
        duration = number_of(dataset, "ActualFrameDuration")
        if acquired is None or reference is None or duration is None or half_life is None:
            return None, ""
        within = moment_of_reference(manufacturer, frame_duration=duration / 1000.0, half_life=half_life)
        moments.append(acquired + timedelta(seconds=within - reference / 1000.0))
    spread = (max(moments) - min(moments)).total_seconds()
    moment = min(moments)
    if spread > DISAGREEMENT:
        return None, f"the slices' frame reference times point to starts {spread:.0f} s apart"
    after = (moment - earliest).total_seconds()
    if after > ROUNDING:
        return None, f"the frame reference time points {after:.0f} s past the start of the acquisition"
    # Where the series time is credible, nothing was acquired before it: a scanner that gives every bed the
    # AcquisitionTime of the first one (Philips) points to a start that never was.
    if series is not None and series <= earliest and (series - moment).total_seconds() > DISAGREEMENT:
        before = (series - moment).total_seconds()
        return None, f"the frame reference time points {before:.0f} s before the series time"
    return moment, ""


def reference_time(slices: Sequence[Dataset], *, half_life: float | None) -> ReferenceTime:
    """Return the moment to which a series with DecayCorrection START is corrected.

    In this order: the moment that the scanner states; the acquisition of the earliest slice, if that is the
    series time; the start that the frame reference times point back to, if they are consistent; the series
    time, if it is not after the earliest acquisition; the earliest acquisition.

    Parameters
    ----------
    slices
        Headers of the series.
    half_life
        Half-life [s], if known.

    Raises
    ------
    PETError
        If no rule gives a time.
    """
    first = slices[0]
    acquired = [moment for moment in map(acquisition_time, slices) if moment is not None]
    series = _date_time(first, "SeriesDate", "SeriesTime")
    stated = _stated(first)
    notes: list[str] = []
    candidates: list[tuple[datetime, str]] = [stated] if stated else []
    if len(acquired) == len(slices):
        earliest = min(acquired)
        computed, objection = _back_computed(slices, half_life, earliest, series)
        if objection:
            notes.append(f"Reference time is not computed from FrameReferenceTime: {objection}.")
        if series == earliest:
            candidates.append((earliest, "acquisition of the earliest slice, equal to the series time"))
        if computed is not None:
            candidates.append((computed, "FrameReferenceTime counted back from the acquisition"))
        if series is not None and series < earliest:
            candidates.append((series, "series time"))
        candidates.append((earliest, "acquisition of the earliest slice"))
        if series is not None and series > earliest:
            late = (series - earliest).total_seconds()
            notes.append(f"Series time is {late:.0f} s after the earliest acquisition, not used.")
    if not candidates:
        raise PETError("AcquisitionDate and AcquisitionTime are missing, reference time of decay is unknown")
    moment, rule = candidates[0]
    for other, name in candidates[1:]:
        apart = (other - moment).total_seconds()
        if abs(apart) > DISAGREEMENT:
            notes.append(f"Another candidate, {name}, is {apart:+.0f} s from the reference time.")
    return ReferenceTime(moment, (f"Reference time of decay: {rule}.", *notes))


def administration_time(
    item: Dataset, dataset: Dataset, *, reference: datetime, half_life: float | None
) -> tuple[datetime, str]:
    """Return when the radiopharmaceutical was administered, and the sentence that says how it was found.

    Parameters
    ----------
    item
        Item of RadiopharmaceuticalInformationSequence.
    dataset
        Header of a slice, for its time zone.
    reference
        Moment to which the series is decay-corrected.
    half_life
        Half-life [s], if known.

    Raises
    ------
    PETError
        If neither attribute gives a plausible time.
    """
    longest = None if half_life is None else LATEST_UPTAKE_HALF_LIVES * half_life
    date_time = _clock(value_of(item, "RadiopharmaceuticalStartDateTime"), dataset, "RadiopharmaceuticalStartDateTime")
    objection = "RadiopharmaceuticalStartDateTime is missing"
    if date_time is not None:
        uptake = (reference - date_time).total_seconds()
        if uptake >= EARLIEST_UPTAKE and (longest is None or uptake <= longest):
            return date_time, f"Uptake {uptake:.0f} s from RadiopharmaceuticalStartDateTime."
        objection = f"RadiopharmaceuticalStartDateTime gives an uptake of {uptake:.0f} s"
    time = text_of(item, "RadiopharmaceuticalStartTime")
    if not time:
        raise PETError(f"{objection} and RadiopharmaceuticalStartTime is missing, SUV cannot be computed")
    if half_life is None or half_life > SHORT_LIVED:
        raise PETError(f"{objection}, and a time of day alone does not tell the day for this half-life")
    try:
        moment = datetime.combine(reference.date(), TM(time))
    except (ValueError, TypeError) as error:
        raise PETError("RadiopharmaceuticalStartTime is not a DICOM time") from error
    uptake = (reference - moment).total_seconds()
    day = "on the day of the reference time"
    if uptake < 0:
        moment -= timedelta(days=1)
        day = "on the day before the reference time"
        shifted = (reference - moment).total_seconds()
        if longest is not None and shifted > longest:
            raise PETError(
                f"RadiopharmaceuticalStartTime is {-uptake:.0f} s after the reference time, and the day "
                f"before gives an uptake of {shifted:.0f} s, expected at most {longest:.0f} s"
            )
        uptake = shifted
    rejected = "" if date_time is None else f" ({objection}, not believed)"
    return moment, f"Uptake {uptake:.0f} s from RadiopharmaceuticalStartTime {day}{rejected}."
