"""Restoration: uptake that a denoiser removed comes back, and less of it the noisier the scan."""

import pytest
import torch
from monai.inferers import SimpleInferer

from pipeline.inference import LocalMeanRestoration, StreamingInferer


def ball(radius, shape=(40, 40, 40)):
    axes = [torch.arange(n) - n // 2 for n in shape]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    return ((x**2 + y**2 + z**2) <= radius**2).float()[None, None]


def flat_with_lesion(radius=3):
    return 1 + 4 * ball(radius)


def noise(amplitude, shape=(40, 40, 40)):
    return amplitude * torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(0))


class Given:
    """A network whose answer is known."""

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, x):
        return self.answer


def restored(noisy, denoised, **options):
    return LocalMeanRestoration(SimpleInferer(), **options)(noisy, Given(denoised))


def test_nothing_removed_is_nothing_restored():
    scan = flat_with_lesion() + noise(0.1)
    assert torch.equal(restored(scan, scan), scan)


def test_lost_uptake_comes_back_and_less_of_it_the_noisier_the_scan():
    truth, lesion = flat_with_lesion(), ball(3) > 0
    denoised = 1 + 0.8 * (truth - 1)
    lost = (truth - denoised)[lesion].mean()
    shares = []
    for amplitude in (0.0, 1.0, 3.0, 10.0):
        result = restored(truth + noise(amplitude), denoised)
        shares.append(float((result - denoised)[lesion].mean() / lost))
    # All but what the local mean itself spreads out.
    assert 0.5 < shares[0] < 1
    assert shares == sorted(shares, reverse=True)
    assert abs(shares[-1]) < 0.2


def test_no_noise_comes_back_where_nothing_stands_out():
    flat = torch.ones(1, 1, 40, 40, 40)
    torch.testing.assert_close(restored(flat + noise(1.0), flat), flat, atol=1e-6, rtol=0)
    # Nor does what lies below its surroundings rise.
    cold = flat - 0.5 * ball(3)
    assert torch.equal(restored(flat, cold)[ball(3) > 0], cold[ball(3) > 0])


def test_weight_of_the_noise():
    truth = flat_with_lesion()
    denoised, noisy = 1 + 0.8 * (truth - 1), truth + noise(0.5)
    change = [(restored(noisy, denoised, noise_weight=k) - denoised).abs().mean() for k in (0, 1, 10, 1e5)]
    assert change == sorted(change, reverse=True)
    assert change[-1] < 0.05 * change[0]


def test_each_scan_of_a_batch_by_itself():
    truth = flat_with_lesion()
    scans = torch.cat([truth + noise(0.1), truth + noise(3.0)])
    denoised = 0.8 * torch.cat([truth, truth])
    together = restored(scans, denoised)
    for i in range(2):
        assert torch.equal(together[i : i + 1], restored(scans[i : i + 1], denoised[i : i + 1]))


def test_progress_is_that_of_the_other_inferer():
    inferer = LocalMeanRestoration(StreamingInferer())
    inferer.on_progress = print
    assert inferer.inferer.on_progress is print
    silent = LocalMeanRestoration(SimpleInferer())
    silent.on_progress = print
    assert silent.on_progress is None


@pytest.mark.parametrize("options", [{"sigma": 0}, {"sigma": 5, "background_sigma": 4}, {"noise_weight": -1}])
def test_settings_without_a_meaning_are_refused(options):
    with pytest.raises(ValueError, match=r"expected 0 < sigma < background_sigma"):
        LocalMeanRestoration(SimpleInferer(), **options)
