"""Which moment a series is decay-corrected to, and when the tracer was given."""

import csv
import json
import re
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from pipeline.pet import PETError, suvbw_factor_of
from pipeline.pet.dicom.reading.header import read_header

HALF_LIFE = 6586.2
START = datetime(2020, 3, 5, 11, 0, 0)


def slice_at(
    acquired: datetime,
    *,
    series: datetime | None = None,
    administered: datetime | None = START - timedelta(hours=1),
    injection_time: datetime | None = None,
    half_life: float | None = HALF_LIFE,
    **attributes: object,
) -> Dataset:
    dataset = Dataset()
    dataset.AcquisitionDate, dataset.AcquisitionTime = acquired.strftime("%Y%m%d %H%M%S.%f").split()
    series = series or acquired
    dataset.SeriesDate, dataset.SeriesTime = series.strftime("%Y%m%d %H%M%S.%f").split()
    dataset.Units, dataset.DecayCorrection, dataset.CorrectedImage = "BQML", "START", ["ATTN", "DECY"]
    dataset.PatientWeight = "70"
    dataset.Manufacturer = "Example"
    item = Dataset()
    item.RadionuclideTotalDose = "350000000"
    if half_life is not None:
        item.RadionuclideHalfLife = str(half_life)
    if administered is not None:
        item.RadiopharmaceuticalStartDateTime = administered.strftime("%Y%m%d%H%M%S.%f")
    if injection_time is not None:
        item.RadiopharmaceuticalStartTime = injection_time.strftime("%H%M%S.%f")
    dataset.RadiopharmaceuticalInformationSequence = [item]
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def uptake(*slices: Dataset) -> tuple[float, str]:
    found = read_header(slices)
    return found.header.uptake_time, " ".join(found.notes)


def test_vectors_of_real_scanners(reference_data):
    folder = reference_data / "suv_header_vectors"
    with (folder / "expected.csv").open() as file:
        expected = {row["file"]: float(row["suvbw_factor"]) for row in csv.DictReader(file)}
    n_checked = 0
    for name, factor in expected.items():
        slices = []
        for record in json.loads((folder / name).read_text()):
            factors = record.pop("PhilipsPETPrivateGroup")
            dataset, item = Dataset(), Dataset()
            philips = {"SUVScaleFactor": 0x00, "ActivityConcentrationScaleFactor": 0x09}
            for keyword, value in factors.items():
                block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
                block.add_new(philips[keyword], "DS", value)
            for keyword, value in record.items():
                is_of_item = keyword.startswith(("Radionuclide", "Radiopharmaceutical"))
                setattr(item if is_of_item else dataset, keyword, value)
            dataset.RadiopharmaceuticalInformationSequence = [item]
            dataset.Manufacturer = name.split("_")[0]
            slices.append(dataset)
        assert suvbw_factor_of(read_header(slices).header) == pytest.approx(factor, rel=1e-5), name
        n_checked += 1
    assert n_checked == 5


def test_rule_1_stated_date_time_wins():
    stated = (START - timedelta(minutes=10)).strftime("%Y%m%d%H%M%S")
    seconds, notes = uptake(slice_at(START, DecayCorrectionDateTime=stated))
    assert seconds == 3000
    assert "Reference time of decay: DecayCorrectionDateTime" in notes
    assert "+600 s" in notes


@pytest.mark.parametrize(
    ("group", "element", "creator", "manufacturer"),
    [(0x0009, 0x0D, "GEMS_PETD_01", "GE MEDICAL SYSTEMS"), (0x0071, 0x22, "SIEMENS MED PT", "SIEMENS")],
)
@pytest.mark.parametrize("creator_is_kept", [True, False])
def test_rule_1_private_date_times(group, element, creator, manufacturer, creator_is_kept):
    dataset = slice_at(START, series=START + timedelta(minutes=30), Manufacturer=manufacturer)
    value = (START - timedelta(minutes=5)).strftime("%Y%m%d%H%M%S.00")
    if creator_is_kept:
        dataset.private_block(group, creator, create=True).add_new(element, "DT", value)
    else:
        dataset.add_new((group, 0x1000 + element), "UN", value.encode())
    seconds, notes = uptake(dataset)
    assert seconds == 3300
    assert "private" in notes


