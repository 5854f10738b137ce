"""Inserted lesions are what a scanner would show of them, with the noise that they would have."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from pipeline.transforms import RandInsertLesiond, insert_lesion, lesion_profile


@pytest.mark.parametrize("radius", [1.0, 2.0, 3.0])
def test_profile_of_a_sphere_is_the_smoothed_sphere(radius):
    shape, fwhm, fine = (33, 33, 33), 1.6, 5
    grid = (np.indices([n * fine for n in shape]) - fine * 33 / 2 + 0.5) / fine
    sphere = (np.square(grid).sum(axis=0) <= radius**2).astype(float)
    smoothed = ndimage.gaussian_filter(sphere, fwhm / 2.3548 * fine)[2::fine, 2::fine, 2::fine]
    profile = lesion_profile(shape, center=(16, 16, 16), radii=(radius,) * 3, fwhm=fwhm).numpy()
    assert np.abs(profile - smoothed).max() < 0.01


def test_noise_grows_with_uptake_to_the_power_of_its_law():
    rng = np.random.default_rng(0)
    shape = (1, 40, 40, 40)
    full = torch.from_numpy((2 + 0.1 * rng.standard_normal(shape)).astype(np.float32))
    low = full + torch.from_numpy((0.4 * rng.standard_normal(shape)).astype(np.float32))
    new_low, new_full = insert_lesion(low, full, torch.ones(shape[1:]), uptake=6.0)
    gain = ((2 + 6) / 2) ** 0.6
    inside = (0, *(slice(4, -4),) * 3)
    assert (new_full[inside] - 8).std() == pytest.approx(gain * 0.1, rel=0.05)
    assert (new_low - new_full)[inside].std() == pytest.approx(gain * 0.4, rel=0.02)
    assert new_full[inside].mean() == pytest.approx(8, abs=0.01)


def test_where_nothing_is_added_nothing_changes():
    low, full = torch.rand(2, 1, 12, 12, 12)
    new_low, new_full = insert_lesion(low, full, torch.zeros(12, 12, 12), uptake=5.0)
    torch.testing.assert_close(new_low, low)
    torch.testing.assert_close(new_full, full)


def test_lesions_are_drawn_from_the_state_and_lie_in_the_body():
    full = torch.zeros(1, 32, 32, 32)
    full[:, 20:] = 1
    item = {"image": full + 0.1, "label": full, "voxel_size": torch.ones(3)}
    transform = RandInsertLesiond(
        ["image", "label"], prob=1.0, diameters=(3, 3), contrasts=(5, 5), max_lesions=1, fwhm=(1.0, 1.8)
    )
    first = transform.set_random_state(seed=3)(item)["label"]
    again = transform.set_random_state(seed=3)(item)["label"]
    assert torch.equal(first, again)
    added = first - full
    assert added.amax() > 2
    assert torch.nonzero(added[0] == added.amax())[0, 0] >= 18
    assert not item["label"][:, :20].any()  # what came in is left alone
    air = RandInsertLesiond(["image", "label"], prob=1.0)({**item, "image": 0 * full, "label": 0 * full})
    assert not air["label"].any()


def test_lesions_have_a_size_in_millimetres_and_are_numbered():
    fine, coarse = torch.full((1, 60, 60, 60), 1.0), torch.full((1, 30, 30, 30), 1.0)
    options = {"prob": 1.0, "max_lesions": 1, "diameters": (20.0, 20.0), "contrasts": (5.0, 5.0), "fwhm": (5.0, 5.0)}
    volumes = []
    for full, side in ((fine, 2.0), (coarse, 4.0)):
        insert = RandInsertLesiond(["image", "label"], **options).set_random_state(seed=1)
        there = torch.zeros_like(full, dtype=torch.int16)
        there[0, 0, 0, 0] = 3
        item = {"image": full, "label": full, "voxel_size": torch.full((3,), side), "lesions": there}
        found = insert(item)["lesions"]
        assert set(found.unique().tolist()) == {0, 3, 4}
        volumes.append(float((found == 4).sum()) * side**3)
    sphere = math.pi / 6 * 20**3
    assert all(0.8**3 * 0.9 < volume / sphere < 1.25**3 * 1.1 for volume in volumes)  # axes of 0.8 to 1.25


def test_small_lesions_are_fainter():
    peaks = [
        float(lesion_profile((21, 21, 21), center=(10, 10, 10), radii=(r,) * 3, fwhm=1.6).max())
        for r in (0.5, 1, 2, 4, 8)
    ]
    assert peaks == sorted(peaks)
    assert peaks[0] == pytest.approx(4 / 3 * math.pi * 0.5**3 / (math.sqrt(2 * math.pi) * 1.6 / 2.3548) ** 3, rel=0.25)
    assert peaks[-1] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("bad", [{"diameters": (3, 2)}, {"contrasts": (0, 1)}, {"max_lesions": 0}])
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match="out of range"):
        RandInsertLesiond(["image", "label"], **bad)
