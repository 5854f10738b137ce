"""When a DICOM PET series was administered, acquired, and to which moment it is decay-corrected.

Sources: QIBA vendor-neutral SUV pseudo-code (2012); DICOM PS3.3 C.8.9.1; IBSI-SUV reference objects. No
sentence written here contains a date or a time of day: all times are given relative to one another.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from pydicom.dataset import Dataset
from pydicom.valuerep import DA, DT, TM

from pipeline.errors import PETError
from pipeline.pet.dicom.values import REFERENCE_TIMES, number_of, plain_text, private_value, text_of, value_of
from pipeline.pet.suv.factor import average_activity_time

__all__ = [
    "Moment",
    "ReferenceTime",
    "acquisition_time",
    "average_moment",
    "check_duration",
    "date_time_of",
    "in_words",
    "moment_of",
    "moment_of_reference",
    "reference_time",
    "start_of_acquisition",
]

DISAGREEMENT = 60.0
"""Candidates for the reference time further apart than this [s] are reported."""

ROUNDING = 1.0
"""Times of acquisition are often written to the second [s]."""

LONGEST_ACQUISITION = 12 * 3600.0
"""No static scan takes longer [s]."""

MOST_SECONDS = 100 * 86400.0
"""A longer time [s] is not told in seconds."""


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


def _clock_offset(dataset: Dataset) -> timedelta | None:
    """Return the offset from UTC of the clock that the data set's DA and TM values are on, None if it is unknown."""
    offset = re.fullmatch(r"([+-])(\d\d):?(\d\d)", text_of(dataset, "TimezoneOffsetFromUTC"))
    if offset is not None:
        shift = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        return -shift if offset[1] == "-" else shift
    for keyword in ("AcquisitionDateTime", "FrameAcquisitionDateTime"):
        try:
            parsed = DT(text_of(dataset, keyword))
        except (ValueError, TypeError):
            continue
        if parsed is not None and parsed.utcoffset() is not None:
            return parsed.utcoffset()
    return None


@dataclass(frozen=True)
class Moment:
    """A DT value."""

    moment: datetime
    """On the clock of the data set, if `is_on_clock`."""

    is_on_clock: bool
    """False if the value has an offset from UTC and nothing says that of the clock."""


def date_time_of(value: object, dataset: Dataset, name: str) -> Moment | None:
    """Return a DT value on the clock that the data set's DA and TM values are on."""
    text = plain_text(value)
    if not text:
        return None
    try:
        parsed = DT(text)
    except (ValueError, TypeError) as error:
        raise PETError(f"{name} is not a DICOM date-time") from error
    if parsed is None or len(re.split("[.+-]", text)[0]) < 12:
        raise PETError(f"{name} has no hour and minute")
    moment = datetime.combine(parsed.date(), parsed.time())
    written, offset = parsed.utcoffset(), _clock_offset(dataset)
    if written is None or offset is None:
        return Moment(moment, written is None)
    try:
        return Moment(moment - written + offset, True)
    except OverflowError as error:
        raise PETError(f"{name} is beyond the calendar, expected years 1 to 9999") from error


def acquisition_time(dataset: Dataset) -> datetime | None:
    """Return when the acquisition of a slice began, or None if it does not say; a malformed time is a `PETError`."""
    moment = _date_time(dataset, "AcquisitionDate", "AcquisitionTime")
    return moment or moment_of(dataset, "AcquisitionDateTime")


def _acquisitions(slices: Sequence[Dataset]) -> list[datetime]:
    return [moment for moment in map(acquisition_time, slices) if moment is not None]


def start_of_acquisition(slices: Sequence[Dataset]) -> datetime | None:
    """Return when the earliest slice was acquired: the moment that the times of a `PETHeader` count from."""
    return min(_acquisitions(slices), default=None)


def check_duration(slices: Sequence[Dataset]) -> None:
    """Refuse slices of which some were acquired so much later than others that they are of several scans."""
    try:
        acquired = _acquisitions(slices)
    except PETError:
        # Whether that matters depends on the units.
        return
    span = (max(acquired) - min(acquired)).total_seconds() if acquired else 0.0
    if span > LONGEST_ACQUISITION:
        raise PETError(f"slices were acquired over {in_words(span)}, expected one acquisition of at most 12 hours")


