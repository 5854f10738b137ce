"""What is said of one scan: it agrees with its parts, and says what it cannot state."""

import numpy as np
import pytest

from pipeline.constants import OSEM_NOISE_POWER
from pipeline.images import Regions, gaussian_filter_mm, regions_in_either
from pipeline.pet import PETHeader, PETSeries
from pipeline.trust import TRUST_COLUMNS, scan_trust
from pipeline.trust.repeats import RegionRepeats

SIDES = (5.0, 5.0, 5.0)
SHAPE = (32, 32, 32)


def series(suv):
    return PETSeries(suv=suv.astype(np.float32), affine=np.diag([*SIDES, 1.0]), header=PETHeader(units="GML"))


def ball(center, radius):
    grid = np.indices(SHAPE) * 5.0
    return np.sqrt(((grid - np.reshape(center, (3, 1, 1, 1)) * 5.0) ** 2).sum(axis=0)) <= radius


HOT, ERASED = ball((10, 16, 16), 15), ball((22, 16, 16), 15)


def patient(shape=SHAPE):
    """A block of tissue with two hot balls, with noise and without: of OSEM, relatively weaker where it is hot."""
    truth = np.zeros(SHAPE)
    truth[3:-3, 3:-3] = 2
    truth[HOT | ERASED] = 9
    truth = gaussian_filter_mm(truth, fwhm=6.0, voxel_size=SIDES)
    spread = 0.1 * (np.maximum(truth, 0.2) / 2) ** (OSEM_NOISE_POWER - 1)
    noise = spread * np.random.default_rng(1).standard_normal(SHAPE)
    cut = tuple(slice(0, n) for n in shape)
    return truth[cut], (truth * np.exp(noise - spread**2 / 2))[cut]


def trust_of(noisy, denoised, **options):
    before, after = series(noisy), series(denoised)
    regions = regions_in_either(before.suv, after.suv, voxel_size=SIDES)
    return regions, scan_trust(before, after, regions, threshold=4.0, **options)


def test_a_faithful_result_has_no_warning_and_supported_regions():
    truth, noisy = patient()
    regions, trust = trust_of(noisy, truth)
    assert trust.evidence.regions.empty
    assert trust.warnings == list(trust.domain.warnings)
    assert trust.not_stated == ()
    assert list(trust.regions.columns) == list(TRUST_COLUMNS)
    assert regions.n_regions == len(trust.regions) == 2
    assert set(trust.regions["support"]) == {"supported"}
    for row in trust.regions.itertuples():
        expected = truth[regions.labels == row.Index + 1].mean()
        assert row.suv_mean_recommended_low < expected < row.suv_mean_recommended_high
        assert abs(row.suv_mean_measured - expected) < 4 * row.suv_mean_measured_sd
        assert row.tlg_measured == pytest.approx(row.suv_mean_measured * np.pi / 6000 * row.diameter_mm**3)
    assert trust.regions["suv_mean_corrected"].isna().all()
    assert trust.record["regions_by_support"] == {"supported": 2}


def test_a_lesion_that_was_taken_away_is_told_at_once():
    truth, noisy = patient()
    without = truth.copy()
    without[ball((22, 16, 16), 25)] = 2
    _, trust = trust_of(noisy, without)
    assert trust.record["n_removed"] >= 1
    assert trust.record["n_added"] == 0
    warning = trust.warnings[0]
    assert "removed in" in warning
    assert "changes.tsv" in warning
    first = trust.evidence.regions.iloc[0]
    assert np.linalg.norm([first.x_mm - 110, first.y_mm - 80, first.z_mm - 80]) < 15


def test_large_spheres_of_a_scaled_image_change_by_its_factor():
    _, noisy = patient()
    _, trust = trust_of(noisy, noisy * 1.1)
    assert trust.conservation.rms_percent == pytest.approx(10, abs=1e-3)
    assert trust.conservation.largest_percent == pytest.approx(10, abs=1e-3)


def test_a_scan_outside_of_the_training_is_told_and_so_is_its_dose():
    truth, noisy = patient()
    _, trust = trust_of(noisy, truth, style_deviation={"coarse": -4.0})
    assert any("less correlated between voxels (-4.0 SD)" in line for line in trust.warnings)
    assert "noise: correlation in plane" in trust.record["outside_of_training"]
    low, high = trust.record["dose_reduction_factor_95"]
    assert low < trust.record["dose_reduction_factor_read"] < high
    assert trust.record["dose"].startswith("reads ")


def test_repeats_give_bias_and_how_often_a_region_is_found_again():
    truth, noisy = patient()
    values = np.array([[8.0, 8.5, 50.0], [7.0, 7.5, 40.0]])
    again = np.stack([values - 1, values - 3])
    found = np.array([[True, True], [True, False]])
    repeats = RegionRepeats((1, 2), values, values, again, again, found)
    _, trust = trust_of(noisy, truth, repeats=repeats)
    assert list(trust.regions["found_again_percent"]) == [100, 50]
    denoised = [truth[trust_labels].mean() for trust_labels in _masks(noisy, truth)]
    np.testing.assert_allclose(trust.regions["suv_mean_corrected"], np.add(denoised, 2), rtol=1e-6)


def _masks(noisy, denoised):
    labels = regions_in_either(noisy, denoised, voxel_size=SIDES).labels
    return [labels == 1, labels == 2]


@pytest.mark.parametrize("shape", [(32, 32, 1), (32, 32, 4), (5, 5, 5)])
def test_what_a_small_volume_does_not_allow_is_said(shape):
    truth, noisy = patient(shape)
    regions, trust = trust_of(noisy, truth)
    assert len(trust.regions) == regions.n_regions
    assert any(line.startswith("changes not assessed: the scan has") for line in trust.not_stated)
    assert any(line.startswith("conservation not assessed") for line in trust.not_stated)
    assert trust.regions["support"].isna().all()


def test_regions_of_a_scan_without_noise_have_no_error_and_say_why():
    truth, _ = patient()
    truth[:] = np.where(HOT, 9.0, np.where(ball((16, 16, 16), 60), 2.0, 0))
    regions, trust = trust_of(truth, truth)
    assert regions.n_regions == 1
    assert trust.regions["suv_mean_measured_sd"].isna().all() or trust.not_stated
    assert "changes not assessed: the noisy and the denoised image are equal" in trust.not_stated


def test_an_image_of_air_is_no_error():
    air = np.full(SHAPE, 0.01)
    air[::2] = 0.02
    before, after = series(air), series(air * 1.1)
    none = Regions(np.zeros(SHAPE, dtype=np.int32), "none", ())
    trust = scan_trust(before, after, none, threshold=4.0)
    assert len(trust.regions) == 0
    assert "changes not assessed: no body was found in the image" in trust.not_stated
    assert any(line.startswith("errors of regions not assessed: noise cannot be measured") for line in trust.not_stated)
