"""The style that training gives to a patch is the one that its scan has in use."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.transforms import Compose

from pipeline.networks import BaseDenoisingNetwork, UniPET, noise_statistics
from pipeline.networks.noise_statistics import STATISTICS_VERSION
from pipeline.training import ScanStatisticsd, StatisticsByDose, measure_statistics, scan_statistics
from pipeline.transforms import RandScaleUptaked


def network(**options):
    return UniPET(4, 1, style="statistics", style_width=4, latent_size=4, **options)


class FakeStore:
    """What is read of a store: two subjects at three doses."""

    def __init__(self, key: str = "a") -> None:
        rng = np.random.default_rng(3)
        body = np.zeros((40, 40, 40), np.float32)
        body[4:-4, 4:-4, 4:-4] = 2
        noise = rng.standard_normal((2, *body.shape)).astype(np.float32)
        self.doses = {1.0: "full", 4.0: "drf004", 100.0: "drf100"}
        self.subjects = {
            name: SimpleNamespace(id=name, key=key, split=split, doses=self.doses)
            for name, split in (("one", "train"), ("two", "train"), ("other", "validation"))
        }
        self.images = {
            (name, image): body + 0.05 * np.float32(dose**0.5) * (1 + 0.2 * i) * noise[i]
            for i, name in enumerate(("one", "two"))
            for dose, image in self.doses.items()
        }

    def volume(self, subject, name):
        return self.images[subject, name]


def test_statistics_of_a_patch_are_those_of_its_scan_at_its_dose_and_uptake(tmp_path):
    store = FakeStore()
    table = measure_statistics(store, network(), cache=tmp_path / "s.pt")
    assert table.all().shape == (6, 5)
    scale = RandScaleUptaked(["image"], factors=(1.5, 1.5)).set_random_state(seed=0)
    transform = Compose([scale, ScanStatisticsd(table)])
    item = transform({"image": torch.ones(1, 4, 4, 4), "subject": "two", "dose_reduction_factor": torch.tensor(4.0)})
    assert item["uptake_factor"] == pytest.approx(1.5)
    for key, name in (("statistics", "drf004"), ("label_statistics", "full")):
        scan = torch.from_numpy(1.5 * store.volume("two", name))[None, None] / 2
        expected = noise_statistics(scan, suv_scale=2.0, tissue_threshold=0.1)[0]
        torch.testing.assert_close(item[key], expected, atol=0.02, rtol=0)
    assert item["statistics"][0] - item["label_statistics"][0] == pytest.approx(np.log(2), abs=0.05)


@pytest.fixture
def measured(monkeypatch):
    """Scans that are measured, one entry each."""
    calls = []
    real = UniPET.scan_statistics
    monkeypatch.setattr(UniPET, "scan_statistics", lambda *arguments: calls.append(1) or real(*arguments))
    return calls


def test_statistics_are_kept_until_scans_or_settings_change(tmp_path, measured):
    cache = tmp_path / "s.pt"
    before = measure_statistics(FakeStore(), network(), cache=cache).all()
    assert torch.equal(measure_statistics(FakeStore(), network(), cache=cache).all(), before)
    assert len(measured) == 6
    measure_statistics(FakeStore("b"), network(), cache=cache)
    assert len(measured) == 12
    cache.write_bytes(b"damaged")
    assert torch.equal(measure_statistics(FakeStore("b"), network(), cache=cache).all(), before)
    assert len(measured) == 18
    other = measure_statistics(FakeStore("b"), network(suv_scale=4.0), cache=cache).all()
    assert len(measured) == 24
    # Noise over uptake^0.6 goes with scale^-0.4, and the ratios stay.
    torch.testing.assert_close(other[:, 0] - before[:, 0], torch.full((6,), -0.4 * np.log(2)).float())
    torch.testing.assert_close(other[:, 1:], before[:, 1:], rtol=0, atol=1e-4)


@pytest.mark.parametrize("version", ["READING_VERSION", "STATISTICS_VERSION"])
def test_another_version_of_reading_or_measuring_measures_anew(tmp_path, measured, monkeypatch, version):
    measure_statistics(FakeStore(), network(), cache=tmp_path / "s.pt")
    monkeypatch.setattr(scan_statistics, version, 99)
    measure_statistics(FakeStore(), network(), cache=tmp_path / "s.pt")
    assert len(measured) == 12


def test_the_version_belongs_to_these_statistics():
    """Statistics of a fixed scan: who changes them raises STATISTICS_VERSION and the numbers here."""
    g = torch.Generator().manual_seed(2)
    scan = torch.zeros(1, 1, 24, 24, 24)
    scan[..., 2:-2, 2:-2, 2:-2] = 1
    scan += 0.1 * torch.randn(scan.shape, generator=g)
    assert STATISTICS_VERSION == 1
    expected = torch.tensor([-1.93498, 0.0542, 0.11786, 0.00256, 0.00993])
    torch.testing.assert_close(noise_statistics(scan)[0], expected, rtol=0, atol=1e-4)


def test_measuring_goes_on_where_it_was_interrupted(tmp_path, measured):
    def interrupt(doing, done, total):
        assert (doing, total) == ("measuring the noise", 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_statistics(FakeStore(), network(), cache=tmp_path / "s.pt", progress=interrupt)
    measure_statistics(FakeStore(), network(), cache=tmp_path / "s.pt")
    assert len(measured) == 6


def test_the_style_is_standardised_by_the_scans(tmp_path):
    unipet = network()
    table = measure_statistics(FakeStore(), unipet, cache=tmp_path / "s.pt")
    torch.testing.assert_close(unipet.statistics_style.mean, table.all().mean(dim=0))


@pytest.mark.parametrize("plain", [BaseDenoisingNetwork(4, 1), UniPET(4, 4, style_width=4, latent_size=4)])
def test_a_network_that_needs_no_statistics_gets_none(tmp_path, plain):
    table = measure_statistics(FakeStore(), plain, cache=tmp_path / "s.pt")
    assert table is None
    assert not list(tmp_path.iterdir())
    item = {"image": torch.ones(1), "subject": "one"}
    assert ScanStatisticsd(table)(item) == item


def test_uptake_is_scaled_evenly_in_its_logarithm_and_alike_for_all_images():
    transform = RandScaleUptaked(["image", "label"], factors=(0.5, 2.0), prob=0.75).set_random_state(seed=1)
    items = [transform({"image": torch.ones(1), "label": torch.full((1,), 3.0)}) for _ in range(2000)]
    factors = torch.stack([item["uptake_factor"] for item in items])
    assert all(item["label"] == 3 * item["image"] for item in items)
    assert (factors == 1).float().mean() == pytest.approx(0.25, abs=0.03)
    changed = factors[factors != 1].log()
    assert changed.mean() == pytest.approx(0, abs=0.04)
    assert changed.std() == pytest.approx(np.log(4) / 12**0.5, rel=0.05)
    with pytest.raises(ValueError, match="positive and rise"):
        RandScaleUptaked(["image"], factors=(2.0, 0.5))


def test_no_threshold_is_a_tenth_of_a_gram_per_millilitre(tmp_path):
    stated, none = (
        measure_statistics(FakeStore(), network(tissue_threshold=threshold), cache=tmp_path / f"{threshold}.pt")
        for threshold in (0.1, None)
    )
    assert torch.equal(stated.all(), none.all())


@pytest.fixture
def by_dose() -> StatisticsByDose:
    row = torch.arange(5).float()
    return StatisticsByDose({"a": {4.0: row, 100.0: row + 2}, "b": {10.0: -row}})


def test_measured_doses_are_returned(by_dose):
    row = torch.arange(5.0)
    found = by_dose(["a", "b", "a"], torch.tensor([4.0, 50.0, 100.0]))
    torch.testing.assert_close(found, torch.stack([row, -row, row + 2]))


def test_between_doses_it_is_linear_in_the_logarithm(by_dose):
    torch.testing.assert_close(by_dose(["a"], torch.tensor([20.0]))[0], torch.arange(5.0) + 1)


def test_beyond_the_measured_doses_it_stays(by_dose):
    found = by_dose(["a", "a"], torch.tensor([1.0, 1000.0]))
    torch.testing.assert_close(found, torch.stack([torch.arange(5.0), torch.arange(5.0) + 2]))


def test_all_rows_are_there(by_dose):
    assert by_dose.all().shape == (3, 5)


def test_an_unknown_scan_is_refused_by_name(by_dose):
    with pytest.raises(KeyError, match="nobody"):
        by_dose(["nobody"], torch.tensor([4.0]))


def test_factors_below_one_are_refused():
    with pytest.raises(ValueError, match=r"a: has factors \[0\.5\]"):
        StatisticsByDose({"a": {0.5: torch.zeros(5)}})
