"""What was fitted, as it is shipped: complete, with its provenance, and refused in one line if it is not."""

import json

import numpy as np
import pytest

from pipeline.errors import PETError
from pipeline.shipped import own_bundle
from pipeline.trust.calibration import read_calibration
from pipeline.trust.noise_model import noise_features
from pipeline.trust.regions import RegionParts, recommend


def test_the_shipped_factor_is_near_one_in_quiet_tissue():
    features = noise_features(diameter=20.0, voxel_sd=0.4, activity=2.0, surround=2.0)
    assert 0.4 < np.exp(features @ read_calibration().noise) < 1.6


def test_the_provenance_names_what_was_fitted_on_and_no_test_subject():
    for section in read_calibration().provenance.values():
        assert section["command"].startswith("python studies/")
        assert section["cohorts"]
        assert not any(name.startswith(("test", "fresh")) for name in section["cohorts"])


@pytest.mark.parametrize("quantity", ["suv_mean", "suv_peak"])
def test_more_noise_is_a_wider_interval_around_the_same_value(quantity):
    rule = getattr(read_calibration(), quantity)
    assert rule.measured_to < rule.denoised_from
    assert rule.doubtful_to < rule.certain_from
    found = [recommend(RegionParts(20.0, 5.0, sd, 5.0, 0.0, 0.0, 2.0), rule) for sd in (1e-6, 0.05, 0.2, 0.8)]
    assert [value for value, _, _ in found] == pytest.approx([5.0] * 4)
    assert all(low < value < high for value, low, high in found)
    widths = [high - low for _, low, high in found]
    assert widths == sorted(widths)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda kept: kept.pop("regions"), "regions"),
        (lambda kept: kept["noise_model"].pop("coefficients"), "coeffi"),
        (lambda kept: kept["domain"]["dose"].pop("factor_95"), "factor_95"),
        (lambda kept: kept["domain"]["effects"][0].pop("gain_db"), "gain_db"),
    ],
)
def test_a_file_that_lacks_something_is_refused(tmp_path, change, said):
    kept = json.loads((own_bundle() / "models" / "trust.json").read_text())
    change(kept)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "trust.json").write_text(json.dumps(kept))
    with pytest.raises(PETError, match=said):
        read_calibration(tmp_path)


def test_a_bundle_without_the_file_is_refused(tmp_path):
    with pytest.raises(PETError, match="cannot be read"):
        read_calibration(tmp_path)
