"""The equations: decay composes, a uniform body has SUV 1, and what is not an activity concentration is refused."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.sr._snomed_dict import mapping
from pydicom.sr.codedict import codes

from pipeline.pet import PETError, decay_factor, suvbw_factor, suvbw_factor_of
from pipeline.pet.suv.factor import average_activity_time, decay_constant
from pipeline.pet.suv.nuclides import (
    ANY_HALF_LIFE,
    HALF_LIFE,
    NUCLIDE_OF_CODE,
    is_positron_emitter,
    nuclide_from_name,
)

times = st.floats(-1e4, 1e4)
half_lives = st.floats(60.0, 1e6)


@given(times, times, half_lives)
def test_decay_composes(first, second, half_life):
    both = decay_factor(first + second, half_life)
    assert decay_factor(first, half_life) * decay_factor(second, half_life) == pytest.approx(both, rel=1e-9)


def test_half_is_left_after_one_half_life():
    assert decay_factor(6586.2, 6586.2) == pytest.approx(0.5, rel=1e-15)


@given(st.floats(0.1, 7200.0), half_lives)
def test_activity_at_the_average_time_is_the_average_over_the_frame(duration, half_life):
    rate = decay_constant(half_life)
    average = -math.expm1(-rate * duration) / (rate * duration)
    assert decay_factor(average_activity_time(duration, half_life), half_life) == pytest.approx(average, rel=1e-9)


def test_dose_spread_evenly_over_the_body_has_suv_1(header):
    # 350 MBq, decayed for an hour, in 70 kg at 1 g/mL.
    concentration = 350e6 * 2 ** (-3600 / 6586.2) / 70e3
    assert concentration * suvbw_factor_of(header) == pytest.approx(1.0, rel=1e-12)


def test_admin_needs_no_times(header):
    admin = replace(header, decay_correction="ADMIN", administration_time=None, radionuclide_half_life=None)
    assert suvbw_factor_of(admin) == pytest.approx(70e3 / 350e6, rel=1e-12)


def test_ten_times_the_dose_is_a_tenth_of_the_factor():
    factor = suvbw_factor(patient_weight=70.0, injected_dose=1e8)
    assert suvbw_factor(patient_weight=70.0, injected_dose=1e9) == pytest.approx(factor / 10, rel=1e-12)


@pytest.mark.parametrize("units", ["CNTS", "CPS", "PROPCNTS", "PROPCPS", "1CM", "PCNT", "", "NONSENSE"])
def test_other_units_are_refused_by_name(header, units):
    with pytest.raises(PETError, match=f"Units is {units or 'missing'}"):
        suvbw_factor_of(replace(header, units=units))


@pytest.mark.parametrize("correction", ["", "MAYBE"])
def test_other_decay_corrections_are_refused_by_name(header, correction):
    with pytest.raises(PETError, match=f"DecayCorrection is {correction or 'missing'}"):
        suvbw_factor_of(replace(header, decay_correction=correction))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patient_weight": None}, "PatientWeight is missing"),
        ({"injected_dose": 0.0}, "RadionuclideTotalDose is 0"),
        ({"injected_dose": -1.0}, "expected a positive number"),
        ({"radionuclide_half_life": None}, "RadionuclideHalfLife is missing"),
        ({"administration_time": None}, "time from administration"),
        ({"administration_time": -1e6}, "of the dose"),
        ({"administration_time": 3601.0}, "administration is 3601 s after the reference time"),
        ({"decay_correction": "NONE", "reference_time": None}, "time from administration"),
        ({"units": "GML", "suv_type": "LBM", "patient_height": None}, "PatientSize is missing, SUV of type LBM"),
        ({"units": "GML", "suv_type": "BSA", "patient_weight": None}, "PatientWeight is missing, SUV of type BSA"),
        ({"units": "GML", "suv_type": "LEAN"}, "SUVType is LEAN, expected one of BW, LBM"),
        ({"units": "CM2ML", "suv_type": "LBM"}, "Units is CM2ML with SUVType LBM, expected BSA"),
        ({"attenuation_corrected": False}, "not corrected for attenuation"),
    ],
)
def test_what_suv_needs_must_be_there(header, change, message):
    with pytest.raises(PETError, match=message):
        suvbw_factor_of(replace(header, **change))


def test_codes_are_those_of_dicom():
    # pydicom carries CID 18 and 4020 and the map from SNOMED CT to the retired SNOMED RT.
    groups = {codes.CID4020: HALF_LIFE, codes.CID18: set(ANY_HALF_LIFE) - set(HALF_LIFE)}
    for group, nuclides in groups.items():
        by_nuclide = {nuclide_from_name(name.removeprefix("_")): getattr(group, name) for name in group.dir()}
        for nuclide in nuclides:
            code = by_nuclide[nuclide]
            assert NUCLIDE_OF_CODE["SCT", code.value] == nuclide
            assert NUCLIDE_OF_CODE["99SDM", mapping["SCT"][code.value]] == nuclide
            assert nuclide_from_name(code.meaning) == nuclide
    assert set(NUCLIDE_OF_CODE.values()) == set(ANY_HALF_LIFE)


def test_which_nuclides_emit_positrons():
    found = {name: is_positron_emitter(nuclide_from_name(name)) for name in ("18F", "Zr-89", "99mTc", "^177^Lutetium")}
    assert found == {"18F": True, "Zr-89": True, "99mTc": False, "^177^Lutetium": False}
    assert is_positron_emitter("") is None
    assert is_positron_emitter("Na-22") is None


@pytest.mark.parametrize("name", ["F18", "18F", "F-18", "^18^Fluorine", "^18^F", "18-F"])
def test_a_nuclide_has_many_names(name):
    assert nuclide_from_name(name) == "F-18"


def test_unknown_nuclides_stay_unknown():
    assert ("SCT", "71633006") not in NUCLIDE_OF_CODE  # sodium-22
    assert nuclide_from_name("Tc99") == nuclide_from_name("FDG") == ""


def test_half_lives_agree_with_what_scanners_write():
    # Half-lives in the headers of GE, Siemens and Philips scanners; evaluations differ by up to 2 %.
    written = {"F-18": 6586.2, "Ga-68": 4062.6, "C-11": 1223.4, "Zr-89": 282276.0, "Rb-82": 76.4, "N-13": 597.9}
    for nuclide, seconds in written.items():
        assert np.isclose(HALF_LIFE[nuclide], seconds, rtol=0.02)
