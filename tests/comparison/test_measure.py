"""Measuring: methods whose figures are known beforehand, on simulated subjects and on a scan without truth."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.comparison import (
    Competitors,
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
from pipeline.inference import Denoiser
from pipeline.pet import PETError, PETHeader, PETSeries


@pytest.fixture(scope="module")
def case(tiny_cohort):
    return cases_of([tiny_cohort[0].parent], split="test")[0]


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
    assert rows.loc[("perfect", 4), "local_variance_ratio_noise_free"] == 1
    assert rows.loc[("high", 4), "liver_bias_percent"] == pytest.approx(5, abs=1e-3)
    assert rows.loc[("high", 4), "nrmse_noise_free"] == pytest.approx(0.05, abs=1e-5)
    assert rows.loc[("high", 4), "local_variance_ratio_noise_free"] == pytest.approx(1.05**2, rel=1e-4)
    for quantity in ("suv_max", "suv_peak", "suv_mean"):
        assert lesions.loc["perfect", f"{quantity}_error_percent"].abs().max() == 0
        np.testing.assert_allclose(lesions.loc["high", f"{quantity}_error_percent"], 5, atol=1e-3)
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


def test_tuning_beats_the_input_on_the_subjects_it_chose_on(case):
    tuned = tune_competitors([case], factors=[20.0])
    assert set(tuned.gaussian_fwhm) == set(tuned.nonlocal_means_strength) == {20.0}
    rows = evaluate_scan(case.full_dose(), {20.0: case.read(case.doses[20])}, {}, competitors=tuned).scans.set_index(
        "method"
    )
    assert rows.loc["gaussian", "psnr_full"] >= rows.loc["input", "psnr_full"]
    with pytest.raises(PETError, match="DRF 20, expected tuning subjects with DRF 7"):
        tuned.at(7.0)
    with pytest.raises(PETError, match=r"no subject to tune on has DRF 7 \(found 4, 20\)"):
        tune_competitors([case], factors=[7.0])


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


def test_filters_of_untuned_doses_are_refused():
    with pytest.raises(PETError, match="expected tuning subjects with DRF 4"):
        Competitors(gaussian_fwhm={}, nonlocal_means_strength={}).at(4.0)
