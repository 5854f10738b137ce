"""Measuring: methods whose figures are known beforehand, on simulated subjects and on a scan without truth."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.comparison import (
    Competitors,
    evaluate_methods,
    evaluate_scan,
    full_dose_reference,
    has_style,
    measure_style_swap,
    simulated_reference,
    subjects_of_cohorts,
    swap_styles,
    tune_competitors,
)
from pipeline.inference import Denoiser
from pipeline.pet import PETError, PETHeader, PETSeries, read_pet


@pytest.fixture(scope="module")
def item(tiny_cohort):
    return subjects_of_cohorts([tiny_cohort[0].parent])[0]


def test_known_figures_are_found(item, competitors):
    truth, full = read_pet(item["noise_free"]), read_pet(item["label"])
    methods = {
        "perfect": lambda series: truth,
        "high": lambda series: truth.with_suv(1.05 * truth.suv),
        "full": lambda series: full,
    }
    found = evaluate_methods([item], methods, competitors=competitors)
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


def test_the_liver_is_away_from_its_surface_and_from_lesions(item):
    reference = simulated_reference(item)
    assert reference.liver is not None
    assert not (reference.liver & (reference.lesions > 0)).any()
    assert (reference.liver & reference.body).sum() == reference.liver.sum()


def test_tuning_beats_the_input_on_the_subjects_it_chose_on(item):
    tuned = tune_competitors([item], factors=[20.0])
    assert set(tuned.gaussian_fwhm) == set(tuned.nonlocal_means_strength) == {20.0}
    rows = evaluate_scan(
        read_pet(item["label"]), {20.0: read_pet(item["drf020"])}, {}, competitors=tuned
    ).scans.set_index("method")
    assert rows.loc["gaussian", "psnr_full"] >= rows.loc["input", "psnr_full"]
    with pytest.raises(PETError, match="DRF 20, expected tuning subjects with DRF 7"):
        tuned.at(7.0)


def test_a_real_scan_is_measured_against_its_full_dose(item, competitors):
    full, low = read_pet(item["label"]), read_pet(item["drf004"])
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


def test_hot_regions_reach_their_threshold(item):
    full = read_pet(item["label"])
    reference = full_dose_reference(full, subject="scan")
    assert reference.lesions.max() > 0
    assert full.suv[reference.lesions > 0].mean() > 4


def test_another_grid_is_refused(item, competitors):
    full = read_pet(item["label"])
    moved = full.affine.copy()
    moved[0, 3] += 5
    with pytest.raises(PETError, match="expected one grid"):
        evaluate_scan(full, {4.0: replace(full, affine=moved)}, {}, competitors=competitors)
    with pytest.raises(PETError, match="nothing was measured"):
        evaluate_scan(full, {}, {}, competitors=competitors)


def test_subjects_of_several_cohorts_carry_their_names(tiny_cohort, tmp_path):
    for k, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / tiny_cohort[k].name).symlink_to(tiny_cohort[k])
    items = subjects_of_cohorts([tmp_path / "one", tmp_path / "two"])
    assert [item["subject"] for item in items] == [f"one/{tiny_cohort[0].name}", f"two/{tiny_cohort[1].name}"]
    assert [item["subject"] for item in subjects_of_cohorts([tmp_path / "one"])] == [tiny_cohort[0].name]
    with pytest.raises(PETError, match="different cohorts"):
        subjects_of_cohorts([tmp_path / "one", tmp_path / "one"])
    with pytest.raises(PETError, match="no cohort"):
        subjects_of_cohorts([])


class Brightness(nn.Module):
    """A network whose style is the mean of the scan, and which adds it."""

    def encode_style(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean().reshape(1, 1, 1)

    def fold(self, latents: torch.Tensor) -> nn.Module:
        folded = nn.Conv3d(1, 1, 1)
        folded.weight.fill_(1.0)
        folded.bias.copy_(latents.reshape(1))
        return folded

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.encode_style(x)


def denoiser(network: nn.Module) -> Denoiser:
    return Denoiser(
        network=network, inferer=lambda x, net: net(x), suv_scale=2.0, method="test", device=torch.device("cpu")
    )


def test_swapped_styles_are_those_of_the_other_scan(item):
    low, high = read_pet(item["drf004"]), read_pet(item["label"])
    high = high.with_suv(3 * high.suv)
    first, second = swap_styles(denoiser(Brightness()), low, high)
    np.testing.assert_allclose(first.suv, low.suv + high.suv.mean(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(second.suv, high.suv + low.suv.mean(), rtol=1e-4, atol=1e-4)


def test_a_dead_style_changes_nothing(item):
    class Dead(Brightness):
        def encode_style(self, x):
            return torch.zeros(1, 1, 1)

    swap = measure_style_swap([item], denoiser(Dead()), low_factor=4, high_factor=20)
    assert list(zip(swap["dose_reduction_factor"], swap["style_of"], strict=True)) == [(4, 20), (20, 4)]
    np.testing.assert_allclose(swap["change"], 0, atol=1e-6)
    with pytest.raises(PETError, match="no scan of DRF 2"):
        measure_style_swap([item], denoiser(Dead()), low_factor=2, high_factor=20)


def test_a_method_without_style_is_refused(item):
    plain = denoiser(nn.Identity())
    assert has_style(denoiser(Brightness()))
    assert not has_style(plain)
    scan = read_pet(item["label"])
    with pytest.raises(PETError, match="has no style"):
        swap_styles(plain, scan, scan)


def test_filters_of_untuned_doses_are_refused():
    with pytest.raises(PETError, match="expected tuning subjects with DRF 4"):
        Competitors(gaussian_fwhm={}, nonlocal_means_strength={}).at(4.0)
