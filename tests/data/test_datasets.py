"""Patches: where they lie, which dose they have, and that nothing but seed, epoch and index decides it."""

import pickle
import re

import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandFlipd, RandScaleIntensityd
from scipy.stats import kstest
from torch.utils.data import DataLoader

from pipeline.data import PatchDataset, Store, VolumeDataset, dose_key, mix_doses
from pipeline.data.manifest import Exclusion
from pipeline.pet import PETError

SIZE = (16, 12, 8)


def dataset(store, **options) -> PatchDataset:
    return PatchDataset(store, **{"split": "train", "patch_size": SIZE, "n_patches": 12, "n_scans": 4, **options})


def assert_equal_items(items, others):
    for item, other in zip(items, others, strict=True):
        assert item.keys() == other.keys()
        for key, value in item.items():
            assert (value == other[key]) if isinstance(value, str) else torch.equal(value, other[key])


@pytest.fixture(scope="module")
def coded_store(make_scans, tmp_path_factory):
    """A store whose voxels tell where they are: full dose 1 + i, DRF 4 three times and DRF 20 seven times as much."""
    scans = make_scans(1)
    code = 1 + np.arange(40 * 36 * 44, dtype=np.float32).reshape(40, 36, 44)
    for name, factor in {"full": 1, "drf004": 3, "drf020": 7, "noise_free": -1}.items():
        scans.write("s0", name, code * factor)
    folder = tmp_path_factory.mktemp("coded") / "store"
    assert not scans.prepare(folder).of_status("failed")
    return folder


def test_items_are_float32_patches(store_folder):
    item = dataset(store_folder, extra=("noise_free",))[0]
    assert list(item) == ["image", "label", "noise_free", "dose_reduction_factor", "subject"]
    for key in ("image", "label", "noise_free"):
        assert item[key].shape == (1, *SIZE)
        assert item[key].dtype == torch.float32
        assert type(item[key]) is torch.Tensor
    assert item["dose_reduction_factor"].dtype == torch.float32
    assert item["subject"] in {"s0", "s1"}


def test_all_keys_show_the_same_place_and_the_dose_is_mixed_from_the_next_lower(coded_store):
    patches = dataset(coded_store, n_patches=40, n_scans=20, extra=("noise_free",), lesion_fraction=0)
    code = Store(coded_store).volume("s0", "full")[...]
    lower = set()
    for n in range(len(patches)):
        item = patches[n]
        label, d = item["label"][0].double().numpy(), float(item["dose_reduction_factor"])
        start = np.unravel_index(int(label[0, 0, 0]) - 1, code.shape)
        np.testing.assert_array_equal(label, code[tuple(slice(s, s + m) for s, m in zip(start, SIZE, strict=True))])
        np.testing.assert_array_equal(item["noise_free"][0].numpy(), -label)
        low_factor, times = (4, 3) if d <= 4 else (20, 7)
        a = np.sqrt((d - 1) / (low_factor - 1))
        np.testing.assert_allclose(item["image"][0].numpy(), (a * times + 1 - a) * label, rtol=1e-5)
        lower.add(low_factor)
    assert lower == {4, 20}


def test_the_target_can_be_another_image(coded_store):
    item = dataset(coded_store, target="noise_free")[0]
    assert (item["label"] < 0).all()
    assert (item["image"] > 0).all()


def test_an_item_depends_on_seed_epoch_and_index_only(store_folder):
    patches = dataset(store_folder)
    items = [patches[n] for n in range(12)]
    assert_equal_items([dataset(store_folder)[n] for n in reversed(range(12))], items[::-1])
    assert not torch.equal(dataset(store_folder, seed=1)[3]["image"], items[3]["image"])
    patches.set_epoch(1)
    assert not torch.equal(patches[3]["image"], items[3]["image"])
    patches.set_epoch(0)
    assert torch.equal(patches[3]["image"], items[3]["image"])


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_change_nothing_also_when_they_outlive_an_epoch(store_folder, context):
    transform = Compose([RandFlipd(["image", "label"], prob=0.5, spatial_axis=0)])
    alone, shared = (dataset(store_folder, transform=transform) for _ in range(2))
    loader = DataLoader(
        shared, batch_size=None, num_workers=2, persistent_workers=True, multiprocessing_context=context
    )
    for epoch in (0, 1):
        alone.set_epoch(epoch)
        shared.set_epoch(epoch)
        assert_equal_items(list(loader), [alone[n] for n in range(len(alone))])


