"""Dose from noise, what lies outside of the training, the nearest simulated scan, and what cannot be said."""

import numpy as np
import pytest

from pipeline.images import body_mask
from pipeline.pet import PETHeader, PETSeries
from pipeline.trust.calibration import DoseRule, OutsideEffect, TrainingDomain, read_calibration
from pipeline.trust.domain import DoseReading, domain_of, outside_of_training, read_dose, scan_measures

FDG = PETHeader(units="GML", radiopharmaceutical="FDG -- fluorodeoxyglucose", radionuclide="F-18")
SQUARE = DoseRule(coefficients=(0.0, 2.0), factor_95=2.5)
RANGES = {
    "voxel_size": (2.0, 6.0),
    "axial_extent": (80.0, 1000.0),
    "body_width": (100.0, np.inf),
    "highest_suv": (1.0, 100.0),
    "body_mean": (0.2, 3.0),
    "negative_part": (0.0, 1.0),
}
EFFECTS = (
    OutsideEffect("voxel_size", 1.0, -0.5, 0.0, 1.0),
    OutsideEffect("voxel_size", 8.0, -3.1, 1.2, -4.0),
    OutsideEffect("voxel_size", 12.0, -9.0, 2.0, -9.0),
    OutsideEffect("axial_extent", 26.0, 0.4, 0.0, None),
    OutsideEffect("coarse", -3.6, -1.0, 0.0, -2.0),
    OutsideEffect("tracer", 0.0, -0.2, -0.2, -1.0, "NaF"),
    OutsideEffect("tracer", 0.0, -0.8, 0.0, -3.0, "FLT"),
)
TRAINING = TrainingDomain(ranges=RANGES, tracers={"FDG": ("F-18",), "DOTATATE": ("Ga-68",)}, effects=EFFECTS)


def scan(*, sd=0.0, suv=2.0, side=4.0, shape=(64, 48, 24), header=FDG) -> PETSeries:
    """A block of tissue in air with independent noise."""
    x = np.zeros(shape, dtype=np.float32)
    inside = (slice(8, -8), slice(8, -8))
    x[inside] = suv + np.random.default_rng(0).normal(0, sd, x[inside].shape)
    return PETSeries(suv=x, affine=np.diag([side, side, side, 1.0]), header=header)


def warnings_of(series: PETSeries, **deviations: float) -> tuple[str, ...]:
    body = body_mask(series.suv, voxel_size=series.voxel_size)
    return outside_of_training(series, body=body, style_deviation=deviations, training=TRAINING)[1]


def test_a_reading_is_said_as_a_part_of_the_dose():
    assert DoseReading(20.2, 8.1, 50.4).statement == "reads 1/20 of a clinical dose (1/8.1 to 1/50)"
    assert DoseReading(0.5, 0.2, 1.25).statement == "reads 2 times a clinical dose (5 times to 1/1.2)"


def test_hundreds_are_said_in_two_digits():
    assert DoseReading(113.0, 45.0, 262.0).statement == "reads 1/110 of a clinical dose (1/45 to 1/260)"


def test_twice_the_noise_is_a_quarter_of_the_dose():
    quiet, loud = (read_dose(scan(sd=sd).suv, voxel_size=(4, 4, 4), rule=SQUARE) for sd in (0.1, 0.2))
    assert loud.factor / quiet.factor == pytest.approx(4, rel=0.02)
    assert loud.high / loud.factor == pytest.approx(2.5)
    assert loud.factor / loud.low == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("series", "reason"),
    [
        (scan(sd=0.2, shape=(64, 48, 1)), "the scan is 4 mm long, expected at least 40 mm"),
        (scan(suv=0.0), "0 voxels of body"),
        (scan(), "the scan has no noise"),
    ],
)
def test_what_has_no_dose_says_why_in_one_line(series, reason):
    said = read_dose(series.suv, voxel_size=series.voxel_size, rule=SQUARE)
    assert said.startswith("no dose is read: ")
    assert reason in said
    assert "\n" not in said


def test_measures_of_a_block():
    series = scan(suv=2.0)
    series.suv[:, :, :6] = -1.0
    body = np.zeros(series.suv.shape, dtype=bool)
    body[16:26, 16:26] = True
    found = scan_measures(series, body=body)
    assert found["voxel_size"] == (4.0, 4.0)
    assert found["axial_extent"] == (96.0, 96.0)
    assert found["body_width"] == (40.0, 40.0)
    assert found["body_mean"][0] == pytest.approx(2.0 - 3.0 * 0.25)
    assert found["negative_part"] == pytest.approx((25.0, 25.0))
    assert found["highest_suv"][1] == pytest.approx(2.0, abs=0.01)