def test_rule_1_ignores_another_vendors_block():
    dataset = slice_at(START, Manufacturer="GE MEDICAL SYSTEMS")
    dataset.private_block(0x0009, "SOMEBODY ELSE", create=True).add_new(0x0D, "DT", "20200305100500")
    assert uptake(dataset)[0] == 3600


def test_rule_2_earliest_slice_that_starts_the_series():
    beds = [slice_at(START + timedelta(minutes=3 * k), series=START) for k in (2, 0, 1)]
    seconds, notes = uptake(*beds)
    assert seconds == 3600
    assert "equal to the series time" in notes


@pytest.mark.parametrize(("manufacturer", "within"), [("Example", 149.605), ("GE MEDICAL SYSTEMS", 0.0)])
def test_rule_3_counts_frame_reference_time_back(manufacturer, within):
    # T/2 - lambda T^2/24 = 149.605 s for T = 300 s of F-18; the series time is a reconstruction's.
    dataset = slice_at(
        START + timedelta(seconds=600),
        series=START + timedelta(hours=5),
        Manufacturer=manufacturer,
        FrameReferenceTime=f"{1000 * (600 + within):.1f}",
        ActualFrameDuration="300000",
    )
    seconds, notes = uptake(dataset)
    assert seconds == pytest.approx(3600, abs=0.001)
    assert "counted back" in notes
    assert "Series time is 17400 s after the earliest acquisition, not used." in notes
    assert "acquisition of the earliest slice, is +600 s" in notes


def test_rule_3_is_dropped_where_beds_contradict_each_other():
    beds = [
        slice_at(START, series=START - timedelta(seconds=20), FrameReferenceTime=t, ActualFrameDuration="120000")
        for t in ("79000", "199000")
    ]
    seconds, notes = uptake(*beds)
    assert seconds == 3580
    assert "120 s apart" in notes


def test_rule_4_series_time_then_earliest_acquisition():
    seconds, notes = uptake(slice_at(START, series=START - timedelta(seconds=30)))
    assert seconds == 3570
    assert "decay: series time" in notes
    seconds, notes = uptake(slice_at(START, series=START + timedelta(hours=2)))
    assert seconds == 3600
    assert "decay: acquisition of the earliest slice." in notes


def test_no_time_at_all_is_refused():
    dataset = slice_at(START)
    del dataset.AcquisitionTime
    with pytest.raises(PETError, match="reference time of decay is unknown"):
        read_header([dataset])


def test_acquisition_date_time_stands_in_for_date_and_time():
    dataset = slice_at(START)
    del dataset.AcquisitionTime
    dataset.AcquisitionDateTime = START.strftime("%Y%m%d%H%M%S")
    assert uptake(dataset)[0] == 3600


def test_midnight_between_injection_and_scan():
    scan = datetime(2020, 3, 6, 0, 30)
    seconds, notes = uptake(slice_at(scan, administered=None, injection_time=datetime(2020, 3, 5, 23, 30)))
    assert seconds == 3600
    assert "day before" in notes


def test_a_date_time_of_another_day_is_not_believed():
    wrong_day = START - timedelta(days=400, hours=1)
    seconds, notes = uptake(slice_at(START, administered=wrong_day, injection_time=wrong_day))
    assert seconds == 3600
    assert "not believed" in notes
    with pytest.raises(PETError, match="RadiopharmaceuticalStartTime is missing"):
        read_header([slice_at(START, administered=wrong_day)])


