"""Measuring: methods whose figures are known beforehand, on simulated subjects and on a scan without truth."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from pipeline.comparison import (
    Competitors,
    KeptResults,
    best_setting,
    cases_of,
    evaluate_methods,
    evaluate_scan,
    full_dose_reference,
    has_style,
    measure_style_swap,
    reference_of,
    swap_styles,
    tune_competitors,
)
from pipeline.comparison.baselines import Setting
from pipeline.evaluation import psnr
from pipeline.inference import Denoiser
from pipeline.pet import PETError, PETHeader, PETSeries


@pytest.fixture(scope="module")
def case(tiny_cohort):
    return cases_of([tiny_cohort[0].parent], split="test")[1]


def test_known_figures_are_found(case, competitors):
    truth, full = case.read(case.subject.image("noise_free")), case.full_dose()
    methods = {
        "perfect": lambda series: truth,
        "high": lambda series: truth.with_suv(1.05 * truth.suv),
        "full": lambda series: full,
    }
    found = evaluate_methods([case], methods, competitors=competitors)
    rows = found.scans.set_index(["method", "dose_reduction_factor"])
    lesions = found.lesions[found.lesions["diameter_mm"] >= 10].set_index("method")
    assert found.truth == "noise_free"
    assert rows.loc[("perfect", 4), "psnr_noise_free"] == np.inf
    assert rows.loc[("perfect", 4), "liver_bias_percent"] == 0
    assert rows.loc[("perfect", 4), "n_false_hot_spots"] == 0
    assert rows.loc[("perfect", 4), "nrmse_noise_free"] == 0
    assert rows.loc[("perfect", 4), "liver_error_sd"] == 0
    assert rows.loc[("perfect", 4), "n_spots_seen"] == 0
    assert rows.loc[("full", 4), "udpet_score"] == pytest.approx(1)
    for image in ("full", "seen", "both"):  # the full dose agrees with itself
        assert rows.loc[("full", 4), f"n_lesions_{image}"] == rows.loc[("full", 4), "n_lesions_full"]
        assert rows.loc[("full", 4), f"n_spots_{image}"] == rows.loc[("full", 4), "n_spots_full"]
    assert rows.loc[("perfect", 4), "local_variance_ratio_noise_free"] == 1
    assert rows.loc[("high", 4), "liver_bias_percent"] == pytest.approx(5, abs=1e-3)
    assert rows.loc[("high", 4), "nrmse_noise_free"] == pytest.approx(0.05, abs=1e-5)
    assert rows.loc[("high", 4), "local_variance_ratio_noise_free"] == pytest.approx(1.05**2, rel=1e-4)
    for quantity, error in (("suv_max", 5), ("suv_peak", 5), ("suv_mean", 5), ("mtv", 0), ("tlg", 5)):
        assert lesions.loc["perfect", f"{quantity}_error_percent"].abs().max() == 0
        np.testing.assert_allclose(lesions.loc["high", f"{quantity}_error_percent"], error, atol=1e-3)
    assert (rows.loc["full", ["psnr_full", "ssim_full"]].to_numpy() == [np.inf, 1]).all()
    assert rows.loc[("full", 4), "local_variance_ratio_full"] == 1
    # Filters of no strength are the input, and the independent scan is further from it than the nested one.
    assert rows.loc[("gaussian", 4), "psnr_full"] == rows.loc[("input", 4), "psnr_full"]
    assert rows.loc[("nonlocal_means", 20), "ssim_full"] == rows.loc[("input", 20), "ssim_full"]
    assert rows.loc[("input", 4), "psnr_repeat"] < rows.loc[("input", 4), "psnr_full"]


def test_the_liver_is_away_from_its_surface_and_from_lesions(case):
    reference = reference_of(case)
    assert reference.liver is not None
    assert not (reference.liver & (reference.lesions > 0)).any()
    assert (reference.liver & reference.body).sum() == reference.liver.sum()


def test_a_filter_has_the_setting_of_its_own_scanner_and_else_the_best_for_the_scan(case):
    low, full = case.read(case.doses[20]), case.full_dose()
    tuned = tune_competitors([case], factors=[20.0])
    scanner = "simulated tiny, 15 x 15 x 15 mm"
    assert set(tuned.tuned) == {(name, scanner, 20.0) for name in ("gaussian", "nonlocal_means")}
    found = tuned.setting("gaussian", 20.0, low, full, near=None)
    assert found == Setting(tuned.tuned["gaussian", scanner, 20.0], "other subjects")
    elsewhere = replace(low, header=replace(low.header, model_name="another"))
    for factor, series in ((20.0, elsewhere), (4.0, low)):
        found = tuned.setting("gaussian", factor, series, full, near=None)
        assert found == Setting(best_setting("gaussian", [(series, full)]), "this scan")
    rows = evaluate_scan(full, {20.0: low}, {}, competitors=Competitors()).scans.set_index("method")
    assert rows.loc["gaussian", "psnr_full"] >= rows.loc["input", "psnr_full"]
    assert set(rows["chosen_on"].dropna()) == {"this scan"}


def test_regions_and_spheres_are_compared_with_the_noisy_scan(case, competitors):
    found = evaluate_methods([case], {"high": lambda s: s.with_suv(1.02 * s.suv)}, competitors=competitors)
    rows = found.scans.set_index("method")
    for region in ("body", "liver", "lung", "muscle", "brain"):
        np.testing.assert_allclose(rows.loc["high", f"change_percent {region}"], 2, atol=1e-3)
        np.testing.assert_allclose(rows.loc["input", f"change_percent {region}"], 0)
    for measure in ("spheres_rms_percent", "spheres_largest_percent"):
        np.testing.assert_allclose(rows.loc["high", measure], 2, atol=1e-3)
    places = [name for name in rows if name.startswith("n_false_hot_spots ")]
    assert len(places) == 3
    np.testing.assert_allclose(rows[places].sum(axis=1), rows["n_false_hot_spots"])


class Counted:
    """Changes nothing, and counts the scans."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self, series: PETSeries) -> PETSeries:
        self.n += 1
        return series