def test_one_hot_voxel_is_not_the_highest_suv():
    series = scan()
    series.suv[32, 24, 12] = 100.0
    body = body_mask(series.suv, voxel_size=series.voxel_size)
    assert scan_measures(series, body=body)["highest_suv"][1] < 15.0


def test_a_scan_inside_needs_no_words():
    series = scan(sd=0.2)
    body = body_mask(series.suv, voxel_size=series.voxel_size)
    rows, warnings = outside_of_training(series, body=body, style_deviation={"coarse": 2.9}, training=TRAINING)
    assert warnings == ()
    assert not any(row.outside for row in rows)
    assert len(rows) == len(RANGES) + 2


def test_coarse_voxels_quote_the_nearest_simulated_scan():
    (line,) = warnings_of(scan(side=9.0, shape=(48, 48, 24)))
    assert line == (
        "voxel size 9 mm, training 2 to 6 mm: on simulated scans of 8 mm denoising gained 3.1 dB less, "
        "the mean SUV of the body changed by +1 %, SUVmean of lesions by -4 %"
    )


def test_the_nearest_is_one_on_the_same_side_and_none_is_said():
    (fine,) = warnings_of(scan(side=1.9, shape=(64, 64, 48)))
    assert "scans of 1 mm" in fine
    (short,) = warnings_of(scan(shape=(64, 48, 10)))
    assert short == (
        "axial field of view 40 mm, training 80 to 1000 mm: on simulated scans of 26 mm denoising gained 0.4 dB more, "
        "the mean SUV of the body changed by +0 %"
    )
    (hot,) = warnings_of(scan(suv=5.0))
    assert hot.startswith("mean SUV of the body ")
    assert hot.endswith(", training 0.2 to 3: what that does was not measured")


def test_noise_outside_says_what_other_noise_did():
    (line,) = warnings_of(scan(), coarse=-4.0, axial=3.1)
    assert line.startswith("the noise is unlike that of the training scans")
    assert line.endswith(
        "on simulated scans of -3.6 SD of the first denoising gained 1.0 dB less, "
        "the mean SUV of the body changed by +0 %, SUVmean of lesions by -2 %"
    )


@pytest.mark.parametrize(
    ("tracer", "nuclide", "said"),
    [
        ("", "", None),
        ("", "Ga-68", None),
        ("FDG", "", None),
        ("68Ga-DOTATATE", "Ga-68", None),
        ("DOTATATE", "Cu-64", "scans of FLT"),
        ("", "Zr-89", "scans of FLT"),
        ("sodium fluoride", "F-18", "scans of NaF"),
        ("choline", "C-11", "scans of FLT"),
    ],
)
def test_a_tracer_that_training_never_saw(tracer, nuclide, said):
    header = PETHeader(units="GML", radiopharmaceutical=tracer, radionuclide=nuclide)
    found = warnings_of(scan(header=header))
    if said is None:
        assert found == ()
    else:
        (line,) = found
        assert line.startswith("tracer ")
        assert "training FDG (F-18), DOTATATE (Ga-68): on simulated" in line
        assert said in line
        assert "changed by +0 %" in line


def test_air_alone_is_no_failure():
    found = domain_of(scan(suv=0.0), style_deviation={}, calibration=read_calibration())
    assert found.dose is None
    assert found.dose_statement.startswith("no dose is read")
    assert [row.value for row in found.rows].count("not measured, no body was found") == 4


def test_every_shipped_effect_lies_outside_of_the_shipped_training():
    domain = read_calibration().domain
    assert all(low < high for low, high in domain.ranges.values())
    assert domain.tracers["FDG"] == ("F-18",)
    assert {"voxel_size", "axial_extent", "highest_suv", "body_mean", "tracer"} <= {e.respect for e in domain.effects}
    for effect in domain.effects:
        low, high = domain.ranges.get(effect.respect, (-3.0, 3.0))
        assert effect.label or not low <= effect.value <= high


def test_the_shipped_reading_falls_with_the_dose():
    rule = read_calibration().dose
    read = [read_dose(scan(sd=sd).suv, voxel_size=(4, 4, 4), rule=rule).factor for sd in (0.2, 0.4, 0.8)]
    assert read == sorted(read)
    assert 1.2 < rule.factor_95 < 6