@pytest.mark.parametrize(
    ("keyword", "value"), [("AcquisitionTime", "noon"), ("AcquisitionDate", "20201301"), ("SeriesTime", "2561")]
)
def test_times_that_are_none_are_refused(keyword, value):
    dataset = slice_at(START)
    with pytest.warns(UserWarning, match="Invalid value"):
        setattr(dataset, keyword, value)
    with pytest.raises(PETError, match=f"{keyword}.* is not a DICOM date or time|or {keyword} is not"):
        read_header([dataset])


def test_injection_shortly_after_the_start_is_a_dynamic_scan():
    assert uptake(slice_at(START, administered=START + timedelta(seconds=90)))[0] == -90


def test_injection_time_after_the_scan_is_refused():
    late = START + timedelta(minutes=20)
    with pytest.raises(PETError, match="expected at most 26345 s"):
        read_header([slice_at(START, administered=None, injection_time=late)])


def test_time_of_day_alone_is_refused_for_long_lived_nuclides():
    injected = START - timedelta(hours=1)
    with pytest.raises(PETError, match="does not tell the day"):
        read_header([slice_at(START, administered=None, injection_time=injected, half_life=282276.0)])
    assert uptake(slice_at(START, administered=START - timedelta(days=3), half_life=282276.0))[0] == 3 * 86400


def test_time_zones():
    dataset = slice_at(START, injection_time=START - timedelta(hours=1))
    item = dataset.RadiopharmaceuticalInformationSequence[0]
    item.RadiopharmaceuticalStartDateTime = "20200305100000+0100"
    assert uptake(dataset)[0] == 3600
    del item.RadiopharmaceuticalStartTime
    dataset.TimezoneOffsetFromUTC = "+0200"
    assert uptake(dataset)[0] == 0


def test_half_life_comes_from_the_nuclide_or_not_at_all():
    dataset = slice_at(START, half_life=None)
    with pytest.raises(PETError, match="RadionuclideHalfLife is missing"):
        read_header([dataset])
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "C-131A3", "SRT", "^68^Gallium"
    dataset.RadiopharmaceuticalInformationSequence[0].RadionuclideCodeSequence = [code]
    header, notes = (found := read_header([dataset])).header, found.notes
    assert header.radionuclide == "Ga-68"
    assert header.radionuclide_half_life == pytest.approx(4062.6)
    assert any("Ga-68 was used" in note for note in notes)


@pytest.mark.parametrize(
    ("keyword", "value", "field", "expected"),
    [
        ("PatientWeight", "70000", "patient_weight", 70.0),
        ("PatientSize", "175", "patient_height", 1.75),
        ("PatientSize", "0", "patient_height", None),
        ("RadionuclideTotalDose", "350", "injected_dose", 350e6),
    ],
)
def test_repairs_are_made_and_told(keyword, value, field, expected):
    dataset = slice_at(START)
    is_of_item = keyword == "RadionuclideTotalDose"
    setattr(dataset.RadiopharmaceuticalInformationSequence[0] if is_of_item else dataset, keyword, value)
    found = read_header([dataset])
    assert getattr(found.header, field) == expected
    assert expected is None or any(keyword in note for note in found.notes)


def test_a_dose_that_could_be_in_any_unit_is_refused():
    dataset = slice_at(START)
    dataset.RadiopharmaceuticalInformationSequence[0].RadionuclideTotalDose = "0.35"
    with pytest.raises(PETError, match=r"0\.35, neither Bq nor MBq"):
        read_header([dataset])


@given(st.integers(-400 * 86400, 400 * 86400), st.integers(0, 1800), st.integers(-600, 600))
def test_shifting_all_times_together_changes_nothing(shift, late, series_offset):
    def read(origin: datetime) -> tuple[float, tuple[str, ...]]:
        found = read_header(
            [
                slice_at(
                    origin + timedelta(seconds=late),
                    series=origin + timedelta(seconds=series_offset),
                    administered=origin - timedelta(hours=1),
                    FrameReferenceTime=str(1000 * (late + 59)),
                    ActualFrameDuration="120000",
                )
            ]
        )
        return suvbw_factor_of(found.header), found.notes

    assert read(START + timedelta(seconds=shift)) == read(START)


