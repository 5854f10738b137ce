"""Body-size formulas against values worked out by hand and printed by others."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.pet import PETError, PETHeader, suv_by_body_size
from pipeline.pet.suv.body_size import BODY_SIZES, body_size, suvbw_per_suv


# 80 kg at 2 m: (W/H)^2 = 0.16; 100 kg at 1.75 m: 0.326531. The package oro.pet prints 67.52, 61.92, 68.204, 58.673.
@pytest.mark.parametrize(
    ("weight", "height", "sex", "expected"),
    [(80, 2.0, "M", 67.52), (80, 2.0, "F", 61.92), (100, 1.75, "M", 68.20408), (100, 1.75, "F", 58.67347)],
)
def test_james(weight, height, sex, expected):
    assert body_size("LBMJAMES128", weight=weight, height=height, sex=sex) == pytest.approx(expected, abs=1e-5)


def test_morgan_differs_for_men_alone():
    assert body_size("LBM", weight=80, height=2.0, sex="M") == pytest.approx(88 - 120 * 0.16)
    assert body_size("LBM", weight=80, height=2.0, sex="F") == body_size("LBMJAMES128", weight=80, height=2.0, sex="F")


def test_janmahasatian():
    # BMI 25 at 81 kg and 1.8 m: 750870 / 12080 and 750870 / 14880.
    assert body_size("LBMJANMA", weight=81, height=1.8, sex="M") == pytest.approx(62.15811, abs=1e-5)
    assert body_size("LBMJANMA", weight=81, height=1.8, sex="F") == pytest.approx(50.46169, abs=1e-5)


def test_surface_and_ideal_weight():
    # Du Bois' tables give 1.85 m2 for 70 kg and 175 cm.
    assert body_size("BSA", weight=70, height=1.75, sex="M") / 10 == pytest.approx(1.84814, abs=1e-5)
    assert body_size("IBW", weight=70, height=1.75, sex="M") == pytest.approx(72.38)
    assert body_size("IBW", weight=70, height=1.75, sex="F") == pytest.approx(66.43)


@pytest.mark.parametrize("suv_type", sorted(BODY_SIZES))
@pytest.mark.parametrize("sex", ["O", "", "unknown"])
def test_another_or_unknown_sex_is_the_mean(suv_type, sex):
    male, female, other = (body_size(suv_type, weight=70.0, height=1.75, sex=s) for s in ("M", "F", sex))
    assert other == pytest.approx((male + female) / 2, rel=1e-12)


def test_suv_of_every_type():
    found = {suv_type: body_size(suv_type, weight=80.0, height=2.0, sex="M") for suv_type in BODY_SIZES}
    # Janmahasatian for BMI 20: 741600 / 11000; SUVbsa is [g/mL] x [cm2] / [g].
    expected = {"BW": 80.0, "LBMJAMES128": 67.52, "LBM": 68.8, "LBMJANMA": 67.41818, "IBW": 48 + 1.06 * 48}
    expected["BSA"] = 0.007184 * 80**0.425 * 200**0.725 * 1e4 / 1e3
    assert found == pytest.approx(expected, rel=1e-6)


@given(st.sampled_from(sorted(BODY_SIZES)), st.sampled_from("MFO"), st.floats(40.0, 120.0), st.floats(1.5, 2.0))
def test_there_and_back(series_type, sex, weight, height):
    header = PETHeader(units="GML", patient_weight=weight, patient_height=height, patient_sex=sex)
    size = body_size(series_type, weight=weight, height=height, sex=sex)
    assert suvbw_per_suv(header, series_type) * size == pytest.approx(weight, rel=1e-12)


def test_a_series_in_another_suv(series):
    # 70 kg, 1.75 m, female: 74.9 - 148 x 0.16.
    np.testing.assert_allclose(suv_by_body_size(series, "LBMJAMES128"), series.suv * 51.22 / 70, rtol=1e-5)
    np.testing.assert_array_equal(suv_by_body_size(series, "BW"), series.suv)
    assert suv_by_body_size(series, "BSA").dtype == np.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patient_height": None}, "PatientSize is missing, SUV of type LBMJANMA"),
        ({"patient_height": 0.1}, r"PatientSize is 0\.1 m"),
        ({"patient_weight": None}, "PatientWeight is missing"),
        ({"patient_weight": 0.0}, "PatientWeight is 0 kg"),
    ],
)
def test_without_weight_and_height_there_is_none(series, change, message):
    other = replace(series, header=replace(series.header, **change))
    with pytest.raises(PETError, match=message):
        suv_by_body_size(other, "LBMJANMA")


def test_a_formula_is_not_used_where_it_turns_negative(series):
    heavy = replace(series, header=replace(series.header, patient_weight=300.0, patient_height=1.5))
    with pytest.raises(PETError, match="the formula does not hold there"):
        suv_by_body_size(heavy, "LBMJAMES128")
    with pytest.raises(PETError, match="SUVType is LEAN, expected one of BW, LBM"):
        suv_by_body_size(series, "LEAN")