def test_scans_are_augmented_and_measured_as_a_whole(coded_store):
    keys = ["image", "label"]

    def measure(scan):
        n_cells = [n // 2 for n in scan["label"].shape[1:]]
        cells = scan["label"][:, ::2, ::2, ::2][:, : n_cells[0], : n_cells[1], : n_cells[2]]
        return {**scan, "noise_map": cells, "mean": scan["label"].mean()}

    flip = Compose([RandFlipd(keys, prob=0.5, spatial_axis=1), RandScaleIntensityd(keys, prob=0.5, factors=0.4)])
    patches = dataset(coded_store, n_patches=24, n_scans=6, scan_transform=flip, measure=measure)
    shape = Store(coded_store).volume("s0", "full")[...].shape
    for number in range(6):
        of_scan = [patches[i] for i in range(24) if i % 6 == number]
        assert len({float(item["mean"]) for item in of_scan}) == 1
        for item in of_scan:
            torch.testing.assert_close(item["noise_map"], item["label"][:, ::2, ::2, ::2], rtol=0, atol=0)
            assert item["noise_map"].shape == (1, *(n // 2 for n in SIZE))
    assert len({float(patches[i]["mean"]) for i in range(6)}) > 1
    assert patches.scan(0)["label"].shape[1:] == shape


def test_doses_are_log_uniform(store_folder):
    patches = dataset(store_folder, n_patches=400, n_scans=400, patch_size=(2, 2, 2), dose_range=(2, 15))
    factors = [float(patches[n]["dose_reduction_factor"]) for n in range(400)]
    assert kstest(np.log(factors), "uniform", args=(np.log(2), np.log(7.5))).pvalue > 0.01


def test_a_subject_with_fewer_doses_stays_in_its_own_range(make_scans, tmp_path):
    scans = make_scans()
    exclusion = Exclusion(subject="s1", dose_reduction_factor=20, reason="none")
    scans.manifest = scans.manifest.model_copy(update={"exclusions": (exclusion,)})
    scans.prepare(tmp_path / "store")
    patches = dataset(tmp_path / "store", n_patches=80, n_scans=80, patch_size=(2, 2, 2))
    items = [patches[n] for n in range(80)]
    largest = {s: max(float(i["dose_reduction_factor"]) for i in items if i["subject"] == s) for s in ("s0", "s1")}
    assert 3 < largest["s1"] <= 4
    assert 15 < largest["s0"] <= 20
    # From 5 on it has none, and is left out.
    patches = dataset(tmp_path / "store", n_patches=9, n_scans=9, patch_size=(2, 2, 2), dose_range=(5, 100))
    assert {patches[n]["subject"] for n in range(9)} == {"s0"}
    with pytest.raises(PETError, match=r"split train has dose reduction factors up to 20, expected one of 21 or more"):
        dataset(tmp_path / "store", dose_range=(21, 100))


def test_doses_take_turns_from_epoch_to_epoch(make_scans, tmp_path):
    scans = make_scans()
    exclusion = Exclusion(subject="s1", dose_reduction_factor=20, reason="none")
    scans.manifest = scans.manifest.model_copy(update={"exclusions": (exclusion,)})
    scans.prepare(tmp_path / "store")
    patches = dataset(tmp_path / "store", doses=(4, 10), n_scans=6)
    for epoch, factor, subjects in ((1, 4, {"s0", "s1"}), (2, 10, {"s0"}), (3, 4, {"s0", "s1"})):
        patches.set_epoch(epoch)
        items = [patches[n] for n in range(12)]
        assert {float(item["dose_reduction_factor"]) for item in items} == {factor}
        assert {item["subject"] for item in items} == subjects
    told = f"{re.escape(str(tmp_path / 'store'))}: split train has .* up to 20, expected one of 50 or more"
    with pytest.raises(PETError, match=told):
        dataset(Store(tmp_path / "store"), doses=(4, 50))


def test_subjects_take_turns(store_folder):
    patches = dataset(store_folder, n_patches=41, n_scans=41, patch_size=(2, 2, 2))
    names = [patches[n]["subject"] for n in range(41)]
    assert abs(names.count("s0") - names.count("s1")) == 1
    assert names != sorted(names)
    assert names[:40] != names[0:2] * 20


def hit(patches, name, store):
    """What a label map of the store says at the centre of every patch."""
    values = []
    for index in range(len(patches)):
        scan = patches.scan(index % patches.n_scans)
        center = scan["starts"][index // patches.n_scans] + 1
        values.append(int(scan[name][0][tuple(center)]))
    return np.array(values)


def test_lesions_are_drawn_whatever_their_size(store_folder):
    patches = dataset(store_folder, n_patches=300, n_scans=10, patch_size=(2, 2, 2), lesion_fraction=1)
    # A patch begins at an even voxel, so its centre lies next to the voxel that was drawn, or on it.
    labels = hit(patches, "lesions", store_folder)
    counts = np.bincount(labels, minlength=3)[1:]
    assert counts.sum() > 150
    assert 0.6 < counts[0] / counts[1] < 1.7  # one has 4 times as many voxels as the other


def test_the_body_is_drawn_and_the_air_hardly_ever(store_folder):
    patches = dataset(store_folder, n_patches=600, n_scans=6, patch_size=(2, 2, 2), lesion_fraction=0)
    inside = [patches[n]["label"].mean() > 0.1 for n in range(600)]
    assert np.mean(inside) > 0.65


def test_a_volume_smaller_than_the_patch_is_filled_up_with_air(coded_store):
    code = Store(coded_store).volume("s0", "full")[...]
    label = dataset(coded_store, patch_size=(50, 36, 20))[0]["label"][0].numpy()
    inside = label[:40]
    assert (inside > 0).all()
    assert not label[40:].any()
    z = int(inside[0, 0, 0]) - 1
    np.testing.assert_array_equal(inside, code[:, :, z : z + 20])


def test_several_stores_make_one_dataset(store_folder, coded_store):
    patches = dataset([store_folder, Store(coded_store)], n_patches=9, n_scans=9)
    assert sorted(p["subject"] for p in (patches[n] for n in range(3))) == ["s0", "s0", "s1"]


def test_a_dataset_can_be_pickled_after_it_was_read(store_folder):
    patches = dataset(store_folder)
    patches.set_epoch(3)
    item = patches[5]
    assert_equal_items([pickle.loads(pickle.dumps(patches))[5]], [item])


def test_a_loop_over_a_dataset_ends(store_folder):
    assert len(list(dataset(store_folder))) == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test"}, "no subject of split test"),
        ({"extra": ("full_repeat",)}, "s0 has no full_repeat"),
        ({"target": "full_repeat"}, "s0 has no full_repeat"),
        ({"dose_range": (1, 4)}, "factors above 1"),
        ({"dose_range": (4, 2)}, "in rising order"),
        ({"doses": ()}, "doses .*: expected factors above 1, or null"),
        ({"doses": (4, 1)}, "doses .*: expected factors above 1, or null"),
        ({"lesion_fraction": 1.5}, "a fraction of 0 to 1"),
        ({"patch_size": (0, 4, 4)}, "three even sizes"),
        ({"patch_size": (5, 4, 4)}, "three even sizes"),
        ({"n_scans": 0}, "at least one patch and one scan"),
        ({"n_patches": 0}, "at least one patch"),
        ({"seed": -1}, "no negative seed"),
    ],
)
def test_refusals(store_folder, options, message):
    with pytest.raises(PETError, match=message):
        dataset(store_folder, **options)


def test_subjects_without_a_low_dose_are_refused(make_scans, tmp_path):
    scans = make_scans(1)
    exclusions = [Exclusion(subject="s0", dose_reduction_factor=f, reason="none") for f in (4, 20)]
    scans.manifest = scans.manifest.model_copy(update={"exclusions": tuple(exclusions)})
    scans.prepare(tmp_path / "store")
    with pytest.raises(PETError, match="split train has the full dose only"):
        dataset(tmp_path / "store")


def test_validation_reads_whole_volumes(scans, store_folder):
    pairs = VolumeDataset(store_folder, split="validation")
    assert pairs[0]["image"].affine.tolist() == [
        list(row) for row in Store(store_folder).subject(pairs[0]["subject"]).affine
    ]
    assert [float(item["dose_reduction_factor"]) for item in (pairs[0], pairs[1])] == [4, 20]
    np.testing.assert_array_equal(pairs[1]["image"][0].numpy(), scans.truth["s2", "drf020"])
    np.testing.assert_array_equal(pairs[1]["label"][0].numpy(), scans.truth["s2", "full"])
    assert len(VolumeDataset(store_folder, split="train", dose_reduction_factors=(20,))) == 2
    with pytest.raises(PETError, match="no low-dose image"):
        VolumeDataset(store_folder, split="test")
    with pytest.raises(PETError, match="no low-dose image"):
        VolumeDataset(store_folder, split="train", dose_reduction_factors=(7,))
    with pytest.raises(PETError, match="no full_repeat"):
        VolumeDataset(store_folder, split="train", target="full_repeat")


def test_the_full_dose_is_called_so_and_the_others_by_their_factor():
    assert [dose_key(factor) for factor in (1, 4, 20, 100, 7.5)] == ["full", "drf004", "drf020", "drf100", "drf007p5"]


def test_mixing_ends_at_the_two_images():
    low, full = torch.rand(1, 3, 3, 3), torch.rand(1, 3, 3, 3)
    torch.testing.assert_close(mix_doses(low, full, low_factor=20, factor=20), low)
    torch.testing.assert_close(mix_doses(low, full, low_factor=20, factor=1), full)


def test_mixing_gives_the_variance_of_the_dose():
    rng = np.random.default_rng(0)
    counts = rng.poisson(1000, 200_000)
    low = torch.from_numpy(20.0 * rng.binomial(counts, 1 / 20))
    full = torch.from_numpy(counts.astype(float))
    for factor in (2, 5, 15):
        mixed = mix_doses(low, full, low_factor=20, factor=factor)
        assert mixed.var().item() == pytest.approx(factor * 1000, rel=0.02)
