"""What denoising took at large scale comes back: sums, factors and what lies outside of the body, exactly."""

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer
from torch import nn

from pipeline.errors import PETError
from pipeline.inference import ConservingInferer, StreamingInferer
from pipeline.inference.conservation import give_back
from pipeline.networks import BaseDenoisingNetwork, tissue_mask
from pipeline.transforms import without_negative

THRESHOLD = 0.05


def axes(shape):
    return torch.meshgrid(*(torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in shape), indexing="ij")


def patient(shape=(40, 36, 44), dtype=torch.float64):
    """Warm ellipsoid in air with a hot ball in it."""
    x, y, z = axes(shape)
    body = ((x / 15) ** 2 + (y / 12) ** 2 + (z / 18) ** 2 <= 1).to(dtype)
    hot = ((x - 5) ** 2 + y**2 + (z - 6) ** 2 <= 9).to(dtype)
    return body + 19 * hot, body > 0, hot > 0


def noise(like, seed=0):
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed), dtype=like.dtype)


def given_back(noisy, denoised, size=(5.0, 5.0, 5.0), **options):
    result = denoised.clone()
    give_back(noisy, result, voxel_size=size, body_threshold=THRESHOLD, **options)
    return result


def mask_of(denoised):
    return tissue_mask(denoised[None, None], THRESHOLD)[0, 0]


@pytest.mark.parametrize("size", [(5.0, 5.0, 5.0), (2.0, 3.0, 6.0), (40.0, 40.0, 40.0)])
def test_the_sum_over_the_body_is_that_of_the_noisy_scan(size):
    denoised, _, _ = patient()
    denoised += 0.1 * noise(denoised)
    noisy = denoised + noise(denoised, 1) * denoised.abs()
    result, mask = given_back(noisy, denoised, size), mask_of(denoised)
    assert not torch.allclose(denoised[mask].sum(), noisy[mask].sum(), rtol=1e-5)
    torch.testing.assert_close(result[mask].sum(), noisy[mask].sum(), rtol=1e-12, atol=0)


def test_negative_activity_that_is_not_written_is_missing_nowhere():
    denoised, body, _ = patient()
    denoised[body] += 2 * noise(denoised)[body]
    noisy = denoised + noise(denoised, 1)
    mask = mask_of(denoised)
    written = without_negative(given_back(noisy, denoised), noisy)
    assert without_negative(denoised, noisy)[mask].sum() > 1.02 * denoised[mask].sum()
    torch.testing.assert_close(written[mask].sum(), noisy[mask].sum(), rtol=1e-4, atol=0)


def test_float32_keeps_the_sum_to_its_rounding():
    denoised, _, _ = patient((80, 70, 90), torch.float32)
    noisy = denoised * (1.1 + 0.5 * noise(denoised))
    result, mask = given_back(noisy, denoised), mask_of(denoised)
    torch.testing.assert_close(result[mask].double().sum(), noisy[mask].double().sum(), rtol=1e-8, atol=0)


def test_where_nothing_was_changed_nothing_is_given_back():
    scan, _, _ = patient(dtype=torch.float32)
    scan += 0.3 * noise(scan)
    assert torch.equal(given_back(scan, scan), scan)


def test_a_factor_on_the_whole_body_is_undone():
    noisy, body, _ = patient()
    error = (given_back(noisy, 0.9 * noisy) / noisy - 1)[body]
    assert error.abs().max() < 0.003
    assert error.square().mean().sqrt() < 0.001


def test_nothing_changes_outside_of_the_body():
    denoised, _, _ = patient()
    noisy = denoised + noise(denoised)
    outside = ~mask_of(denoised)
    assert outside.any()
    assert torch.equal(given_back(noisy, denoised)[outside], denoised[outside])
    air = 0.01 * noise(denoised)
    assert torch.equal(given_back(noisy, air), air)


def test_what_a_hot_organ_lost_does_not_reach_its_neighbours():
    noisy, body, hot = patient()
    denoised = torch.where(hot, 0.9 * noisy, noisy)
    result = given_back(noisy, denoised)
    # Half of what it lacks comes back at this size; its surroundings, of a twentieth of its uptake, get a like share.
    assert (result / noisy - 1)[hot].mean() > -0.06
    assert (result / noisy - 1)[body].max() < 0.1
    torch.testing.assert_close(result[body].sum(), noisy[body].sum(), rtol=1e-3, atol=0)