def test_no_date_and_no_time_of_day_in_the_provenance():
    wrong_day = START - timedelta(days=400)
    stated = (START - timedelta(minutes=10)).strftime("%Y%m%d%H%M%S")
    _, notes = uptake(
        slice_at(
            START,
            series=START + timedelta(hours=1),
            administered=wrong_day,
            injection_time=wrong_day.replace(hour=10),
            DecayCorrectionDateTime=stated,
        )
    )
    assert not re.search(r"2019|2020|\d\d:\d\d|1050|1100|100000", notes), notes


def note_of_uptake(dataset: Dataset) -> tuple[float, str, str]:
    found = read_header([dataset])
    (sentence,) = (note for note in found.notes if note.startswith("Uptake"))
    return found.header.uptake_time, sentence, " ".join(found.warnings)


@pytest.mark.parametrize("with_time_of_day", [True, False])
@pytest.mark.parametrize(
    ("half_life", "seconds"),
    [(282276.0, 7 * 86400), (45723.6, 48 * 3600), (1223.4, 3600), (4062.6, 10800), (HALF_LIFE, 4 * 3600), (76.4, 240)],
)
def test_p1_a_long_uptake_that_nothing_contradicts_is_believed(half_life, seconds, with_time_of_day):
    administered = START - timedelta(seconds=seconds)
    dataset = slice_at(
        START,
        administered=administered,
        injection_time=administered if with_time_of_day else None,
        half_life=half_life,
    )
    assert note_of_uptake(dataset)[0] == seconds
    assert "not believed" not in note_of_uptake(dataset)[1]


def test_p1_a_long_uptake_that_the_time_of_day_contradicts_is_not_believed():
    dataset = slice_at(
        START, administered=START - timedelta(hours=5, minutes=7), injection_time=START - timedelta(hours=1)
    )
    seconds, sentence, _ = note_of_uptake(dataset)
    assert seconds == 3600
    assert "not believed" in sentence


@pytest.mark.parametrize(("half_life", "seconds"), [(1223.4, 3600), (4062.6, 10800)])
def test_p1_a_long_uptake_over_midnight_by_the_time_of_day_alone(half_life, seconds):
    scan = datetime(2020, 3, 6, 0, 20)
    injected = scan - timedelta(seconds=seconds)
    dataset = slice_at(scan, administered=None, injection_time=injected, half_life=half_life)
    assert note_of_uptake(dataset)[0] == seconds


def test_p1_more_than_ten_half_lives_are_an_error_in_the_times():
    with pytest.raises(PETError, match="an uptake of 72000 s and RadiopharmaceuticalStartTime is missing"):
        read_header([slice_at(START, administered=START - timedelta(hours=20))])


@pytest.mark.parametrize(
    ("hours", "offset"), [(-2, "+0000"), (5, "+0000"), (-1, "+0000"), (-5.5, "+0000"), (-2, ""), (3, "")]
)
@pytest.mark.parametrize("half_life", [HALF_LIFE, 282276.0])
def test_p2_the_time_of_day_is_on_the_clock_of_the_acquisition(hours, offset, half_life):
    injected = START - timedelta(hours=1)
    dataset = slice_at(START, administered=None, injection_time=injected, half_life=half_life)
    item = dataset.RadiopharmaceuticalInformationSequence[0]
    item.RadiopharmaceuticalStartDateTime = (injected + timedelta(hours=hours)).strftime("%Y%m%d%H%M%S") + offset
    seconds, sentence, warnings = note_of_uptake(dataset)
    assert seconds == 3600
    assert f"RadiopharmaceuticalStartDateTime is {3600 * hours:+.0f} s from it" in sentence
    assert sentence in warnings


def test_p2_an_offset_to_a_clock_that_nothing_tells_is_refused():
    dataset = slice_at(START)
    dataset.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartDateTime = "20200305080000+0000"
    with pytest.raises(PETError, match=r"UTC offset.*TimezoneOffsetFromUTC.*RadiopharmaceuticalStartTime"):
        read_header([dataset])
    dataset.AcquisitionDateTime = "20200305110000+0200"
    assert uptake(dataset)[0] == 3600


