"""Filters and other voxels: scipy's Gaussian, Keys' identities, pairs and labels that stay at their place."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from pipeline.data import mix_doses
from pipeline.transforms import KeepLargeScaled, RandReconstructiond, RandScaleUptaked, gaussian_filter, resampled

KEYS = ["image", "label"]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(1, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scan(shape=(40, 36, 50), voxel_size=(3.0, 3.0, 4.0), seed: int = 0) -> dict:
    """Pair whose voxels tell where they are: image and label rise along X, Y, Z, as does the number of the lesion."""
    axes = torch.meshgrid(*(torch.arange(float(n)) * v for n, v in zip(shape, voxel_size, strict=True)), indexing="ij")
    place = torch.stack(axes)
    label = (place[0] + 3 * place[1] + 7 * place[2])[None]
    lesions = torch.arange(shape[2]).expand(shape)[None].to(torch.int16)
    return {"image": 2 * label, "label": label, "lesions": lesions, "voxel_size": torch.tensor(voxel_size)}


@pytest.mark.parametrize("sigma", [(0.6, 1.3, 2.9), (0.0, 0.0, 1.0), (12.0, 0.04, 0.5)])
@pytest.mark.parametrize("shape", [(9, 14, 11), (1, 2, 30)])
def test_gaussian_filter_is_that_of_scipy(sigma, shape):
    x = random(*shape)
    radius = [math.ceil(3.5 * s) for s in sigma]
    expected = ndimage.gaussian_filter(x[0].numpy(), sigma, mode="nearest", radius=radius)
    np.testing.assert_allclose(gaussian_filter(x, sigma)[0].numpy(), expected, rtol=0, atol=1e-12)


def test_gaussian_filter_keeps_a_constant_and_the_total_of_what_lies_inside():
    ones = torch.ones(2, 5, 6, 7, dtype=torch.float64)
    torch.testing.assert_close(gaussian_filter(ones, (1, 2, 3)), ones)
    point = torch.zeros(1, 31, 31, 31, dtype=torch.float64)
    point[0, 15, 15, 15] = 1
    assert gaussian_filter(point, (2, 1, 3)).sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("sigma", [0.8, 1.5, 2.0])
def test_gaussian_filter_attenuates_frequencies_as_its_transform(sigma):
    frequency = 0.1  # cycles per voxel
    wave = torch.cos(2 * math.pi * frequency * torch.arange(101, dtype=torch.float64)).expand(1, 1, 1, 101)
    factor = float(gaussian_filter(wave, (0, 0, sigma))[..., 50]) / float(wave[..., 50])
    assert factor == pytest.approx(math.exp(-2 * (math.pi * frequency * sigma) ** 2), abs=0.01)


def test_gaussian_filter_leaves_its_input_alone():
    x = random(6, 6, 6)
    before = x.clone()
    gaussian_filter(x, (1, 1, 1))
    resampled(x, (1.5, 1.5, 1.5), offset=(0.2, 0.2, 0.2))
    assert torch.equal(x, before)


def test_voxels_as_they_were_are_the_identity():
    x = random(6, 5, 4)
    assert torch.equal(resampled(x, (1, 1, 1)), x)
    assert torch.equal(resampled(x, (2, 1, 3)), x[:, ::2, :, ::3])
    assert torch.equal(resampled(x, (1, 1, 1), offset=(2, 0, 1)), x[:, 2:, :, 1:])


@pytest.mark.parametrize(("step", "offset"), [(0.37, 0.2), (1.3, 0.9), (2.6, 1.7)])
def test_cubic_convolution_is_exact_for_quadratics(step, offset):
    # Keys 1981: third-order convergence, so polynomials of second order are reproduced, away from the border.
    def quadratic(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        return 1 + 2 * x - 0.3 * x**2 + (y - 4) ** 2 - x * y * 0.1 + 0.2 * z**2 - z * y

    def sampled(k: Tensor) -> Tensor:
        return quadratic(k[:, None, None], k[None, :, None], k[None, None, :])[None]

    n = 14
    found = resampled(sampled(torch.arange(float(n)).double()), (step,) * 3, offset=(offset,) * 3)
    positions = offset + step * torch.arange(found.shape[1], dtype=torch.float64)
    assert positions[-1] <= n - 1 < positions[-1] + step
    inner = (positions >= 1) & (positions <= n - 2)
    box = (slice(None), *(slice(int(inner.nonzero()[0]), int(inner.nonzero()[-1]) + 1),) * 3)
    torch.testing.assert_close(found[box], sampled(positions)[box], rtol=0, atol=1e-10)


def test_between_voxels_the_highest_frequency_is_gone():
    alternating = torch.tensor([1.0, -1.0]).repeat(10).double()[None, None, None]
    halfway = resampled(alternating, (1, 1, 1), offset=(0, 0, 0.5))
    assert halfway[..., 1:-1].abs().max() < 1e-12
    # At a quarter the weights are (-9, 111, 29, -3) / 128.
    quarter = resampled(alternating, (1, 1, 1), offset=(0, 0, 0.25))
    assert float(quarter[..., 2]) == pytest.approx((9 + 111 - 29 - 3) / 128)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 3), (3, 2, 2)])
def test_volumes_of_few_voxels_are_resampled(shape):
    found = resampled(torch.ones(1, *shape), (1.7, 0.6, 4.0))
    torch.testing.assert_close(found, torch.ones_like(found))
    assert found.shape[1:] == tuple(int((n - 1) / s) + 1 for n, s in zip(shape, (1.7, 0.6, 4.0), strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_doses_are_mixed_before_as_well_as_after(seed):
    low, full = random(24, 22, 20), random(24, 22, 20, seed=1)
    mixed = mix_doses(low, full, low_factor=20, factor=6)
    item = {"low": low, "full": full, "mixed": mixed, "voxel_size": torch.tensor([2.0, 2.0, 3.0])}
    found = RandReconstructiond(["low", "full", "mixed"], prob=1.0).set_random_state(seed=seed)(item)
    after = mix_doses(found["low"], found["full"], low_factor=20, factor=6)
    torch.testing.assert_close(found["mixed"], after, rtol=0, atol=1e-12)
    assert found["low"].shape != low.shape


@pytest.mark.parametrize("seed", range(12))
def test_images_and_labels_stay_at_the_same_place(seed):
    transform = RandReconstructiond(KEYS, prob=1.0, fwhm=(0.0, 0.0)).set_random_state(seed=seed)
    data = scan()
    found = transform(data)
    torch.testing.assert_close(found["image"], 2 * found["label"])
    assert found["lesions"].shape == found["label"].shape
    assert found["lesions"].dtype == torch.int16
    assert set(found["lesions"].unique().tolist()) <= set(data["lesions"].unique().tolist())
    # The label rises by 7 for every mm along Z, 3 along Y and 1 along X: its steps are the voxels.
    inner = found["label"][0, 3:-3, 3:-3, 3:-3].double()
    sides = [float(inner.diff(dim=k).mean()) / slope for k, slope in enumerate((1, 3, 7))]
    np.testing.assert_allclose(sides, found["voxel_size"].numpy(), rtol=0.02)
    # And the lesions' number is the plane: no more than half a plane away.
    x, y = (torch.arange(float(n)) * v for n, v in zip(inner.shape[:2], found["voxel_size"], strict=False))
    z = (inner - x[:, None, None] - 3 * y[None, :, None]) / 7 / 4  # [old planes], up to a constant
    away = found["lesions"][0, 3:-3, 3:-3, 3:-3].double() - z
    assert away.max() - away.min() < 1.3


def test_ranges_are_kept_and_filled():
    transform = RandReconstructiond(KEYS, prob=1.0).set_random_state(seed=0)
    drawn = [transform._draw([2.0, 2.0, 3.0]) for _ in range(600)]
    sides, widths = (np.array(values) for values in zip(*drawn, strict=True))
    assert (sides >= 1.6).all()
    assert (sides <= 6.0).all()
    np.testing.assert_array_equal(sides[:, 0], sides[:, 1])
    ratio = sides[:, 2] / sides[:, 0]
    assert 0.5 <= ratio.min() < 0.7
    assert 1.9 < ratio.max() <= 2.2
    assert np.median(sides[:, 0]) == pytest.approx(math.sqrt(1.6 * 6), rel=0.1)
    np.testing.assert_array_equal(widths[:, 0], widths[:, 1])
    assert widths[:, 0].min() >= 0.7 * 2.0  # what is resampled is filtered
    assert widths.max() <= 8.5
    same = np.isclose(widths[:, 2], widths[:, 0]).mean()
    assert same == pytest.approx(1 / 3, abs=0.08)


def test_scans_that_keep_their_voxels_are_filtered_in_half_of_the_cases():
    transform = RandReconstructiond(KEYS, prob=0.0).set_random_state(seed=0)
    transform.randomize(None)
    drawn = [transform._draw([2.0, 2.0, 3.0]) for _ in range(300)]
    assert all(sides == [2.0, 2.0, 3.0] for sides, _ in drawn)
    assert np.mean([max(widths) > 0 for _, widths in drawn]) == pytest.approx(0.5, abs=0.1)


def test_a_scan_that_is_neither_filtered_nor_resampled_is_as_it_was():
    data = scan()
    transform = RandReconstructiond(KEYS, prob=0.0, fwhm=(0.0, 0.0)).set_random_state(seed=0)
    found = transform(data)
    assert all(torch.equal(found[key], data[key]) for key in data)


def test_what_is_drawn_follows_from_the_state():
    transform = RandReconstructiond(KEYS, max_voxels=20_000)
    first, again, other = (transform.set_random_state(seed=seed)(scan()) for seed in (4, 4, 5))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert first["label"].shape != other["label"].shape


@pytest.mark.parametrize("max_voxels", [1, 500, 5_000, 40_000])
def test_no_more_voxels_than_are_allowed_but_for_one_plane(max_voxels):
    transform = RandReconstructiond(KEYS, prob=1.0, max_voxels=max_voxels)
    is_start, is_end, lengths = [], [], []
    for seed in range(40):
        found = transform.set_random_state(seed=seed)(scan())
        shape = found["label"].shape
        assert shape.numel() <= max_voxels or shape[-1] == 1
        assert found["lesions"].shape == shape
        planes = found["lesions"][0, 0, 0]
        is_start.append(planes.min() <= 2)
        is_end.append(planes.max() >= 47)
        lengths.append(shape[-1])
    if max_voxels == 5_000:
        assert 10 <= sum(is_start) + sum(is_end) <= 35
        assert max(lengths) > 3


@pytest.mark.parametrize("voxel_size", [(1.5, 1.5, 5.0), (4.0, 2.0, 1.0)])
def test_anisotropic_scans(voxel_size):
    for seed in range(10):
        found = RandReconstructiond(KEYS, prob=1.0).set_random_state(seed=seed)(scan((20, 24, 16), voxel_size))
        x, y, z = found["voxel_size"].tolist()
        assert x / y == pytest.approx(voxel_size[0] / voxel_size[1])
        assert 0.5 * 0.999 <= z / x <= 2.2 * 1.001
        extent = [(n - 1) * v for n, v in zip(found["label"].shape[1:], (x, y, z), strict=True)]
        assert all(
            found_extent <= (n - 1) * v + 1e-3
            for found_extent, n, v in zip(extent, (20, 24, 16), voxel_size, strict=True)
        )


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 1), (5, 1, 9)])
def test_very_small_scans_do_not_vanish(shape):
    for seed in range(5):
        found = RandReconstructiond(KEYS, prob=1.0, max_voxels=10).set_random_state(seed=seed)(scan(shape))
        assert min(found["label"].shape) >= 1
        assert found["label"].isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fwhm": (3, 2)}, "fwhm is 3 to 2"),
        ({"voxel_size": (0, 2)}, r"voxel_size is 0 to 2"),
        ({"anisotropy": (1.1, 2)}, "anisotropy"),
        ({"max_voxels": 0}, "max_voxels"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RandReconstructiond(KEYS, **options)


def test_one_factor_scales_the_uptake_of_all():
    transform = RandScaleUptaked(KEYS, factors=(0.5, 2.0))
    factors = []
    for seed in range(300):
        found = transform.set_random_state(seed=seed)({"image": torch.tensor(3.0), "label": torch.tensor(1.0)})
        assert found["image"] == pytest.approx(3 * float(found["label"]))
        factors.append(float(found["label"]))
    assert 0.5 <= min(factors) < 0.55
    assert 1.8 < max(factors) <= 2.0
    assert np.mean(np.log(factors)) == pytest.approx(0, abs=0.08)
    with pytest.raises(ValueError, match="positive and rise"):
        RandScaleUptaked(KEYS, factors=(2.0, 1.0))


def block(shape=(48, 44, 40), air: int = 8, value: float = 2.0) -> Tensor:
    x = torch.zeros(1, *shape)
    x[:, air:-air, air:-air, air:-air] = value
    return x


# Where the skin cuts the 6 mm cells, those of it count as body altogether, and a tenth of the difference is missed.
@pytest.mark.parametrize(
    ("voxel_size", "missed"), [((4.0, 4.0, 4.0), 0.02), ((7.0, 7.0, 7.0), 0.02), ((2.0, 2.0, 5.0), 0.1)]
)
def test_the_label_takes_what_is_large_from_the_image(voxel_size, missed):
    full = block() + 0.3 * block(value=1.0) * torch.randn(1, 48, 44, 40, generator=torch.Generator().manual_seed(0))
    low = full * 1.1 + block(value=0.05)
    data = {"image": low, "label": full, "voxel_size": torch.tensor(voxel_size)}
    found = KeepLargeScaled(KEYS)(data)["label"]
    inside = block(air=11) > 0  # at the skin some of it is left out
    assert found[inside].mean() == pytest.approx(float(low[inside].mean()), rel=0.01)
    # What was added is smooth: a tenth of the mean, and hardly anything of the noise.
    added = (found - full)[inside]
    assert added.mean() == pytest.approx(0.25, rel=missed)
    assert added.std() < 0.03
    assert torch.equal(data["label"], full)  # what came in is left alone


def test_what_is_small_stays_that_of_the_label():
    noise = torch.randn(1, 48, 44, 40, generator=torch.Generator().manual_seed(1))
    full = block()
    found = KeepLargeScaled(KEYS)({"image": full + 0.5 * noise, "label": full, "voxel_size": torch.full((3,), 3.0)})
    inside = block(air=12) > 0
    assert (found["label"] - full)[inside].std() < 0.05 * 0.5


def test_nothing_is_added_to_the_air():
    full = block(air=12)
    data = {"image": full + 1.0, "label": full, "voxel_size": torch.full((3,), 4.0)}
    added = KeepLargeScaled(KEYS)(data)["label"] - full
    near = block(air=9, value=1.0) > 0
    assert not added[~near].any()
    assert added[block(air=13) > 0].min() > 0.5


@pytest.mark.parametrize("voxel_size", [(2.0, 2.0, 2.0), (1.6, 1.6, 5.0)])
def test_equal_images_leave_the_label_alone(voxel_size):
    full = block((31, 29, 23), air=5)
    data = {"image": full, "label": full, "voxel_size": torch.tensor(voxel_size)}
    assert torch.equal(KeepLargeScaled(KEYS)(data)["label"], full)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 1), (7, 4, 3)])
def test_small_scans_keep_their_shape(shape):
    full = torch.ones(1, *shape)
    data = {"image": full + 0.2, "label": full, "voxel_size": torch.full((3,), 1.6)}
    torch.testing.assert_close(KeepLargeScaled(KEYS)(data)["label"], full + 0.2)


def test_a_pair_is_expected():
    with pytest.raises(ValueError, match="got 1 of them"):
        KeepLargeScaled(["image"])