def in_words(seconds: float, sign: str = "") -> str:
    """Return a time [s] for a sentence. Years between dates say no more than that de-identification changed one."""
    return f"{seconds:{sign}.0f} s" if abs(seconds) <= MOST_SECONDS else "more than 100 days"


def moment_of(dataset: Dataset, keyword: str) -> datetime | None:
    """Return a DT attribute on the clock of the data set, or None if it is absent; a malformed one is a `PETError`."""
    found = date_time_of(value_of(dataset, keyword), dataset, keyword)
    return None if found is None else found.moment


def moment_of_reference(manufacturer: str, *, frame_duration: float, half_life: float) -> float:
    """Return which moment [s] of a frame FrameReferenceTime (0054,1300) counts to.

    It is the moment of average activity (DICOM PS3.3 C.8.9.4.1.5), for GE the start of the frame. Duration and
    half-life are in seconds.
    """
    return 0.0 if "GE" in manufacturer.upper().split() else average_activity_time(frame_duration, half_life)


def average_moment(dataset: Dataset, *, half_life: float) -> tuple[datetime, str]:
    """Return when a slice's activity was that of its average, and the rule that gave it.

    An image without decay correction shows the activity of that moment. A multi-frame image states it as
    FrameReferenceDateTime (0018,9151); else it follows from the acquisition and the duration of the frame. A slice that
    does not say when or for how long it was acquired is a `PETError`.
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


def _stated(first: Dataset, known: Sequence[datetime]) -> list[tuple[datetime, str]]:
    """Return the reference times that the scanner states, in the order in which they are believed.

    One with an offset from UTC is believed on a clock of unknown offset only if it agrees with a `known` moment.
    """
    values = [("DecayCorrectionDateTime (0018,9701)", value_of(first, "DecayCorrectionDateTime"))]
    values += [(attribute.name, private_value(first, attribute)) for attribute in REFERENCE_TIMES]
    candidates = []
    for name, value in values:
        found = date_time_of(value, first, name)
        if found is None:
            continue
        apart = min((abs((found.moment - moment).total_seconds()) for moment in known), default=math.inf)
        if not found.is_on_clock and apart > DISAGREEMENT:
            raise PETError(
                f"{name} has an offset from UTC, expected TimezoneOffsetFromUTC to tell that of the acquisition"
            )
        candidates.append((found.moment, name))
    return candidates


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
    moment = min(moments)
    spread = (max(moments) - moment).total_seconds()
    if spread > DISAGREEMENT:
        return None, f"the slices' frame reference times point to starts {in_words(spread)} apart"
    after = (moment - earliest).total_seconds()
    if after > ROUNDING:
        return None, f"the frame reference time points {in_words(after)} past the start of the acquisition"
    # Where the series time is credible, nothing was acquired before it: a scanner that gives every bed the
    # AcquisitionTime of the first one (Philips) points to a start that never was.
    before = 0.0 if series is None or series > earliest else (series - moment).total_seconds()
    if before > DISAGREEMENT:
        return None, f"the frame reference time points {in_words(before)} before the series time"
    return moment, ""


def reference_time(slices: Sequence[Dataset], *, half_life: float | None) -> ReferenceTime:
    """Return the moment to which a series with DecayCorrection START is corrected.

    In this order: the moment that the scanner states; the acquisition of the earliest slice, if that is the
    series time; the start that the frame reference times point back to, if they are consistent; the series
    time, if it is not after the earliest acquisition; the earliest acquisition. The half-life is in seconds. It is a
    `PETError` if no rule gives a time.
    """
    first, acquired = slices[0], _acquisitions(slices)
    series = _date_time(first, "SeriesDate", "SeriesTime")
    notes: list[str] = []
    candidates = _stated(first, [*acquired, *([] if series is None else [series])])
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
            notes.append(f"Series time is {in_words(late)} after the earliest acquisition, not used.")
    if not candidates:
        raise PETError("AcquisitionDate and AcquisitionTime are missing, reference time of decay is unknown")
    moment, rule = candidates[0]
    for other, name in candidates[1:]:
        apart = (other - moment).total_seconds()
        if abs(apart) > DISAGREEMENT:
            notes.append(f"Another candidate, {name}, is {in_words(apart, '+')} from the reference time.")
    return ReferenceTime(moment, min(acquired, default=None), (f"Reference time of decay: {rule}.", *notes))
