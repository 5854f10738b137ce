"""Random noise insertion as a MONAI transform."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from pipeline.pet import PETError
from pipeline.simulation import DISCOVERY_ST, GENERIC, Scanner
from pipeline.simulation.attenuation import attenuation_from_body
from pipeline.transforms.insert_noise import RandInsertNoised, slab_margin

SMALL = Scanner(
    name="small",
    matrix=(40, 40, 12),
    voxel_size=(8.0, 8.0, 8.0),
    n_angles=48,
    n_subsets=4,
    n_iterations=3,
    post_filter=8.0,
    bed_length=100.0,
)
SETTINGS = {"counts_per_slice": 2e5, "scanner": SMALL}


def volume(n_slices=12):
    x = (np.arange(40) - 19.5) * 8.0
    inside = torch.from_numpy(np.hypot(x[:, None], x) < 110.0)[None, :, :, None].expand(1, 40, 40, n_slices)
    affine = torch.diag(torch.tensor([8.0, 8.0, 8.0, 1.0], dtype=torch.float64))
    return MetaTensor(inside * torch.tensor(2.0), affine=affine, meta={"filename_or_obj": "there"})


def added(transform, data=None):
    data = {"image": volume()} if data is None else data
    before = data["image"].clone()
    result = transform(data)
    return result, (result["image"] - before).as_tensor()


def test_the_state_gives_the_same_noise_again():
    transform = RandInsertNoised("image", **SETTINGS)
    results = [added(transform.set_random_state(seed)) for seed in (5, 5, 6)]
    assert results[0][0]["dose_reduction_factor"] == results[1][0]["dose_reduction_factor"]
    assert torch.equal(results[0][1], results[1][1])
    assert not torch.equal(results[0][1], results[2][1])


def test_noise_follows_the_dose_and_the_counts():
    sd = {}
    for factor, counts in ((2.0, 2e5), (9.0, 2e5), (9.0, 8e5)):
        settings = {**SETTINGS, "counts_per_slice": counts, "factors": (factor, factor)}
        _, noise = added(RandInsertNoised("image", **settings).set_random_state(1))
        sd[factor, counts] = float(noise[volume() > 0].std())
    assert sd[9.0, 2e5] / sd[2.0, 2e5] == pytest.approx(np.sqrt(8), rel=0.1)
    assert sd[9.0, 2e5] / sd[9.0, 8e5] == pytest.approx(2, rel=0.1)


def test_factors_are_log_uniform_and_within_the_range():
    transform = RandInsertNoised("image", factors=(2.0, 50.0), prob=0.5, **SETTINGS).set_random_state(0)
    drawn = []
    for _ in range(2000):
        transform.randomize()
        drawn.append(transform.factor)
    drawn = np.array(drawn)
    inserted = drawn[drawn > 1]
    assert len(inserted) / len(drawn) == pytest.approx(0.5, abs=0.05)
    assert inserted.min() >= 2
    assert inserted.max() <= 50
    assert np.median(inserted) == pytest.approx(10, rel=0.15)


def test_nothing_happens_at_probability_zero():
    result, noise = added(RandInsertNoised("image", prob=0.0, **SETTINGS).set_random_state(0))
    assert result["dose_reduction_factor"] == 1.0
    assert torch.count_nonzero(noise) == 0


def test_geometry_metadata_and_the_input_are_kept():
    data = {"image": volume()}
    original = data["image"].clone()
    result = RandInsertNoised("image", **SETTINGS).set_random_state(0)(data)["image"]
    assert isinstance(result, MetaTensor)
    assert result.shape == original.shape
    assert result.dtype == torch.float32
    assert result.meta["filename_or_obj"] == "there"
    assert torch.equal(result.affine, original.affine)
    assert torch.equal(data["image"], original)


def test_noise_of_a_slab_is_that_of_the_whole_volume():
    """Inside the margin a slice cannot tell how long its volume is."""
    whole, slab = [], []
    margin = slab_margin(SMALL, slice_spacing=8.0)
    inner = volume(2)[0] > 0
    for seed in range(6):
        transform = RandInsertNoised("image", factors=(8.0, 8.0), **SETTINGS).set_random_state(seed)
        whole.append(added(transform, {"image": volume(20)})[1][0, :, :, 9:11][inner].numpy())
        slab.append(added(transform, {"image": volume(2 + 2 * margin)})[1][0, :, :, margin:-margin][inner].numpy())
    assert np.std(slab) / np.std(whole) == pytest.approx(1, abs=0.06)


def test_a_given_attenuation_map_replaces_the_guess():
    data = {"image": volume()}
    guess = attenuation_from_body(data["image"][0].numpy(), voxel_size=(8.0, 8.0, 8.0))
    results = [added(RandInsertNoised("image", **SETTINGS).set_random_state(2))[1]]
    for mu in (guess, 0.7 * guess):
        transform = RandInsertNoised("image", attenuation_key="mu", **SETTINGS).set_random_state(2)
        results.append(added(transform, {"image": volume(), "mu": torch.from_numpy(mu)[None]})[1])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_margin_covers_resolution_and_filter():
    assert slab_margin(GENERIC, slice_spacing=5.0) == int(np.ceil(1.5 * np.hypot(7.0, 5.0) / 5.0))
    assert slab_margin(DISCOVERY_ST, slice_spacing=3.27) * 3.27 > 1.2 * DISCOVERY_ST.psf_axial


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"factors": (1.0, 4.0)}, "above 1"),
        ({"factors": (2.0, 1000.0)}, "up to 200"),
        ({"counts_per_slice": 0.0}, "above 0"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(PETError, match=message):
        RandInsertNoised("image", **{**SETTINGS, **settings})


def test_a_tensor_without_geometry_is_refused():
    with pytest.raises(PETError, match="MetaTensor"):
        RandInsertNoised("image", **SETTINGS)({"image": torch.ones(1, 40, 40, 12)})
