"""Every branch of SUV: what a scan stores, and that the true SUV comes out, also after writing it again."""

import math
import re
from datetime import timedelta

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.pet import DicomOptions, PETError, read_dicom_series, write_dicom_series
from tests.pet.scans import (
    BQML,
    DOSE,
    FAITH,
    FRAME,
    HALF_LIFE,
    SHAPE,
    START,
    SUV,
    WEIGHT,
    Scan,
    date_and_time,
    write_slices,
)

DECAY = math.log(2) / HALF_LIFE
CREATOR = "Philips PET Private Group"


def philips(**values: float) -> dict:
    elements = {"suv": 0x1000, "activity": 0x1009}
    return {(0x7053, elements[name]): ("DS", f"{value:.10g}") for name, value in values.items()}


def uncorrected(start: float) -> float:
    """Mean Bq/mL of SUVbw 1 over a frame that starts so long [s] after `START`: the integral of the decay."""
    at_start = DOSE / (1000 * WEIGHT) * math.exp(-DECAY * (3600 + start))
    return at_start * (1 - math.exp(-DECAY * FRAME)) / (DECAY * FRAME)


def acquired(start: float) -> dict:
    date, time = date_and_time(START + timedelta(seconds=start))
    return {"AcquisitionDate": date, "AcquisitionTime": time}