def test_results_that_are_kept_are_not_measured_again(case, competitors, tmp_path):
    method = Counted()

    def measured(identity: str):
        kept = KeptResults(tmp_path / "kept", {"input": "", "gaussian": "", "same": identity})
        return evaluate_methods([case], {"same": method}, competitors=competitors, kept=kept)

    first = measured("weights 1")
    assert method.n == 2
    again = measured("weights 1")
    assert method.n == 2
    pd.testing.assert_frame_equal(first.scans, again.scans)
    pd.testing.assert_frame_equal(first.lesions, again.lesions)
    measured("weights 2")
    assert method.n == 4
    # A method of which nobody says what it depends on is measured each time.
    assert not list((tmp_path / "kept").glob("*nonlocal*"))
    assert len(list((tmp_path / "kept").glob("*_same_*.json"))) == 2


def test_a_killed_evaluation_goes_on(tiny_cohort, competitors, tmp_path):
    cases = cases_of([tiny_cohort[0].parent], split="test")
    method = Counted()

    class Killed(Counted):
        def __call__(self, series):
            if self.n == 3:
                raise KeyboardInterrupt
            return super().__call__(series)

    kept = KeptResults(tmp_path, {"input": "", "gaussian": "", "nonlocal_means": "", "net": "1"})
    with pytest.raises(KeyboardInterrupt):
        evaluate_methods(cases, {"net": Killed()}, competitors=competitors, kept=kept)
    found = evaluate_methods(cases, {"net": method}, competitors=competitors, kept=kept)
    assert method.n == 2  # those of the second subject
    assert found.n_subjects == 2


def test_a_damaged_result_is_refused_in_one_line(case, tmp_path):
    kept = KeptResults(tmp_path, {"same": "1"})
    evaluate_methods([case], {"same": Counted()}, competitors=None, kept=kept)
    next(tmp_path.glob("*.json")).write_text("{")
    with pytest.raises(PETError, match="expected results that were kept"):
        evaluate_methods([case], {"same": Counted()}, competitors=None, kept=kept)


def unchanged(series: PETSeries) -> PETSeries:
    return series


@pytest.mark.slow
def test_processes_share_the_subjects(tiny_cohort, competitors):
    cases = cases_of([tiny_cohort[0].parent], split="test")
    one, two = (
        evaluate_methods(cases, {"same": unchanged}, competitors=competitors, jobs=jobs).scans for jobs in (1, 2)
    )
    pd.testing.assert_frame_equal(one, two)


def test_a_real_scan_is_measured_against_its_full_dose(case, competitors):
    full, low = case.full_dose(), case.read(case.doses[4])
    half = {"half": lambda series: full.with_suv(full.suv / 2), "full": lambda series: full}
    found = evaluate_scan(full, {4.0: low}, half, competitors=competitors, subject="mine")
    rows = found.scans.set_index("method")
    assert found.truth == "full"
    assert not {"psnr_noise_free", "psnr_repeat"} & set(rows)
    assert (rows["subject"] == "mine").all()
    assert rows.loc["full", "psnr_full"] == np.inf
    assert rows.loc["full", "local_variance_ratio_full"] == 1
    assert rows.loc["half", "nrmse_full"] == pytest.approx(0.5)
    assert rows.loc["half", "local_variance_ratio_full"] == pytest.approx(0.25)
    assert len(found.lesions)
    np.testing.assert_allclose(found.lesions.set_index("method").loc["half", "suv_mean_error_percent"], -50, atol=1e-3)


