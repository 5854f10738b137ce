"""When a DICOM PET series was administered, acquired, and to which moment it is decay-corrected.

Sources: QIBA vendor-neutral SUV pseudo-code (2012); DICOM PS3.3 C.8.9.1; IBSI-SUV reference objects. No
sentence written here contains a date or a time of day: all times are given relative to one another.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import lru_cache

from pydicom.dataset import Dataset
from pydicom.valuerep import DA, DT, TM

from pipeline.errors import PETError
from pipeline.pet.dicom.private import REFERENCE_TIMES, private_value
from pipeline.pet.dicom.values import number_of, text_of, value_of
from pipeline.pet.suv.factor import EARLIEST_UPTAKE, average_activity_time

__all__ = [
    "ReferenceTime",
    "acquisition_time",
    "administration_time",
    "average_moment",
    "moment_of",
    "moment_of_reference",
    "reference_time",
]

DISAGREEMENT = 60.0
"""Candidates for the reference time further apart than this [s] are reported."""

ROUNDING = 1.0
"""Times of acquisition are often written to the second [s]."""

LATEST_UPTAKE_HALF_LIVES = 2.0
"""A RadiopharmaceuticalStartDateTime that gives a longer uptake [half-lives] is not believed."""

SHORT_LIVED = 6 * 3600.0
"""Up to this half-life [s], twice the half-life is within half a day, so a time of day tells the day."""


@dataclass(frozen=True)
class ReferenceTime:
    """The moment to which a series is decay-corrected, and why that one."""

    moment: datetime
    """On the scanner's clock."""

    started: datetime | None
    """Start of the acquisition of the earliest slice, if the slices say."""

    notes: tuple[str, ...]
    """The rule that gave it, and the candidates that disagree."""


@lru_cache(maxsize=1024)
def _combined(date: str, time: str) -> datetime:
    # All slices of a bed have the same.
    return datetime.combine(DA(date), TM(time))


def _date_time(dataset: Dataset, date_keyword: str, time_keyword: str) -> datetime | None:
    date, time = text_of(dataset, date_keyword), text_of(dataset, time_keyword)
    if not date or not time:
        return None
    try:
        return _combined(date, time)
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
    try:
        return moment - written + sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[3:5]))
    except OverflowError as error:
        raise PETError(f"{name} is beyond the calendar, expected years 1 to 9999") from error


def acquisition_time(dataset: Dataset) -> datetime | None:
    """Return when the acquisition of a slice began, or None if the slice does not say.

    Raises
    ------
    PETError
        If the attribute is not a DICOM date or time.
    """
    moment = _date_time(dataset, "AcquisitionDate", "AcquisitionTime")
    return moment or moment_of(dataset, "AcquisitionDateTime")


def moment_of(dataset: Dataset, keyword: str) -> datetime | None:
    """Return the value of a DT attribute on the clock of the data set, or None if it is absent or empty.

    Raises
    ------
    PETError
        If it is not a DICOM date-time.
    """
    return _clock(value_of(dataset, keyword), dataset, keyword)


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


def average_moment(dataset: Dataset, *, half_life: float) -> tuple[datetime, str]:
    """Return when a slice's activity was that of its average, and the rule that gave it.

    An image without decay correction shows the activity of that moment. A multi-frame image states it as
    FrameReferenceDateTime (0018,9151); else it follows from the acquisition and the duration of the frame.

    Parameters
    ----------
    dataset
        Header of the slice.
    half_life
        Half-life [s].

    Raises
    ------
    PETError
        If the slice does not say when or for how long it was acquired.
    """
    stated = moment_of(dataset, "FrameReferenceDateTime")
    if stated is not None:
        return stated, "FrameReferenceDateTime of each frame"
    acquired, duration = acquisition_time(dataset), number_of(dataset, "ActualFrameDuration")
    if acquired is None or not duration or duration < 0:
        missing = "AcquisitionTime" if acquired is None else "ActualFrameDuration"
        raise PETError(f"{missing} is missing, expected one on every slice of an image without decay correction")
    within = average_activity_time(duration / 1000.0, half_life)
    return acquired + timedelta(seconds=within), "AcquisitionTime and ActualFrameDuration of each slice"


def _is_ge(manufacturer: str) -> bool:
    return "GE" in manufacturer.upper().split()


def _stated(first: Dataset) -> list[tuple[datetime, str]]:
    candidates = [("DecayCorrectionDateTime (0018,9701)", value_of(first, "DecayCorrectionDateTime"))]
    candidates += [(attribute.name, private_value(first, attribute)) for attribute in REFERENCE_TIMES]
    moments = [(_clock(value, first, name), name) for name, value in candidates]
    return [(moment, name) for moment, name in moments if moment is not None]


def _back_computed(
    slices: Sequence[Dataset], half_life: float | None, acquired: Sequence[datetime], series: datetime | None
) -> tuple[datetime | None, str]:
    """Return the start that frame reference times point back to, or why they cannot be believed."""
    earliest = min(acquired)
    manufacturer = text_of(slices[0], "Manufacturer")
    moments = []
    for dataset, start in zip(slices, acquired, strict=True):
        reference = number_of(dataset, "FrameReferenceTime")
        duration = number_of(dataset, "ActualFrameDuration")
        if reference is None or duration is None or half_life is None:
            return None, ""
        within = moment_of_reference(manufacturer, frame_duration=duration / 1000.0, half_life=half_life)
        try:
            moments.append(start + timedelta(seconds=within - reference / 1000.0))
        except OverflowError:
            return None, "the frame reference time points beyond the calendar"
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
    notes: list[str] = []
    candidates = _stated(first)
    if len(acquired) == len(slices):
        earliest = min(acquired)
        computed, objection = _back_computed(slices, half_life, acquired, series)
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
    return ReferenceTime(moment, min(acquired, default=None), (f"Reference time of decay: {rule}.", *notes))


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
            other = _other_time_of_day(item, date_time)
            return date_time, f"Uptake {uptake:.0f} s from RadiopharmaceuticalStartDateTime{other}."
        objection = f"RadiopharmaceuticalStartDateTime gives an uptake of {uptake:.0f} s"
    text = text_of(item, "RadiopharmaceuticalStartTime")
    if not text:
        raise PETError(f"{objection} and RadiopharmaceuticalStartTime is missing, SUV cannot be computed")
    if half_life is None or half_life > SHORT_LIVED:
        raise PETError(f"{objection}, and a time of day alone does not tell the day for this half-life")
    moment = datetime.combine(reference.date(), _time_of_day(text))
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
    if longest is not None and uptake > longest:
        day += f", more than the usual {longest:.0f} s"
    rejected = "" if date_time is None else f" ({objection}, not believed)"
    return moment, f"Uptake {uptake:.0f} s from RadiopharmaceuticalStartTime {day}{rejected}."


def _time_of_day(text: str) -> time:
    try:
        return TM(text)
    except (ValueError, TypeError) as error:
        raise PETError("RadiopharmaceuticalStartTime is not a DICOM time") from error


def _other_time_of_day(item: Dataset, believed: datetime) -> str:
    """Return half a sentence on a RadiopharmaceuticalStartTime that disagrees, or nothing."""
    text = text_of(item, "RadiopharmaceuticalStartTime")
    if not text:
        return ""
    apart = (datetime.combine(believed.date(), _time_of_day(text)) - believed).total_seconds()
    # The nearest of the day before, the same day and the next.
    apart = (apart + 43200) % 86400 - 43200
    return f" (RadiopharmaceuticalStartTime is {apart:+.0f} s from it)" if abs(apart) > DISAGREEMENT else ""