BEDS = [300.0 * (k // 2) for k in range(SHAPE[2])]
"""Three beds of two slices each."""

# Lean body mass and the like of 70 kg, 175 cm by hand; sex other is the mean of both sexes.
MALE = {"PatientSex": "M"}
FEMALE = {"PatientSex": "F"}

SCANS = {
    "Bq/mL, corrected to the start": Scan(),
    "Philips SUV factor": Scan(
        1 / 5e-4, {"Units": "CNTS", "Manufacturer": "Philips Medical Systems"}, private=philips(suv=5e-4)
    ),
    "Philips SUV factor, creator kept": Scan(
        1 / 5e-4,
        {"Units": "CNTS", "Manufacturer": ""},
        private={(0x7053, 0x10): ("LO", CREATOR), **philips(suv=5e-4)},
    ),
    "Philips activity factor": Scan(
        BQML / 3.0, {"Units": "CNTS", "Manufacturer": "Philips"}, private=philips(activity=3.0)
    ),
    "Philips SUV factor 0, activity factor": Scan(
        BQML / 3.0, {"Units": "CNTS", "Manufacturer": "Philips"}, private=philips(suv=0.0, activity=3.0)
    ),
    "Philips SUV factor without dose and weight": Scan(
        1 / 5e-4,
        {"Units": "CNTS", "Manufacturer": "Philips", "PatientWeight": None},
        {"RadionuclideTotalDose": None},
        private=philips(suv=5e-4),
    ),
    "SUV without a type": Scan(1.0, {"Units": "GML"}),
    "SUV by body weight": Scan(1.0, {"Units": "GML", "SUVType": "BW"}),
    "SUV by body weight, nothing else known": Scan(
        1.0,
        {
            "Units": "GML",
            "PatientWeight": None,
            "RadiopharmaceuticalInformationSequence": None,
            "AcquisitionTime": None,
        },
    ),
    # James: 77 - 128 x 0.16, 74.9 - 148 x 0.16; Morgan: 77 - 120 x 0.16.
    "James 128, male": Scan(56.52 / 70, {"Units": "GML", "SUVType": "LBMJAMES128", **MALE}),
    "James 128, female": Scan(51.22 / 70, {"Units": "GML", "SUVType": "LBMJAMES128", **FEMALE}),
    "James 128, other": Scan(53.87 / 70, {"Units": "GML", "SUVType": "LBMJAMES128"}),
    "LBM without a variant, male": Scan(57.8 / 70, {"Units": "GML", "SUVType": "LBM", **MALE}),
    "LBM without a variant, female": Scan(51.22 / 70, {"Units": "GML", "SUVType": "LBM", **FEMALE}),
    # Janmahasatian: BMI 22.857143; 648900 / 11617.142857, 648900 / 14357.142857.
    "Janmahasatian, male": Scan(55.857108 / 70, {"Units": "GML", "SUVType": "LBMJANMA", **MALE}),
    "Janmahasatian, female": Scan(45.197015 / 70, {"Units": "GML", "SUVType": "LBMJANMA", **FEMALE}),
    # Ideal: 48 + 1.06 x 23, 45.5 + 0.91 x 23.
    "ideal weight, male": Scan(72.38 / 70, {"Units": "GML", "SUVType": "IBW", **MALE}),
    "ideal weight, female": Scan(66.43 / 70, {"Units": "GML", "SUVType": "IBW", **FEMALE}),
    "ideal weight, other": Scan(69.405 / 70, {"Units": "GML", "SUVType": "IBW"}),
    # Du Bois: 0.007184 x 70^0.425 x 175^0.725 = 1.848143 m2, and SUVbsa is in cm2/mL.
    "surface": Scan(18481.43 / 70000, {"Units": "CM2ML", "SUVType": "BSA"}),
    "surface without a type": Scan(18481.43 / 70000, {"Units": "CM2ML"}),
    "surface as g/mL": Scan(18481.43 / 70000, {"Units": "GML", "SUVType": "BSA"}),
    "corrected to the administration": Scan(DOSE / (1000 * WEIGHT), {"DecayCorrection": "ADMIN"}),
    "not corrected, one bed": Scan(uncorrected(0.0), {"DecayCorrection": "NONE"}),
    "not corrected, three beds": Scan(
        [uncorrected(start) for start in BEDS],
        {"DecayCorrection": "NONE"},
        per_slice=[acquired(start) for start in BEDS],
    ),
    "not corrected, over midnight": Scan(
        [uncorrected(start) for start in BEDS],
        {"DecayCorrection": "NONE", "SeriesTime": "235500"},
        {"RadiopharmaceuticalStartDateTime": None, "RadiopharmaceuticalStartTime": "225500"},
        per_slice=[acquired(start + 12 * 3600 + 55 * 60) for start in BEDS],
    ),
    "counts, not corrected": Scan(
        [uncorrected(start) / 3.0 for start in BEDS],
        {"Units": "CNTS", "DecayCorrection": "NONE", "Manufacturer": "Philips"},
        per_slice=[acquired(start) for start in BEDS],
        private=philips(activity=3.0),
    ),
    "series time of the reconstruction": Scan(BQML, {"SeriesTime": "153000"}),
    "over midnight, time only": Scan(
        BQML,
        {"SeriesTime": "003000", "AcquisitionTime": "003000"},
        {"RadiopharmaceuticalStartDateTime": None, "RadiopharmaceuticalStartTime": "233000"},
    ),
    "over midnight, date and time": Scan(
        BQML,
        {"SeriesTime": "003000", "AcquisitionTime": "003000"},
        {"RadiopharmaceuticalStartDateTime": "20241231233000", "RadiopharmaceuticalStartTime": "233000"},
    ),
    "Zr-89 after three days": Scan(
        DOSE / (1000 * WEIGHT) * 2 ** (-3 * 86400 / 282276.0),
        {"SeriesDate": "20250104", "SeriesTime": "100000", "AcquisitionDate": "20250104", "AcquisitionTime": "100000"},
        {"RadionuclideHalfLife": "282276"},
    ),
    "Ga-68": Scan(DOSE / (1000 * WEIGHT) * 2 ** (-3600 / 4062.6), injection={"RadionuclideHalfLife": "4062.6"}),
    "repaired: MBq, g and cm": Scan(
        BQML, {"PatientWeight": "70000", "PatientSize": "175"}, {"RadionuclideTotalDose": "368.08"}
    ),
    "half-life from the nuclide": Scan(BQML, injection={"RadionuclideHalfLife": None}),
    "stated reference time": Scan(
        DOSE / (1000 * WEIGHT) * 2 ** (-3000 / HALF_LIFE), {"DecayCorrectionDateTime": "20250101105000"}
    ),
    "GE's private reference time": Scan(
        BQML,
        {"Manufacturer": "GE MEDICAL SYSTEMS", **acquired(1800.0)},
        private={(0x0009, 0x100D): ("DT", "20250101110000")},
    ),
    "Siemens's private reference time": Scan(
        BQML,
        {"Manufacturer": "SIEMENS", **acquired(1800.0), "SeriesTime": "114000"},
        private={(0x0071, 0x10): ("LO", "SIEMENS MED PT"), (0x0071, 0x1022): ("DT", "20250101110000")},
    ),
}


def textbook_suv(folder) -> float:
    """Highest SUVbw by the formula and the attributes that any viewer uses: dose, weight, series and start time."""
    highest = 0.0
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        item = dataset.RadiopharmaceuticalInformationSequence[0]
        series, injected = (
            sum(scale * float(part) for scale, part in zip((3600, 60, 1), (time[:2], time[2:4], time[4:]), strict=True))
            for time in (dataset.SeriesTime, item.RadiopharmaceuticalStartTime)
        )
        dose = float(item.RadionuclideTotalDose)
        if dataset.DecayCorrection == "START":
            dose *= 2 ** (-((series - injected) % 86400) / float(item.RadionuclideHalfLife))
        assert dataset.Units == "BQML"
        activity = dataset.pixel_array.max() * float(dataset.RescaleSlope)
        highest = max(highest, activity * 1000 * float(dataset.PatientWeight) / dose)
    return highest


@pytest.mark.parametrize("name", SCANS)
def test_true_suv_comes_out(name, tmp_path):
    read = read_dicom_series(write_slices(SCANS[name], tmp_path / "scan"))
    np.testing.assert_allclose(read.suv, SUV, atol=FAITH + 2e-6 * 4)


CANNOT_BE_ACTIVITY = {"Philips SUV factor without dose and weight", "SUV by body weight, nothing else known"}
KEEPS_ITS_TIMES = {
    "corrected to the administration",
    "series time of the reconstruction",
    "stated reference time",
    "Zr-89 after three days",
    "GE's private reference time",
    "Siemens's private reference time",
}


@pytest.mark.parametrize("keep_private", [True, False])
@pytest.mark.parametrize("name", [name for name in SCANS if name not in CANNOT_BE_ACTIVITY])
def test_a_derived_series_gives_the_same_suv_by_its_own_attributes(name, keep_private, tmp_path):
    source = read_dicom_series(write_slices(SCANS[name], tmp_path / "scan"))
    folder = tmp_path / "derived"
    write_dicom_series(source, folder, description="Identity", options=DicomOptions(keep_private=keep_private))
    again = read_dicom_series(folder)
    assert again.header.units == "BQML"
    assert again.header.decay_correction in {"START", "ADMIN"}
    np.testing.assert_allclose(again.suv, source.suv, atol=4.0 / 32767 * 0.51)
    # Whichever of its reference times a reader believes.
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        if name != "stated reference time":
            dataset.pop("DecayCorrectionDateTime", None)
        dataset.save_as(path)
    np.testing.assert_allclose(read_dicom_series(folder).suv, source.suv, atol=4.0 / 32767 * 0.51)
    if name != "Zr-89 after three days" and (name not in KEEPS_ITS_TIMES or not keep_private):
        assert textbook_suv(folder) == pytest.approx(source.suv.max(), rel=1e-5)
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        n_private = sum(element.tag.is_private for element in dataset)
        has_factors = any(element.tag.group == 0x7053 and element.tag.elem >= 0x1000 for element in dataset)
        assert not has_factors
        assert keep_private or not n_private


@pytest.mark.parametrize("name", SCANS)
def test_a_derived_series_can_hold_suv_itself(name, tmp_path):
    source = read_dicom_series(write_slices(SCANS[name], tmp_path / "scan"))
    folder = tmp_path / "derived"
    write_dicom_series(source, folder, description="Identity", options=DicomOptions(units="GML"))
    again = read_dicom_series(folder)
    assert (again.header.units, again.header.suv_type, again.suvbw_factor) == ("GML", "BW", 1.0)
    np.testing.assert_allclose(again.suv, source.suv, atol=4.0 / 32767 * 0.51)


@pytest.mark.parametrize("name", sorted(CANNOT_BE_ACTIVITY))
def test_activity_needs_dose_and_weight(name, tmp_path):
    source = read_dicom_series(write_slices(SCANS[name], tmp_path / "scan"))
    with pytest.raises(PETError, match="is missing, SUV cannot be computed"):
        write_dicom_series(source, tmp_path / "derived", description="Identity")


def test_a_reference_time_needs_the_time_of_acquisition(tmp_path):
    scan = Scan(BQML, {"AcquisitionTime": None, "DecayCorrectionDateTime": "20250101110000"})
    source = read_dicom_series(write_slices(scan, tmp_path / "scan"))
    np.testing.assert_allclose(source.suv, SUV, atol=FAITH + 1e-5)
    kept = write_dicom_series(source, tmp_path / "kept", description="Identity")
    np.testing.assert_allclose(read_dicom_series(kept).suv, source.suv, atol=4.0 / 32767 * 0.51)
    options = DicomOptions(keep_private=False)
    with pytest.raises(PETError, match="AcquisitionTime is missing on every slice"):
        write_dicom_series(source, tmp_path / "dropped", description="Identity", options=options)
    assert not (tmp_path / "dropped").exists()


PHILIPS = {"Units": "CNTS", "Manufacturer": "Philips"}


@pytest.mark.parametrize(
    ("scan", "message"),
    [
        (Scan(attributes=PHILIPS), "Units is CNTS without the vendor's SUV or activity factor"),
        (Scan(attributes=PHILIPS, private=philips(suv=0.0, activity=0.0)), "CNTS without the vendor's"),
        (Scan(attributes=PHILIPS, private=philips(suv=-1.0)), r"Philips SUV factor \(7053,1000\) is -1, expected"),
        (
            Scan(attributes=PHILIPS, private={(0x7053, 0x10): ("LO", "SOMEBODY"), **philips(suv=1.0)}),
            "CNTS without the vendor's",
        ),
        (Scan(attributes={"Units": "CNTS"}, private=philips(suv=5e-4)), "CNTS without the vendor's"),
        (Scan(attributes={"Units": "GML", "SUVType": "LBM", "PatientSize": None}), "PatientSize is missing"),
        (Scan(attributes={"Units": "GML", "SUVType": "LEAN"}), "SUVType is LEAN, expected one of BW, LBM"),
        (Scan(attributes={"Units": "CM2ML", "SUVType": "IBW"}), "expected BSA"),
        (
            Scan(attributes={"DecayCorrection": "NONE", "ActualFrameDuration": None}),
            "ActualFrameDuration is missing, expected one on every slice of an image without decay correction",
        ),
        (
            Scan(attributes={"DecayCorrection": "NONE", "AcquisitionTime": None}),
            "AcquisitionTime is missing, expected one on every slice of an image without decay correction",
        ),
        (Scan(injection={"RadionuclideHalfLife": None, "RadionuclideCodeSequence": None}), "HalfLife is missing"),
        (Scan(injection={"RadionuclideTotalDose": "-3"}), "neither Bq nor MBq"),
        (Scan(attributes={"PatientWeight": "7e7"}), "PatientWeight is 7e[+]07, neither kg nor g"),
        (
            Scan(attributes={"DecayCorrection": "NONE", "AcquisitionDate": "99991231", "AcquisitionTime": "235959"}),
            "times of the series point beyond the calendar, expected years 1 to 9999",
        ),
        (
            Scan(
                attributes={
                    "DecayCorrectionDateTime": "00010101000000+1200",
                    "TimezoneOffsetFromUTC": "-0100",
                }
            ),
            "is beyond the calendar, expected years 1 to 9999",
        ),
        (
            Scan(injection={"RadiopharmaceuticalStartTime": "113000", "RadiopharmaceuticalStartDateTime": None}),
            "RadiopharmaceuticalStartTime is 1800 s after the reference time",
        ),
    ],
)
def test_what_is_refused(scan, message, tmp_path):
    with pytest.raises(PETError, match=message):
        read_dicom_series(write_slices(scan, tmp_path / "scan"))


def test_an_image_type_of_one_value(tmp_path):
    source = read_dicom_series(write_slices(Scan(attributes={"ImageType": "ORIGINAL"}), tmp_path / "scan"))
    folder = write_dicom_series(source, tmp_path / "derived", description="Identity")
    assert pydicom.dcmread(next(folder.iterdir())).ImageType == ["DERIVED", "PRIMARY"]


def test_a_long_uptake_by_time_of_day_is_told(tmp_path):
    scan = Scan(injection={"RadiopharmaceuticalStartTime": "010000", "RadiopharmaceuticalStartDateTime": None})
    read = read_dicom_series(write_slices(scan, tmp_path / "scan"))
    assert any("more than the usual 13172 s" in note for note in read.provenance)


def test_a_factor_of_one_slice_that_differs(tmp_path):
    scan = Scan(1 / 5e-4, PHILIPS, private=philips(suv=5e-4))
    folder = write_slices(scan, tmp_path / "scan")
    dataset = pydicom.dcmread(folder / "2.dcm")
    dataset[0x7053, 0x1000].value = "4e-4"
    dataset.save_as(folder / "2.dcm")
    with pytest.raises(
        PETError, match=r"2\.dcm: another Philips SUV factor \(7053,1000\), expected the one as in 5 of 6"
    ):
        read_dicom_series(folder)


def test_candidates_that_disagree_are_told_with_their_difference(tmp_path):
    both = Scan(1 / 5e-4, PHILIPS, private=philips(suv=5e-4, activity=BQML * 5e-4 * 1.25))
    text = " ".join(read_dicom_series(write_slices(both, tmp_path / "counts")).provenance)
    assert "from Philips SUV factor (7053,1000)" in text
    assert re.search(r"Philips activity factor \(7053,1009\), gives a factor of 6\.25\d*e-04, \+25\.00 % from it", text)
    stated = Scan(BQML, {"Manufacturer": "Philips"}, private=philips(suv=5e-4, activity=5e-4 * BQML * 1.1))
    text = " ".join(read_dicom_series(write_slices(stated, tmp_path / "activity")).provenance)
    assert "-9.09 % from it" in text
    late = Scan(BQML, injection={"RadiopharmaceuticalStartTime": "101500"})
    text = " ".join(read_dicom_series(write_slices(late, tmp_path / "late")).provenance)
    assert "RadiopharmaceuticalStartDateTime (RadiopharmaceuticalStartTime is +900 s from it)" in text


def test_a_half_life_that_is_not_the_nuclides_is_told(tmp_path):
    text = " ".join(read_dicom_series(write_slices(SCANS["Ga-68"], tmp_path / "scan")).provenance)
    assert "RadionuclideHalfLife 4062.6 s is -38 % from the 6586.2 s of F-18, which the radionuclide code names" in text


def test_the_variant_of_an_unqualified_lean_body_mass_is_named(tmp_path):
    folder = write_slices(Scan(57.8 / 70, {"Units": "GML", "SUVType": "LBM", **MALE}), tmp_path / "scan")
    text = " ".join(read_dicom_series(folder).provenance)
    assert "Morgan's 120" in text
    # 57.8 kg against 56.52 kg.
    assert re.search(r"SUVType LBMJAMES128, gives a factor of 1\.2385\d*e\+00, \+2\.26 % from it", text)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(exponent=st.floats(-4, 4), seed=st.integers(0, 2**16))
def test_an_identity_returns_the_stored_integers_within_half_a_slope(tmp_path_factory, exponent, seed):
    rng = np.random.default_rng(seed)
    slopes = 10.0 ** (exponent + rng.uniform(-0.5, 0.5, SHAPE[2]))
    per_slice = [{"RescaleSlope": f"{slope:.8g}"} for slope in slopes]
    tmp_path = tmp_path_factory.mktemp("identity")
    folder = write_slices(Scan(per_slice=per_slice), tmp_path / "scan")
    derived = write_dicom_series(read_dicom_series(folder), tmp_path / "derived", description="Identity")
    for k in range(SHAPE[2]):
        before, after = (pydicom.dcmread(path) for path in (folder / f"{k}.dcm", derived / f"PET_{k + 1:04d}.dcm"))
        activity = after.pixel_array * float(after.RescaleSlope)
        again = activity / float(before.RescaleSlope)
        assert np.abs(again - before.pixel_array).max() <= 0.5
        half_slope = 0.5 * float(after.RescaleSlope)
        # Between reading and writing, SUV is float32.
        rounding = activity.max() * np.finfo(np.float32).eps
        stored = before.pixel_array * float(before.RescaleSlope)
        assert np.abs(activity - stored).max() <= half_slope + rounding


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(days=st.integers(-4000, 4000), seconds=st.integers(0, 86399), name=st.sampled_from(sorted(SCANS)))
def test_shifting_all_times_together_changes_nothing(tmp_path_factory, days, seconds, name):
    # Only whole scans with full dates can be moved; a time of day alone moves by whole days.
    scan = SCANS[name]
    tmp_path = tmp_path_factory.mktemp("shift")
    folder = write_slices(scan, tmp_path / "scan")
    before = read_dicom_series(folder).suv
    has_date = scan.injection.get("RadiopharmaceuticalStartDateTime", "") is not None
    shift = timedelta(days=days, seconds=seconds if has_date and not scan.private else 0)
    if "Zr-89" in name and has_date:
        shift = timedelta(days=days)

    def move(dataset):
        for prefix in ("Series", "Acquisition"):
            if f"{prefix}Time" in dataset and f"{prefix}Date" in dataset:
                value = dataset[f"{prefix}Date"].value + str(dataset[f"{prefix}Time"].value).ljust(13, "0")[:6]
                moment = pydicom.valuerep.DT(value)
                date, time = date_and_time(moment + shift)
                setattr(dataset, f"{prefix}Date", date)
                setattr(dataset, f"{prefix}Time", time)
        if "DecayCorrectionDateTime" in dataset:
            moment = pydicom.valuerep.DT(dataset.DecayCorrectionDateTime)
            dataset.DecayCorrectionDateTime = "".join(date_and_time(moment + shift))
        for tag in ((0x0009, 0x100D), (0x0071, 0x1022)):
            if tag in dataset:
                moment = pydicom.valuerep.DT(str(dataset[tag].value))
                dataset[tag].value = "".join(date_and_time(moment + shift))
        for item in dataset.get("RadiopharmaceuticalInformationSequence") or ():
            if "RadiopharmaceuticalStartDateTime" in item:
                moment = pydicom.valuerep.DT(str(item.RadiopharmaceuticalStartDateTime))
                item.RadiopharmaceuticalStartDateTime = "".join(date_and_time(moment + shift))
                item.RadiopharmaceuticalStartTime = date_and_time(moment + shift)[1]

    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        move(dataset)
        dataset.save_as(path)
    np.testing.assert_array_equal(read_dicom_series(folder).suv, before)