def test_measures_that_are_not_defined_for_a_scan_are_missing_and_the_others_stand():
    """A flat scan has no texture, and eight planes are fewer than SSIM's window has."""
    affine = np.diag([30.0, 30.0, 30.0, 1.0])
    scan = PETSeries(suv=np.full((12, 12, 8), 0.5), affine=affine, header=PETHeader(units="GML"))
    found = evaluate_scan(scan, {4.0: scan}, {"same": lambda series: series}, competitors=None)
    row = found.scans.iloc[0]
    assert np.isnan(row["ssim_full"])
    assert np.isnan(row["local_variance_ratio_full"])
    assert row["psnr_full"] == np.inf


def test_hot_regions_reach_their_threshold(case):
    full = case.full_dose()
    reference = full_dose_reference(full, subject="scan")
    assert reference.lesions.max() > 0
    assert full.suv[reference.lesions > 0].mean() > 4


def test_without_a_truth_the_full_dose_takes_its_place(case):
    scans = tuple(image for image in case.subject.images if image.role == "dose")
    real = replace(case, subject=case.subject.model_copy(update={"images": scans}))
    labelled, simulated = reference_of(real), reference_of(case)
    assert (labelled.truth, labelled.regions, list(labelled.images)) == ("full", "lesions", ["full"])
    np.testing.assert_array_equal(labelled.lesions > 0, simulated.lesions > 0)
    # The manifest of a real scan says what is a lesion, and never where the liver is.
    assert labelled.liver is None or not np.array_equal(labelled.liver, simulated.liver)
    bare = replace(real, subject=real.subject.model_copy(update={"lesions": None}))
    assert reference_of(bare).regions.startswith("hot regions of the full-dose scan")
    np.testing.assert_array_equal(
        reference_of(bare).lesions, full_dose_reference(case.full_dose(), subject="scan").lesions
    )
    both = evaluate_methods([real, bare], {"same": lambda series: series}, competitors=None)
    assert both.truth == "full"
    assert both.regions.startswith("lesions and hot regions")


def test_psnr_as_others_print_it_has_another_peak_and_the_box_less_air(case):
    low, full = case.read(case.doses[4]), case.full_dose()
    row = evaluate_scan(full, {4.0: low}, {}, competitors=Competitors(filters=())).scans.iloc[0]
    peak = float(full.suv.max())
    assert row["psnr_full_peak_maximum"] == pytest.approx(psnr(low.suv, full.suv, data_range=peak))
    box = full_dose_reference(full, subject="one").box
    assert row["psnr_full_body_box"] == pytest.approx(psnr(low.suv[box], full.suv[box], data_range=20))
    assert row["psnr_full_body_box"] < row["psnr_full"]


def test_another_grid_is_refused(case, competitors):
    full = case.full_dose()
    moved = full.affine.copy()
    moved[0, 3] += 5
    with pytest.raises(PETError, match="expected one grid"):
        evaluate_scan(full, {4.0: replace(full, affine=moved)}, {}, competitors=competitors)
    with pytest.raises(PETError, match="nothing was measured"):
        evaluate_scan(full, {}, {}, competitors=competitors)


class Brightness(nn.Module):
    """A network whose style is the mean of the scan, and which adds it."""

    def encode_style(self, x: torch.Tensor, statistics=None) -> torch.Tensor:
        return x.mean().reshape(1, 1, 1)

    def fold(self, latents: torch.Tensor) -> nn.Module:
        folded = nn.Conv3d(1, 1, 1)
        folded.weight.fill_(1.0)
        folded.bias.copy_(latents.reshape(1))
        return folded

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.encode_style(x)

    def denoise_with_features(self, x, statistics=None):
        return self(x), [x]


def denoiser(network: nn.Module) -> Denoiser:
    return Denoiser(
        network=network, inferer=lambda x, net: net(x), suv_scale=2.0, method="test", device=torch.device("cpu")
    )


def test_swapped_styles_are_those_of_the_other_scan(case):
    low, high = case.read(case.doses[4]), case.full_dose()
    high = high.with_suv(3 * high.suv)
    first, second = swap_styles(denoiser(Brightness()), low, high)
    np.testing.assert_allclose(first.suv, low.suv + high.suv.mean(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(second.suv, high.suv + low.suv.mean(), rtol=1e-4, atol=1e-4)


def test_a_dead_style_changes_nothing(case):
    class Dead(Brightness):
        def encode_style(self, x, statistics=None):
            return torch.zeros(1, 1, 1)

    swap = measure_style_swap([case], denoiser(Dead()), factors=(4, 20))
    assert list(zip(swap["dose_reduction_factor"], swap["style_of"], strict=True)) == [(4, 20), (20, 4)]
    np.testing.assert_allclose(swap["change"], 0, atol=1e-6)
    with pytest.raises(PETError, match="no scan of DRF 2"):
        measure_style_swap([case], denoiser(Dead()), factors=(2, 20))


def test_a_method_without_style_is_refused(case):
    plain = denoiser(nn.Identity())
    assert has_style(denoiser(Brightness()))
    assert not has_style(plain)
    scan = case.full_dose()
    with pytest.raises(PETError, match="has no style"):
        swap_styles(plain, scan, scan)
