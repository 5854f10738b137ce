"""From the data sets of a DICOM PET series to a `PETHeader`, with every repair written down."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta

from pydicom.dataset import Dataset
from pydicom.valuerep import DA, TM

from pipeline.errors import PETError
from pipeline.pet.dicom.reading.times import (
    DISAGREEMENT,
    ROUNDING,
    Moment,
    average_moment,
    check_duration,
    date_time_of,
    in_words,
    reference_time,
    start_of_acquisition,
)
from pipeline.pet.dicom.values import SCALE_FACTORS, number_of, plain_text, private_number, text_of, value_of
from pipeline.pet.series import PETHeader
from pipeline.pet.suv.factor import (
    check_units,
    dose_in_bq,
    height_in_m,
    is_plausible_uptake,
    says_corrected,
    weight_in_kg,
)
from pipeline.pet.suv.nuclides import ANY_HALF_LIFE, NUCLIDE_OF_CODE, POSITRON_WARNINGS, nuclide_from_name

__all__ = ["SeriesHeader", "attenuation_corrected", "read_header"]

SHORT_LIVED = 6 * 3600.0
"""Up to this half-life [s], twice the half-life is within half a day, so a time of day tells the day."""

USUAL_UPTAKE = 2.0
"""A longer uptake [half-lives] by RadiopharmaceuticalStartDateTime is not believed against the time of day."""

LATEST_OVER_MIDNIGHT = 4.0
"""A longer uptake [half-lives] by a time of day alone is not believed to have begun on the day before."""

HALF_HOUR = 1800.0
"""Clocks of the world differ by multiples of this [s], and rarely by a quarter of an hour."""

LARGEST_SHIFT = 10 * 3600.0
"""If a time of day and a date-time differ by at most this shift of a clock [s], they tell the day together."""

HALF_LIFE_AGREEMENT = 0.05
"""A half-life further than this fraction from that of its nuclide is reported; evaluations differ by 2 %."""


def _nuclide(item: Dataset) -> str:
    """Return the one nuclide that the codes name, ``""`` if none is known."""
    names = set()
    for code in value_of(item, "RadionuclideCodeSequence") or ():
        scheme, value = text_of(code, "CodingSchemeDesignator").upper(), text_of(code, "CodeValue")
        names.add(NUCLIDE_OF_CODE.get((scheme, value)) or nuclide_from_name(text_of(code, "CodeMeaning")))
    names.discard("")
    if len(names) > 1:
        raise PETError(f"RadionuclideCodeSequence names {' and '.join(sorted(names))}, expected one nuclide")
    return names.pop() if names else ""


def _half_life(item: Dataset, nuclide: str, notes: list[str]) -> float | None:
    half_life, known = number_of(item, "RadionuclideHalfLife"), ANY_HALF_LIFE.get(nuclide)
    if half_life is not None and half_life < 0:
        raise PETError(f"RadionuclideHalfLife is {half_life:g} s, expected a positive number")
    if known is None:
        return half_life or None
    if not half_life:
        notes.append(f"RadionuclideHalfLife is missing, {known:.1f} s of {nuclide} was used.")
        return known
    apart = half_life / known - 1
    if abs(apart) > HALF_LIFE_AGREEMENT:
        notes.append(
            f"RadionuclideHalfLife {half_life:g} s is {100 * apart:+.0f} % from the {known:.1f} s of "
            f"{nuclide}, which the radionuclide code names; RadionuclideHalfLife was used."
        )
    return half_life


def _radiopharmaceutical_item(first: Dataset, *, needed: bool) -> Dataset:
    items: Sequence[Dataset] = value_of(first, "RadiopharmaceuticalInformationSequence") or []
    if len(items) != 1 and (items or needed):
        raise PETError(f"RadiopharmaceuticalInformationSequence has {len(items)} items, expected 1")
    return items[0] if items else Dataset()


def _corrections(first: Dataset) -> Sequence[str]:
    corrections = value_of(first, "CorrectedImage") or ()
    return [corrections] if isinstance(corrections, str) else corrections


def attenuation_corrected(first: Dataset) -> bool | None:
    """Return whether a slice says that it is corrected for attenuation; None if it says nothing of it."""
    corrections = [str(correction).upper() for correction in _corrections(first)]
    if any(corrections):
        return "ATTN" in corrections
    return says_corrected(text_of(first, "AttenuationCorrectionMethod"))


def _noted_attenuation(first: Dataset, notes: list[str]) -> bool:
    is_corrected = bool(attenuation_corrected(first))
    if is_corrected and not any(_corrections(first)):
        notes.append("CorrectedImage is empty; AttenuationCorrectionMethod names a correction for attenuation.")
    return is_corrected


@dataclass(frozen=True)
class _Administration:
    """When the radiopharmaceutical was administered."""

    moment: datetime
    """On the clock of the acquisition."""

    sentence: str
    """How it was found."""

    warnings: tuple[str, ...]
    """The sentence again if the attributes contradict each other, so that a person should look at it."""


@dataclass(frozen=True)
class SeriesHeader:
    """What the headers of a series say about SUV."""

    header: PETHeader
    """What SUV depends on."""

    average_times: tuple[float, ...] | None
    """Without decay correction: for each slice, the time of its average activity [s], on the clock of `header`."""

    notes: tuple[str, ...]
    """A sentence for every rule that was applied, every value repaired and every candidate that disagrees."""

    warnings: tuple[str, ...] = ()
    """Those of `notes` that a person should see at once."""


def read_header(slices: Sequence[Dataset]) -> SeriesHeader:
    """Return what SUV depends on, and a sentence for every rule that was applied and every value repaired.

    The slices are of one series, and agree in patient, units and radiopharmaceutical. It is a `PETError` if the units
    are not an uptake, or a value that SUV needs is missing or impossible.
    """
    check_duration(slices)
    first = slices[0]
    units = text_of(first, "Units")
    check_units(units)
    suv_per_count, activity_per_count = (
        private_number(first, factor) if units == "CNTS" else None for factor in SCALE_FACTORS
    )
    # SUVs, and counts with a factor to SUV, need neither dose nor times; those are kept where they are known.
    is_activity = units == "BQML" or (units == "CNTS" and suv_per_count is None)
    notes: list[str] = []
    item = _radiopharmaceutical_item(first, needed=is_activity)
    decay_correction = text_of(first, "DecayCorrection")
    nuclide = _nuclide(item)
    half_life = _half_life(item, nuclide, notes)
    warnings = POSITRON_WARNINGS.get(nuclide, ())
    notes += warnings
    if is_activity and half_life is None and decay_correction in {"START", "NONE"}:
        raise PETError("RadionuclideHalfLife is missing and the radionuclide unknown, SUV cannot be computed")
    duration = number_of(first, "ActualFrameDuration")
    header = PETHeader(
        units=units,
        suv_type=text_of(first, "SUVType").upper(),
        decay_correction=decay_correction,
        patient_weight=weight_in_kg(number_of(first, "PatientWeight"), "PatientWeight", notes),
        patient_height=height_in_m(number_of(first, "PatientSize"), "PatientSize", notes),
        patient_sex=text_of(first, "PatientSex").upper(),
        radionuclide=nuclide,
        radiopharmaceutical=text_of(item, "Radiopharmaceutical"),
        radionuclide_half_life=half_life,
        injected_dose=dose_in_bq(number_of(item, "RadionuclideTotalDose"), "RadionuclideTotalDose", notes),
        frame_duration=None if duration is None else duration / 1000.0,
        suv_per_count=suv_per_count,
        activity_per_count=activity_per_count,
        attenuation_corrected=_noted_attenuation(first, notes),
        manufacturer=text_of(first, "Manufacturer"),
        model_name=text_of(first, "ManufacturerModelName"),
        reconstruction_method=text_of(first, "ReconstructionMethod"),
        reconstruction_filter=text_of(first, "ConvolutionKernel"),
    )
    try:
        timed = _with_times(header, slices, item)
    except PETError as error:
        if is_activity:
            raise
        notes.append(f"Times are unknown: {error}.")
        return SeriesHeader(header, None, tuple(notes), warnings)
    return SeriesHeader(timed.header, timed.average_times, (*notes, *timed.notes), (*warnings, *timed.warnings))


def _with_times(header: PETHeader, slices: Sequence[Dataset], item: Dataset) -> SeriesHeader:
    """Add administration and reference time, and the average time of each slice without decay correction."""
    add = {"START": _corrected_to_start, "NONE": _without_decay_correction}.get(
        header.decay_correction, _corrected_to_administration
    )
    try:
        return add(header, slices, item)
    except OverflowError as error:
        raise PETError("times of the series point beyond the calendar, expected years 1 to 9999") from error


def _corrected_to_start(header: PETHeader, slices: Sequence[Dataset], item: Dataset) -> SeriesHeader:
    half_life = header.radionuclide_half_life
    reference = reference_time(slices, half_life=half_life)
    administered = _administration(item, slices[0], reference=reference.moment, half_life=half_life)
    origin = reference.started or reference.moment
    timed = replace(
        header,
        administration_time=_seconds(administered.moment, origin),
        reference_time=_seconds(reference.moment, origin),
    )
    return SeriesHeader(timed, None, (*reference.notes, administered.sentence), administered.warnings)


def _corrected_to_administration(header: PETHeader, slices: Sequence[Dataset], item: Dataset) -> SeriesHeader:
    """Add the administration where it is known: SUV does not need it here."""
    origin = start_of_acquisition(slices)
    if origin is None:
        return SeriesHeader(header, None, ())
    try:
        administered = _administration(item, slices[0], reference=origin, half_life=header.radionuclide_half_life)
    except PETError as error:
        return SeriesHeader(header, None, (f"Time of administration is unknown: {error}.",))
    seconds = _seconds(administered.moment, origin)
    if header.decay_correction != "ADMIN":
        return SeriesHeader(replace(header, administration_time=seconds), None, ())
    note = "Reference time of decay: administration (DecayCorrection ADMIN)."
    return SeriesHeader(replace(header, administration_time=seconds, reference_time=seconds), None, (note,))


def _without_decay_correction(header: PETHeader, slices: Sequence[Dataset], item: Dataset) -> SeriesHeader:
    if header.radionuclide_half_life is None:
        raise PETError("RadionuclideHalfLife is missing and the radionuclide unknown, SUV cannot be computed")
    timed = [average_moment(dataset, half_life=header.radionuclide_half_life) for dataset in slices]
    moments = [moment for moment, _ in timed]
    earliest = min(moments)
    origin = start_of_acquisition(slices) or earliest
    administered = _administration(item, slices[0], reference=origin, half_life=header.radionuclide_half_life)
    span = _seconds(max(moments), earliest)
    rule = f"Decay of each slice is corrected to the administration, from {timed[0][1]}, over {span:.0f} s."
    notes = [rule, administered.sentence]
    if "DECY" in _corrections(slices[0]):
        notes.append("CorrectedImage lists DECY although DecayCorrection is NONE; DecayCorrection was followed.")
    return SeriesHeader(
        replace(header, administration_time=_seconds(administered.moment, origin)),
        tuple(_seconds(moment, origin) for moment in moments),
        tuple(notes),
        administered.warnings,
    )


def _seconds(moment: datetime, origin: datetime) -> float:
    return (moment - origin).total_seconds()


_START = "RadiopharmaceuticalStartDateTime"


def _administration(item: Dataset, first: Dataset, *, reference: datetime, half_life: float | None) -> _Administration:
    """Return when the radiopharmaceutical was administered.

    RadiopharmaceuticalStartDateTime (0018,1078) is believed unless RadiopharmaceuticalStartTime (0018,1072), which is
    on the clock of the acquisition, contradicts it: by an offset of clocks, or with an uptake that is not usual.
    """
    text = text_of(item, "RadiopharmaceuticalStartTime")
    found, date_alone, objection = _start_date_time(item, first)
    if found is not None:
        uptake = (reference - found.moment).total_seconds()
        objection = f"{_START} gives an uptake of {in_words(uptake)}"
        if text:
            believed = _by_both(found, _time_of_day(text), reference, half_life)
            if believed is not None:
                return believed
        elif not found.is_on_clock:
            raise PETError(
                f"{_START} has a UTC offset, expected TimezoneOffsetFromUTC or RadiopharmaceuticalStartTime to tell "
                "when that is on the clock of the acquisition"
            )
        elif is_plausible_uptake(uptake, half_life):
            return _told(found.moment, _START, reference, half_life)
    if date_alone is not None and text:
        moment = datetime.combine(date_alone, _time_of_day(text))
        if is_plausible_uptake((reference - moment).total_seconds(), half_life):
            return _told(moment, f"the date of {_START} and RadiopharmaceuticalStartTime", reference, half_life)
    if not text:
        raise PETError(f"{objection} and RadiopharmaceuticalStartTime is missing, SUV cannot be computed")
    if half_life is None or half_life > SHORT_LIVED:
        raise PETError(f"{objection}, and a time of day alone does not tell the day for this half-life")
    moment, day = _on_the_day(_time_of_day(text), reference, half_life)
    rejected = "" if objection.endswith("is missing") else f" ({objection}, not believed)"
    return _told(moment, f"RadiopharmaceuticalStartTime {day}", reference, half_life, rejected)


def _told(
    moment: datetime,
    origin: str,
    reference: datetime,
    half_life: float | None,
    remark: str = "",
    *,
    doubt: bool = False,
) -> _Administration:
    uptake = (reference - moment).total_seconds()
    longest = math.inf if half_life is None else USUAL_UPTAKE * half_life
    unusual = f", more than the usual {longest:.0f} s" if uptake > longest else ""
    sentence = f"Uptake {uptake:.0f} s from {origin}{unusual}{remark}."
    return _Administration(moment, sentence, (sentence,) if doubt else ())


def _start_date_time(item: Dataset, first: Dataset) -> tuple[Moment | None, date | None, str]:
    """Return RadiopharmaceuticalStartDateTime, or its date if it has no time of day, or why it says nothing."""
    value = value_of(item, _START)
    text = plain_text(value)
    # Midnight to the second is how a date without time is padded.
    if re.fullmatch(r"\d{8}(0{4,6}(\.0*)?)?", text):
        try:
            return None, DA(text[:8]), f"{_START} has no hour and minute"
        except (ValueError, TypeError):
            return None, None, f"{_START} is not a DICOM date-time"
    try:
        return date_time_of(value, first, _START), None, f"{_START} is missing"
    except PETError as error:
        return None, None, str(error)


def _by_both(found: Moment, time_of_day: time, reference: datetime, half_life: float | None) -> _Administration | None:
    """Return what a date-time and a time of day give together, or None if the date-time is not believed."""
    # The time of day is meant on the nearest of the day before, the same day and the next.
    apart = (datetime.combine(found.moment.date(), time_of_day) - found.moment).total_seconds()
    apart = (apart + 43200) % 86400 - 43200
    uptake = (reference - found.moment).total_seconds()
    if abs(apart) <= DISAGREEMENT:
        return _told(found.moment, _START, reference, half_life) if is_plausible_uptake(uptake, half_life) else None
    if abs(apart - HALF_HOUR * round(apart / HALF_HOUR)) <= ROUNDING:
        if abs(apart) > LARGEST_SHIFT or not is_plausible_uptake(uptake - apart, half_life):
            return None
        remark = f" ({_START} is {-apart:+.0f} s from it, which can be an offset of clocks)"
        moment = found.moment + timedelta(seconds=apart)
        origin = "RadiopharmaceuticalStartTime, which is on the clock of the acquisition"
        return _told(moment, origin, reference, half_life, remark, doubt=True)
    usual = half_life is None or uptake <= USUAL_UPTAKE * half_life
    if not (found.is_on_clock and usual and is_plausible_uptake(uptake, half_life)):
        return None
    remark = f" (RadiopharmaceuticalStartTime is {apart:+.0f} s from it)"
    return _told(found.moment, _START, reference, half_life, remark, doubt=True)


def _on_the_day(time_of_day: time, reference: datetime, half_life: float) -> tuple[datetime, str]:
    """Return a time of day on the day of the reference time, or on the day before."""
    moment = datetime.combine(reference.date(), time_of_day)
    late = (moment - reference).total_seconds()
    if late <= 0:
        return moment, "on the day of the reference time"
    shifted, longest = 86400 - late, LATEST_OVER_MIDNIGHT * half_life
    if shifted > longest:
        raise PETError(
            f"RadiopharmaceuticalStartTime is {late:.0f} s after the reference time, and the day before gives an "
            f"uptake of {shifted:.0f} s, expected at most {longest:.0f} s"
        )
    return moment - timedelta(days=1), "on the day before the reference time"


def _time_of_day(text: str) -> time:
    try:
        return TM(text)
    except (ValueError, TypeError) as error:
        raise PETError("RadiopharmaceuticalStartTime is not a DICOM time") from error
