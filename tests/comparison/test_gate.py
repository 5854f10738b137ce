"""The release gate: every kind of demand met and missed, and what was not measured is missed."""

from dataclasses import replace

import pandas as pd
import pytest

from pipeline.comparison import ReleaseGate, check_gate, gains_by_scanner, read_gate
from pipeline.comparison.baselines import COMPETITORS
from pipeline.data import Manifest, own_manifest
from pipeline.pet import PETError

GATE = {
    "psnr_gain": {"measures": ["psnr_full"], "competitors": ["gaussian", "nonlocal_means"], "gain_db": {4: 1, 20: 1}},
    "conservation": {"regions": ["liver"], "change_percent": {4: 1, 20: 1}},
    "lesions": [
        {"diameter_from_mm": 15, "quantities": ["suv_mean"], "bias_percent": {4: 3}},
        {"diameter_from_mm": 10, "diameter_below_mm": 15, "quantities": ["suv_peak"], "bias_percent": {4: 12}},
    ],
    "false_hot_spots": {4: 0},
    "style_swap_db": 0.3,
}


def swap(change: float) -> pd.DataFrame:
    rows = [{"dose_reduction_factor": a, "style_of": b, "change": change} for a, b in ((4.0, 20.0), (20.0, 4.0))]
    return pd.DataFrame(rows)


def missed(measurements, change: float = -1.0) -> list[str]:
    lines = check_gate(ReleaseGate.model_validate(GATE), measurements, "net", style_swap=swap(change))
    assert len(lines) == 9
    return [str(line) for line in lines if not line.met]


def test_good_weights_pass(made):
    assert missed(made()) == []


@pytest.mark.parametrize(
    ("figures", "change", "n_missed", "said"),
    [
        ({"gain": 0.9}, -1, 2, "+0.90 dB over nonlocal_means"),
        ({"change": -1.1}, -1, 2, "mean SUV of liver against the input's within 1 %: +1.10 %"),
        ({"large": 3.5}, -1, 1, "SUVmean bias, 15 mm and more (n = 3) within 3 %: +3.50 %"),
        ({"small": -12.5}, -1, 1, "SUVpeak bias, 10 to 15 mm (n = 3) within 12 %: -12.50 %"),
        ({"spots": 1 / 3}, -1, 1, "false hot spots per scan at most 0: 0.333"),
        ({}, -0.2, 2, "under the style of DRF 20 loses >= 0.3 dB: 0.20 dB"),
        ({}, 0.5, 2, "-0.50 dB"),
    ],
)
def test_each_demand_can_be_missed(made, figures, change, n_missed, said):
    lines = missed(made(**figures), change)
    assert len(lines) == n_missed
    assert said in lines[0]
    assert lines[0].startswith("MISSED")


def test_limits_belong_to_what_is_met(made):
    assert missed(made(gain=1.0, change=1.0, large=-3.0, small=12.0)) == []


def test_what_was_not_measured_is_missed(made):
    gate = ReleaseGate.model_validate({"psnr_gain": {**GATE["psnr_gain"], "gain_db": {100: 1}}, "style_swap_db": 0.3})
    lines = check_gate(gate, made(), "net")
    assert [line.met for line in lines] == [False, False]
    assert all("not measured" in str(line) for line in lines)
    lesions = ReleaseGate.model_validate({"lesions": [{**GATE["lesions"][0], "diameter_from_mm": 50}]})
    assert [line.met for line in check_gate(lesions, made(), "net")] == [False]


def test_the_mean_over_scanners_does_not_hide_one_where_a_filter_is_better(made):
    found = made(gain=1.0, scanners=("A", "B"))
    worse = (found.scans["scanner"] == "B") & (found.scans["method"] == "net")
    found.scans.loc[worse, "psnr_full"] -= 1.2  # 0.2 dB below the best filter on B alone
    gain = {
        "measures": ["psnr_full"],
        "competitors": ["nonlocal_means"],
        "gain_db": {4: 0.3},
        "each_scanner_db": {4: 0},
    }
    mean, each = check_gate(ReleaseGate.model_validate({"psnr_gain": gain}), found, "net")
    assert mean.met
    assert "+0.40 dB over nonlocal_means" in mean.found
    assert not each.met
    assert each.found == "least -0.20 dB, over nonlocal_means on B; 1 of 2 below"


def test_every_scanner_has_its_own_best_competitor(made):
    found = made(gain=1.0, scanners=("A", "B"))
    better = (found.scans["scanner"] == "B") & (found.scans["method"] == "gaussian")
    found.scans.loc[better, "psnr_full"] += 3
    gains = gains_by_scanner(found.scans, "psnr_full", "net", COMPETITORS).set_index(
        ["scanner", "dose_reduction_factor"]
    )
    assert list(gains.loc["A", "other"]) == ["nonlocal_means"] * 2
    assert list(gains.loc["B", "other"]) == ["gaussian"] * 2
    assert gains.loc["A", "gain"].tolist() == pytest.approx([1, 1])
    assert gains.loc["B", "gain"].tolist() == pytest.approx([-1, -1])


def test_bm4d_counts_where_it_was_measured(made):
    found = made(gain=1.5)
    gain = {"measures": ["psnr_full"], "competitors": ["input"], "optional": ["bm4d"], "gain_db": {4: 1}}
    gate = ReleaseGate.model_validate({"psnr_gain": gain})
    assert [line.met for line in check_gate(gate, found, "net")] == [True]
    own = found.scans[found.scans["method"] == "net"].assign(method="bm4d")
    both = replace(found, scans=pd.concat([found.scans, own], ignore_index=True))
    assert [line.met for line in check_gate(gate, both, "net")] == [False]


def test_the_shipped_gate_demands_a_gain_at_every_dose_and_more_bias_at_less_dose(repository):
    gate = read_gate(repository / "bundles" / "unipet_3d" / "configs" / "release_gate.yaml")
    recipe = Manifest.from_file(own_manifest("simulated_v2")).recipe
    assert set(gate.psnr_gain.gain_db) == set(recipe.dose_reduction_factors)
    assert set(gate.psnr_gain.competitors) == {"input", "gaussian", "nonlocal_means"}
    for demand in gate.lesions:
        limits = [demand.bias_percent[factor] for factor in sorted(demand.bias_percent)]
        assert limits == sorted(limits)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("liver_bias: 1", "liver_bias: Extra inputs are not permitted"),
        ("conservation: {regions: [liver], change_percent: {4: -1}}", "change_percent"),
        ("conservation: {regions: [toe], change_percent: {4: 1}}", "regions"),
        ("false_hot_spots: {0.5: 0}", "false_hot_spots"),
        ("{}", "the gate demands nothing"),
        ("[1, 2", "not YAML"),
        ("style_swap_db: 2026-99-99", "not YAML"),
        ("style_swap_db: 1\nstyle_swap_db: 9", "stands twice"),
        (
            "lesions: [{diameter_from_mm: 15, diameter_below_mm: 10, quantities: [suv_max], bias_percent: {4: 1}}]",
            "must be larger",
        ),
    ],
)
def test_a_file_that_is_no_gate_is_refused(tmp_path, text, said):
    path = tmp_path / "gate.yaml"
    path.write_text(text)
    with pytest.raises(PETError, match=r"gate\.yaml") as error:
        read_gate(path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
