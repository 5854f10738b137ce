"""Noise meters: known values of white noise, the published form, and a rise with the dose reduction factor."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pipeline import read_pet
from pipeline.constants import FWHM_PER_SIGMA
from pipeline.errors import UndefinedMeasureError
from pipeline.images import gaussian_filter_mm
from pipeline.images.noise import (
    PUBLISHED_HIGH_PASS_ENERGY,
    high_pass_energy,
    high_pass_energy_table,
    noise_meter,
    smoothed_noise_meter,
)


def _white(shape, noise, *, level=2.0, seed=0):
    return (level + noise * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def test_high_pass_energy_is_the_published_expression_at_its_own_voxel_size():
    suv = np.pad(_white((40, 36, 150), 0.3), 12)
    suv = np.clip(suv, 0, None)
    v = np.log1p(suv)
    smooth = ndimage.gaussian_filter(v, 2.0, mode="nearest")
    expected = np.abs(v - smooth)[smooth > 0.1].mean(dtype=np.float64)
    assert high_pass_energy(suv, voxel_size=(1.65, 1.65, 1.65)) == pytest.approx(expected, rel=2e-4)
    # Air around the patient is not measured.
    assert high_pass_energy(np.pad(suv, 20), voxel_size=(1.65, 1.65, 1.65)) == pytest.approx(expected, rel=2e-4)


def test_high_pass_energy_resamples_other_voxels_linearly():
    suv = np.clip(_white((16, 18, 20), 0.3), 0, None)
    step = 1.65 / 3.3
    fine = ndimage.map_coordinates(
        suv, np.meshgrid(*(np.arange(0, n - 1 + 1e-9, step) for n in suv.shape), indexing="ij"), order=1
    )
    assert high_pass_energy(suv, voxel_size=(3.3, 3.3, 3.3)) == pytest.approx(
        high_pass_energy(fine, voxel_size=(1.65, 1.65, 1.65)), rel=1e-5
    )


def test_high_pass_energy_of_a_uniform_or_empty_image_is_zero():
    assert high_pass_energy(np.zeros((8, 8, 8)), voxel_size=(5, 5, 5)) == 0
    assert high_pass_energy(np.full((20, 20, 20), 3.0), voxel_size=(5, 5, 5)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("level", [0.5, 2.0, 8.0])
def test_noise_meter_of_white_noise_is_known(level):
    # |second difference| / 2 of white noise has the noise's SD; the mean of its absolute value is sqrt(2 / pi) of it.
    suv = _white((48, 48, 48), 0.2, level=level)
    value = noise_meter(suv, voxel_size=(4, 4, 4), body=np.ones(suv.shape, bool))
    expected = np.sqrt(2 / np.pi) * 0.2 / (level + 0.1) ** 0.6
    # The 20th percentile of a local mean over 343 correlated voxels lies below its expectation.
    assert 0.9 * expected < value < expected


@settings(max_examples=8, deadline=None)
@given(st.floats(2, 100), st.integers(0, 10))
def test_noise_meter_of_white_noise_goes_with_the_square_root_of_the_dose(factor, seed):
    body = np.ones((32, 32, 32), bool)
    noise = np.random.default_rng(seed).standard_normal(body.shape)
    full, low = (noise_meter(10 + s * noise, voxel_size=(4, 4, 4), body=body) for s in (0.1, 0.1 * np.sqrt(factor)))
    assert low / full == pytest.approx(np.sqrt(factor), rel=0.03)


def test_noise_meter_ignores_what_is_linear_in_the_plane():
    x, y, z = np.meshgrid(*(np.arange(n) for n in (30, 30, 30)), indexing="ij")
    body = np.ones(x.shape, bool)
    assert noise_meter(1 + 0.1 * x + 0.2 * y, voxel_size=(4, 4, 4), body=body) == pytest.approx(0, abs=1e-5)
    planes = np.where(z % 2, 1.0, 3.0)
    assert noise_meter(planes, voxel_size=(4, 4, 4), body=body) == pytest.approx(0, abs=1e-5)


def test_meters_refuse_what_they_cannot_measure():
    with pytest.raises(ValueError, match="expected at least 100"):
        noise_meter(np.zeros((20, 20, 20)), voxel_size=(4, 4, 4))
    with pytest.raises(ValueError, match=r"image has shape \(4, 4\)"):
        high_pass_energy(np.zeros((4, 4)), voxel_size=(4, 4, 4))
    with pytest.raises(ValueError, match="the body"):
        noise_meter(np.ones((20, 20, 20)), voxel_size=(4, 4, 4), body=np.ones((4, 4, 4), bool))


def _doses(folder):
    pet, name = folder / "pet", folder.name
    images = {1.0: read_pet(pet / f"{name}_rec-full_pet.nii.gz")}
    for path in sorted(pet.glob(f"{name}_rec-drf*_pet.nii.gz")):
        images[float(path.name.split("rec-drf")[1][:3])] = read_pet(path)
    return images


def test_both_meters_rise_with_the_dose_reduction_factor_in_every_simulated_subject(tiny_cohort):
    for folder in tiny_cohort:
        images = _doses(folder).values()
        assert (np.diff([noise_meter(image.suv, voxel_size=image.voxel_size) for image in images]) > 0).all()
        # Of the trunk alone: 15 mm voxels become 750 each.
        trunk = slice(26, 32)
        energy = [high_pass_energy(image.suv[:, :, trunk], voxel_size=image.voxel_size) for image in images]
        assert (np.diff(energy) > 0).all()


@pytest.mark.slow
def test_meters_on_the_simulated_test_data(repository):
    folders = sorted((repository / "bundles" / "unipet_3d" / "data" / "test").glob("sub-*"))[:1]
    if not folders:
        pytest.skip("the simulated test data is not there")
    for folder in folders:
        images = _doses(folder)
        energy = [high_pass_energy(i.suv, voxel_size=i.voxel_size) for i in images.values()]
        noise = np.array([noise_meter(i.suv, voxel_size=i.voxel_size) for i in images.values()])
        assert (np.diff(energy) > 0).all()
        # The behaviour of the meter where it was found.
        found = {2: 1.38, 4: 1.93, 10: 3.0, 20: 4.3, 50: 6.9, 100: 10.0}
        expected = [found[factor] for factor in images if factor > 1]
        np.testing.assert_allclose(noise[1:] / noise[0], expected, rtol=0.15)


def test_the_published_medians_rise_and_stand_beside_the_measured_ones():
    for medians in PUBLISHED_HIGH_PASS_ENERGY.values():
        assert list(medians) == [1, 4, 10, 20, 50, 100]
        assert (np.diff(list(medians.values())) > 0).all()
    subjects = [{1: 0.02, 4: 0.03, 20: 0.05}, {1: 0.04, 4: 0.03}, {1: 0.03, 4: 0.05}]
    table = high_pass_energy_table({"mine": subjects})
    assert list(table.index) == ["Quadra (published)", "uEXPLORER (published)", "mine"]
    assert list(table.columns) == ["n", "rising", 1, 4, 10, 20, 50, 100]
    assert table.loc["mine", [1, 4, 20, "n", "rising"]].tolist() == [0.03, 0.03, 0.05, 3, 2]
    assert np.isnan(table.loc["mine", 100])
    assert table.loc["Quadra (published)", 100] == 0.1640


@pytest.mark.parametrize(("side", "fwhm"), [(2.0, 0.0), (3.0, 0.0), (4.0, 0.0), (4.0, 4.0)])
def test_smoothed_noise_of_counts_is_the_same_on_any_voxels(side, fwhm):
    """Noise of one density of counts, whose SD goes with the root of the voxel's volume; a filter changes it little."""
    n = round(160 / side)
    noise = np.random.default_rng(round(side)).normal(size=(n, n, n)) * side**-1.5
    suv = gaussian_filter_mm(10 + noise, fwhm=fwhm, voxel_size=(side,) * 3)
    body = np.ones(suv.shape, bool)
    value = smoothed_noise_meter(suv, voxel_size=(side,) * 3, body=body)
    # After a Gaussian of standard deviation s: SD (2 s sqrt(pi))^-1.5, and voxels 8 mm apart are correlated.
    s = np.hypot(8, fwhm) / FWHM_PER_SIGMA
    rho = np.exp(-(8**2) / (4 * s**2))
    expected = (2 * s * np.sqrt(np.pi)) ** -1.5 * (1 - rho) * np.sqrt(2 / np.pi) / 10.1**0.6
    assert value == pytest.approx(expected, rel=0.12)


def test_smoothed_noise_needs_a_body():
    with pytest.raises(UndefinedMeasureError, match="expected at least 100"):
        smoothed_noise_meter(np.zeros((20, 20, 20)), voxel_size=(4, 4, 4))
    with pytest.raises(ValueError, match="the body"):
        smoothed_noise_meter(np.ones((20, 20, 20)), voxel_size=(4, 4, 4), body=np.ones((4, 4, 4), bool))