@pytest.mark.parametrize("written", ["-05:00", "CET", "-0500 "])
def test_p2_an_offset_that_is_written_in_another_way(written):
    dataset = slice_at(START, injection_time=START - timedelta(hours=1), TimezoneOffsetFromUTC=written)
    item = dataset.RadiopharmaceuticalInformationSequence[0]
    item.RadiopharmaceuticalStartDateTime = "20200305100000-0500"
    assert uptake(dataset)[0] == 3600


@pytest.mark.parametrize("value", ["20200305", "00000000000000", "05-03-2020 10:00", "20200305000000"])
def test_p9_an_unusable_date_time_leaves_the_time_of_day(value):
    dataset = slice_at(START, administered=None, injection_time=START - timedelta(hours=1))
    item = dataset.RadiopharmaceuticalInformationSequence[0]
    item.add_new("RadiopharmaceuticalStartDateTime", "UN", value.encode())
    assert note_of_uptake(dataset)[0] == 3600


@pytest.mark.parametrize("value", ["20200305", "20200305000000"])
def test_p9_a_date_alone_is_not_midnight(value):
    dataset = slice_at(START, administered=None)
    item = dataset.RadiopharmaceuticalInformationSequence[0]
    item.add_new("RadiopharmaceuticalStartDateTime", "UN", value.encode())
    with pytest.raises(PETError, match="RadiopharmaceuticalStartDateTime has no hour and minute"):
        read_header([dataset])


def test_p9_a_date_alone_tells_the_day_of_a_long_lived_nuclide():
    dataset = slice_at(START, administered=None, injection_time=START - timedelta(hours=1), half_life=282276.0)
    item = dataset.RadiopharmaceuticalInformationSequence[0]
    item.add_new("RadiopharmaceuticalStartDateTime", "UN", b"20200302")
    assert note_of_uptake(dataset)[0] == 3 * 86400 + 3600


def test_d3_dates_that_contradict_each_other_are_told_in_words():
    stated = START.replace(year=1908).strftime("%Y%m%d%H%M%S")
    dataset = slice_at(START, injection_time=START - timedelta(hours=1), Manufacturer="GE MEDICAL SYSTEMS")
    dataset.AcquisitionDate = dataset.SeriesDate = "19080305"
    dataset.private_block(0x0009, "GEMS_PETD_01", create=True).add_new(0x0D, "DT", START.strftime("%Y%m%d%H%M%S"))
    seconds, notes = uptake(dataset)
    assert seconds == 3600
    assert not re.search(r"\d{6,}", notes), notes
    assert "more than 100 days from the reference time" in notes
    assert stated not in notes


@pytest.mark.parametrize(("first", "second"), [("C-111A1", "C-131A3"), ("C-131A3", "C-111A1")])
def test_two_codes_of_a_nuclide_must_agree(first, second):
    dataset = slice_at(START, half_life=None)
    items = []
    for value in (first, second):
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "SRT", ""
        items.append(code)
    dataset.RadiopharmaceuticalInformationSequence[0].RadionuclideCodeSequence = items
    with pytest.raises(PETError, match=r"RadionuclideCodeSequence names .* and .*, expected one nuclide"):
        read_header([dataset])
    items[0].CodeValue = "unknown"
    expected = {"C-111A1": "F-18", "C-131A3": "Ga-68"}[second]
    assert read_header([dataset]).header.radionuclide == expected


def test_d2_a_nuclide_without_positrons_is_named():
    dataset = slice_at(START, half_life=574300.0)
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "C-101ED", "99SDM", "^177^Lutetium"
    dataset.RadiopharmaceuticalInformationSequence[0].RadionuclideCodeSequence = [code]
    found = read_header([dataset])
    assert found.header.radionuclide == "Lu-177"
    assert "Lu-177 emits no positrons" in " ".join(found.warnings)
