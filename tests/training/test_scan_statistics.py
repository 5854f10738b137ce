"""The style that training gives to a patch is the one that its scan has in use."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.transforms import Compose

from pipeline.networks import noise_statistics
from pipeline.training import ScanStatisticsd, StatisticsByDose, measure_statistics, scan_statistics
from pipeline.transforms import RandScaleUptaked

SETTINGS = {"suv_scale": 2.0, "body_threshold": 0.05}


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
    table = measure_statistics(store, **SETTINGS, cache=tmp_path / "s.pt")
    assert table.all().shape == (6, 5)
    scale = RandScaleUptaked(["image"], factors=(1.5, 1.5)).set_random_state(seed=0)
    transform = Compose([scale, ScanStatisticsd(table)])
    item = transform({"image": torch.ones(1, 4, 4, 4), "subject": "two", "dose_reduction_factor": torch.tensor(4.0)})
    assert item["uptake_factor"] == pytest.approx(1.5)
    for key, name in (("statistics", "drf004"), ("label_statistics", "full")):
        scan = torch.from_numpy(1.5 * store.volume("two", name))[None, None] / 2
        expected = noise_statistics(scan, body_threshold=0.05)[0]
        torch.testing.assert_close(item[key], expected, atol=0.02, rtol=0)
    assert item["statistics"][0] - item["label_statistics"][0] == pytest.approx(np.log(2), abs=0.05)


def test_statistics_are_kept_until_scans_or_settings_change(tmp_path, monkeypatch):
    cache = tmp_path / "s.pt"
    before = measure_statistics(FakeStore(), **SETTINGS, cache=cache).all()
    calls = []
    real = scan_statistics.noise_statistics
    monkeypatch.setattr(scan_statistics, "noise_statistics", lambda *a, **k: calls.append(1) or real(*a, **k))
    assert torch.equal(measure_statistics(FakeStore(), **SETTINGS, cache=cache).all(), before)
    assert not calls
    measure_statistics(FakeStore("b"), **SETTINGS, cache=cache)
    assert len(calls) == 6
    cache.write_bytes(b"damaged")
    assert torch.equal(measure_statistics(FakeStore("b"), **SETTINGS, cache=cache).all(), before)
    assert len(calls) == 12


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


def test_no_threshold_is_that_of_the_network(tmp_path):
    stated, none = (
        measure_statistics(FakeStore(), suv_scale=2.0, body_threshold=threshold, cache=tmp_path / f"{threshold}.pt")
        for threshold in (0.05, None)
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