def test_only_what_is_near_matters():
    noisy, _, _ = patient((40, 36, 64))
    denoised = noisy.clone()
    denoised[..., :20] *= 0.9
    result = given_back(noisy, denoised)
    # The Gaussian ends, at 1e-6, five standard deviations away: 64 mm.
    torch.testing.assert_close(result[..., 34:], noisy[..., 34:], rtol=1e-5, atol=1e-9)
    assert (result[..., 16:20] / noisy[..., 16:20])[noisy[..., 16:20] > 0].mean() < 0.98


def test_width_is_in_millimetres():
    noisy, _, _ = patient()
    denoised = noisy.clone()
    denoised[20:] *= 0.9
    torch.testing.assert_close(
        given_back(noisy, denoised, (5.0, 5.0, 5.0), fwhm=30), given_back(noisy, denoised, (2.5, 2.5, 2.5), fwhm=15)
    )


class Scaling(nn.Module):
    """A network that takes a tenth of everything."""

    def forward(self, x):
        return 0.9 * x


def batch(*sizes):
    warm, _, _ = patient((20, 18, 22), torch.float32)
    scans = torch.stack([warm + 0.2 * noise(warm, seed) for seed in range(len(sizes))])[:, None]
    affines = torch.stack([torch.diag(torch.tensor([*size, 1.0], dtype=torch.float64)) for size in sizes])
    return MetaTensor(scans, affine=affines)


def test_scans_of_a_batch_have_their_own_voxel_sizes():
    sizes = [(5.0, 5.0, 5.0), (2.0, 3.0, 4.0)]
    scans = batch(*sizes)
    result = ConservingInferer(SimpleInferer(), body_threshold=THRESHOLD)(scans, Scaling())
    assert type(result) is torch.Tensor
    for noisy, found, size in zip(scans.as_tensor()[:, 0], result[:, 0], sizes, strict=True):
        assert torch.equal(found, given_back(noisy, 0.9 * noisy, size))


def test_a_network_that_changes_nothing_returns_the_scan_to_the_bit():
    scans = batch((4.0, 4.0, 3.0))
    result = ConservingInferer(SimpleInferer(), body_threshold=THRESHOLD)(scans, nn.Identity())
    assert torch.equal(result, scans.as_tensor())


def test_slabs_of_the_network_change_no_bit(randomised):
    scans, network = batch((4.0, 4.0, 3.0)), randomised(BaseDenoisingNetwork(4, 2))
    one, other = (
        ConservingInferer(StreamingInferer(slab=slab, body_threshold=THRESHOLD), body_threshold=THRESHOLD)(
            scans, network
        )
        for slab in (3, 11)
    )
    assert torch.equal(one, other)


def test_pieces_change_rounding_alone(monkeypatch):
    noisy, _, _ = patient()
    whole = given_back(noisy, 0.9 * noisy)
    monkeypatch.setattr("pipeline.inference.conservation._PLANES", 3)
    torch.testing.assert_close(given_back(noisy, 0.9 * noisy), whole, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("affine", [None, torch.zeros(4, 4)])
def test_without_a_voxel_size_the_scan_is_refused(affine, volume):
    scan = volume(8, 8, 8) if affine is None else MetaTensor(volume(8, 8, 8), affine=affine)
    with pytest.raises(PETError, match="voxel"):
        ConservingInferer(SimpleInferer(), body_threshold=THRESHOLD)(scan, nn.Identity())


def test_progress_is_that_of_the_other_inferer():
    inferer = ConservingInferer(StreamingInferer(), body_threshold=THRESHOLD)
    inferer.on_progress = print
    assert inferer.inferer.on_progress is print
    silent = ConservingInferer(SimpleInferer(), body_threshold=THRESHOLD)
    silent.on_progress = print
    assert silent.on_progress is None


@pytest.mark.parametrize("options", [{"body_threshold": 0}, {"body_threshold": 1, "fwhm": -30}])
def test_settings_without_a_meaning_are_refused(options):
    with pytest.raises(ValueError, match="expected finite numbers above 0"):
        ConservingInferer(SimpleInferer(), **options)
