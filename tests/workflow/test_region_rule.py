"""Rules of regions on one scan: what is given, what is found, and what is refused in one line."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from pipeline.errors import PETError
from pipeline.pet import PETSeries, read_pet, write_nifti
from pipeline.workflow import DenoiseOptions, RegionRule, RepeatRule, denoise_scan
from tests.described_tables import check_tables
from tests.images.test_liver import patient_of, series_of


@pytest.fixture(scope="module")
def patient():
    """A patient with a liver, before and as if denoised."""
    suv, _ = patient_of(0)
    before = series_of(suv)
    return before, before.with_suv((0.5 * suv + 0.5 * np.roll(suv, 1, axis=2)).astype(np.float32), note="averaged")


def mask_of(series: PETSeries, path, part, affine=None):
    labels = np.zeros(series.suv.shape, np.uint8)
    labels[part] = 1
    nib.save(nib.Nifti1Image(labels, series.affine if affine is None else affine), path)
    return path


def test_the_reference_is_found_once_and_holds_for_both_images(patient):
    drawn = RegionRule(delineation="percist", min_volume=0).read(patient[0]).on(*patient)
    found = drawn.references["after"]
    assert found.found
    assert drawn.rule.threshold.suv == found.threshold
    record = drawn.record(patient[0].voxel_size)
    assert record["percist"]["after"]["threshold"] == found.threshold
    assert record["percist"]["before"]["center_mm"] == record["percist"]["after"]["center_mm"]
    assert record["percist"]["before"]["suv_sd"] > found.suv_sd  # noise
    assert "liver, sphere of 30 mm found at (" in record["percist_reference"]
    json.dumps(record)
    images = dict(zip(("before", "after"), (series.suv for series in patient), strict=True))
    for name, own in drawn.own(images).items():
        np.testing.assert_array_equal(own.labels > 0, drawn.drawn_in(images[name]))
        assert f"SUV >= {found.threshold:.3g}" in own.method


def test_a_given_reference_draws_as_the_one_that_was_found(patient):
    found = RegionRule(delineation="percist", min_volume=0).read(patient[0]).on(*patient)
    reference = found.references["after"]
    for given in ((reference.suv_mean, reference.suv_sd), reference.center):
        drawn = RegionRule(delineation="percist", min_volume=0, percist_reference=given).read(patient[0]).on(*patient)
        np.testing.assert_array_equal(drawn.regions.labels, found.regions.labels)
        assert not drawn.references["after"].found


def test_a_mask_is_a_reference_of_either_organ(patient, tmp_path):
    before, after = patient
    mask = mask_of(before, tmp_path / "organ.nii.gz", np.s_[30:34, 30:34, 60:64])
    values = after.suv[30:34, 30:34, 60:64].astype(float)
    for name, factor in (("percist", 1.5), ("percist-blood", 2.0)):
        drawn = RegionRule(delineation=name, percist_reference=mask).read(before).on(before, after)
        assert drawn.rule.threshold.suv == pytest.approx(factor * values.mean() + 2 * values.std(ddof=1))
        assert drawn.references["after"].measured_in == "mask"


def test_without_a_liver_a_reference_must_be_given(body_series):
    series = body_series()
    with pytest.raises(PETError, match=r"no liver was found: .*; a PERCIST reference can be given"):
        RegionRule(delineation="percist").read(series)  # before anything is denoised
    drawn = RegionRule(delineation="percist", percist_reference=(2.0, 0.25)).read(series).on(series, series)
    assert drawn.rule.threshold.suv == 3.5
    assert drawn.record(series.voxel_size)["percist_reference"].startswith(
        "liver, as given: mean 2, SD 0.25, threshold"
    )


def test_excluded_voxels_belong_to_no_region(body_series, tmp_path):
    series = body_series()
    mask = mask_of(series, tmp_path / "organs.nii.gz", np.s_[8:, :, :])
    for rule in ({"delineation": "suv4"}, {"delineation": "41%"}, {}):
        whole = RegionRule(**rule, min_volume=0).read(series).on(series, series)
        part = RegionRule(**rule, min_volume=0, exclude=mask).read(series).on(series, series)
        expected = whole.regions.labels > 0
        expected[8:] = False
        np.testing.assert_array_equal(part.regions.labels > 0, expected)
        assert part.record(series.voxel_size)["excluded_ml"] == 8 * 16 * 16 * 0.125
    assert part.warnings == []


def test_given_regions_lose_excluded_voxels_and_can_be_volumes_to_draw_in(body_series, tmp_path):
    series = body_series()
    given = mask_of(series, tmp_path / "lesions.nii.gz", np.s_[5:9, 5:9, 5:9])
    mask = mask_of(series, tmp_path / "organs.nii.gz", np.s_[8:, :, :])
    as_drawn = RegionRule(given=given, exclude=mask).read(series).on(series, series)
    assert np.count_nonzero(as_drawn.regions.labels) == 3 * 4 * 4
    assert as_drawn.own({"before": series.suv}) == {}
    within = RegionRule(given=given, delineation="50%").read(series).on(series, series)
    assert np.count_nonzero(within.regions.labels) == 3**3  # of the hot cube
    assert "in given volumes" in within.regions.method
    assert not within.noise_may_draw


def test_nothing_left_is_a_warning(body_series, tmp_path):
    series = body_series()
    mask = mask_of(series, tmp_path / "organs.nii.gz", np.s_[6:10, 6:10, 6:10])
    drawn = RegionRule(delineation="suv4", exclude=mask).read(series).on(series, series)
    assert drawn.warnings == ["no region is left outside of the excluded voxels"]


@pytest.mark.parametrize("rule", [{}, {"delineation": "suv4"}])
def test_given_regions_without_a_voxel_are_a_warning(body_series, tmp_path, rule):
    series = body_series()
    empty = mask_of(series, tmp_path / "lesions.nii.gz", np.s_[:0])
    drawn = RegionRule(given=empty, **rule).read(series).on(series, series)
    assert drawn.regions.n_regions == 0
    assert drawn.warnings == ["what was given as regions holds no voxel: no region was measured"]


@pytest.mark.parametrize("option", ["exclude", "percist_reference"])
def test_masks_that_do_not_fit_are_one_line(body_series, tmp_path, option):
    series = body_series()
    rule = {"delineation": "percist" if option == "percist_reference" else "suv4"}
    away = series.affine.copy()
    away[:3, 3] += 500
    path = mask_of(series, tmp_path / "mask.nii.gz", np.s_[:4], affine=away)
    with pytest.raises(PETError, match=r"mask\.nii\.gz: 1024 of 1024 labelled voxels lie outside of the scan"):
        RegionRule(**rule, **{option: path}).read(series).on(series, series)
    mask_of(series, path, np.s_[:0])
    with pytest.raises(PETError, match=r"mask\.nii\.gz: (holds no voxel|the liver reference has 0 voxels), expected"):
        RegionRule(**rule, **{option: path}).read(series).on(series, series)
    with pytest.raises(PETError, match=r"nowhere\.nii\.gz: no such file"):
        RegionRule(**rule, **{option: tmp_path / "nowhere.nii.gz"}).read(series).on(series, series)


def test_a_mask_of_everything_is_refused(body_series, tmp_path):
    series = body_series()
    path = mask_of(series, tmp_path / "mask.nii.gz", np.s_[:])
    with pytest.raises(PETError, match=r"mask\.nii\.gz: excludes every voxel of the scan, expected"):
        RegionRule(exclude=path).read(series).on(series, series)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"delineation": "otsu"}, "regions 'otsu' are not known, expected one of: smoothed, suv2.5, suv4, 41%"),
        ({"percist_reference": (2.0, 0.2)}, "a PERCIST reference is given with regions smoothed, expected regions per"),
        ({"delineation": "percist", "percist_reference": (2.0,)}, "a PERCIST reference of 1 numbers, expected MEAN,SD"),
        ({"delineation": "percist-blood"}, "percist-blood without a reference, expected one"),
        (
            {"delineation": "41%", "threshold": 3.0},
            "threshold 3 belongs to regions smoothed, expected none with",
        ),
        ({"given": Path("a.nii"), "min_volume": 2.0}, "min_volume 2 mL is given, expected none: given regions"),
        ({"exclude_names": ("brain",)}, "region brain is to be excluded, but no regions to exclude are given"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, line):
    with pytest.raises(PETError) as caught:
        RegionRule(**options)
    assert line in str(caught.value)


@pytest.mark.parametrize("numbers", [(0.0, 0.2), (2.0, -0.1), (np.nan, 0.2), (2.0, np.inf)])
def test_a_reference_of_impossible_numbers_is_refused_at_once(numbers):
    with pytest.raises(PETError, match="of the liver, expected both above 0"):
        RegionRule(delineation="percist", percist_reference=numbers)


@pytest.mark.parametrize("name", ["percist", "percist-blood"])
def test_a_place_that_is_none_is_refused_before_denoising(body_series, name):
    with pytest.raises(PETError, match="expected finite X,Y,Z"):
        RegionRule(delineation=name, percist_reference=(np.nan, 0.0, 0.0))
    with pytest.raises(PETError, match="leaves the image, expected it inside"):
        RegionRule(delineation=name, percist_reference=(900.0, 0.0, 0.0)).read(body_series())


def test_the_record_keeps_the_words_of_earlier_versions():
    def record(**rule):
        return DenoiseOptions(regions=RegionRule(**rule)).record().get("regions")

    assert record() is record(threshold=4.0) is record(delineation="smoothed") is None
    assert record(threshold=2.0) == {"threshold": 2.0, "min_volume": 1.0, "fwhm": 8.0}
    assert record(delineation="suv4") == {"threshold": 4.0, "min_volume": 1.0, "fwhm": 0.0}  # --regions fixed
    assert record(delineation="41%", min_volume=2.0) == {"delineation": "41%", "min_volume": 2.0}
    assert record(delineation="percist") != record(delineation="percist-blood", percist_reference=(1.6, 0.2))


@pytest.mark.parametrize("options", [{"regions": "percist"}, {"regions": "suv4", "ct": "nowhere.nii.gz"}])
def test_what_can_be_known_of_a_scan_is_refused_before_the_network_runs(scan, identity, tmp_path, options):
    steps = []
    ct = None if "ct" not in options else tmp_path / options["ct"]
    repeats = None if ct is None else RepeatRule(n=2, ct=ct)
    line = r"sub-01_pet\.nii\.gz: no liver was found|nowhere\.nii\.gz: no such file"
    with pytest.raises(PETError, match=line) as caught:
        denoise_scan(
            scan,
            tmp_path / "out",
            identity,
            regions=RegionRule(delineation=options["regions"]),
            repeats=repeats,
            on_step=steps.append,
        )
    assert "\n" not in str(caught.value)
    assert "denoising" not in steps
    assert not (tmp_path / "out").exists()


def test_quantities_and_burden_are_written(scan, identity, tmp_path):
    series = read_pet(scan)
    mask = mask_of(series, tmp_path / "organs.nii.gz", np.s_[8:, :, :])
    rule = RegionRule(delineation="suv4", exclude=mask)
    result = denoise_scan(scan, tmp_path / "out", identity, regions=rule, reference=series)
    check_tables((tmp_path / "out" / f"{kind}.tsv" for kind in ("quantities", "burden")), scan="sub-01")
    quantities = pd.read_csv(tmp_path / "out" / "quantities.tsv", sep="\t", na_values="n/a")
    assert quantities[["region", "image"]].to_numpy().tolist() == [[1, n] for n in ("before", "after", "reference")]
    assert quantities["mtv_ml"].tolist() == [2 * 4 * 4 * 0.125] * 3
    assert quantities["sul_peak_james"].isna().all()
    burden = pd.read_csv(tmp_path / "out" / "burden.tsv", sep="\t", na_values="n/a")
    assert burden["tlg"].tolist() == pytest.approx(quantities["tlg"].tolist() * 2, rel=1e-5)
    assert burden["tmtv_change_ml"].dropna().tolist() == [0.0]
    assert burden["interval_by"].dropna().tolist() == ["counting"]
    assert result.run["excluded_ml"] == 8 * 16 * 16 * 0.125


def test_sul_needs_height_and_sex(scan, body_series, identity, tmp_path):
    write_nifti(body_series(patient_weight=70.0, patient_height=1.75, patient_sex="F"), scan)
    denoise_scan(scan, tmp_path / "out", identity)
    row = pd.read_csv(tmp_path / "out" / "quantities.tsv", sep="\t", na_values="n/a").iloc[0]
    lean = 9270 * 70 / (8780 + 244 * 70 / 1.75**2)  # Janmahasatian, kg
    assert row.sul_peak_janmahasatian == pytest.approx(row.suv_peak * lean / 70, rel=1e-4)
