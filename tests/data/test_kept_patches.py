"""Kept patches: what is read is what a PatchDataset draws, at its dose and at others, whatever happened meanwhile."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandFlipd, RandScaleIntensityd

from pipeline.data import KeptPatches, PatchDataset
from pipeline.data.kept_patches import described
from pipeline.data.kept_scan import KeptScan, _packed, _rounded, _unpacked
from pipeline.files import locked_folder
from pipeline.pet import PETError
from pipeline.transforms import KeepLargeScaled, RandInsertLesiond, RandReconstructiond, RandScaleUptaked

KEYS = ("image", "label")
SIZE = (16, 12, 8)


def measure(scan):
    """Numbers of the scan, one of which is none, and maps of half its size."""
    found = dict(scan)
    for prefix, key in (("", "image"), ("label_", "label")):
        values = scan[key]
        found[f"{prefix}statistics"] = torch.stack([values.mean(), torch.tensor(torch.nan), values.std()])
        cells = values[:, ::2, ::2, ::2]
        found[f"{prefix}noise_map"] = torch.cat([cells, -0.5 * cells])
    return found


def dataset(store, **options) -> PatchDataset:
    augment = Compose(
        [
            RandReconstructiond(KEYS, voxel_size=(4.0, 8.0), prob=1.0),
            RandInsertLesiond(KEYS, prob=1.0, max_lesions=4),
            RandFlipd([*KEYS, "lesions"], prob=0.5, spatial_axis=0),
            RandScaleUptaked(KEYS, factors=(0.5, 40.0)),
            KeepLargeScaled(KEYS),
        ]
    )
    common = {"split": "train", "patch_size": SIZE, "n_patches": 5, "n_scans": 2, "dose_range": (2, 20)}
    return PatchDataset(store, **{**common, "scan_transform": augment, "measure": measure, **options})


def assert_close(found, expected):
    """Equal within the precision of what is kept."""
    for key in KEYS:
        # The label and the image are each a full dose and a part of something else.
        torch.testing.assert_close(found[key], expected[key], rtol=2e-3, atol=2e-3)
    for key in expected.keys() - set(KEYS) - {"subject"}:
        if isinstance(expected[key], torch.Tensor):
            torch.testing.assert_close(found[key], expected[key], rtol=1e-6, atol=2e-3, equal_nan=True)


@pytest.fixture(scope="module")
def kept(store_folder, tmp_path_factory) -> KeptPatches:
    """Two epochs of patches, which no test changes."""
    return KeptPatches(dataset(store_folder), tmp_path_factory.mktemp("kept"), epochs=2, n_measured=3)


def test_kept_patches_are_those_of_the_data_set(kept, store_folder):
    drawn = dataset(store_folder)
    assert len(kept) == len(drawn)
    for epoch in (2, 1):
        kept.set_epoch(epoch)
        drawn.set_epoch(epoch)
        for index in range(5):
            found, expected = kept[index], drawn[index]
            assert found["subject"] == expected["subject"]
            assert {key: value.dtype for key, value in found.items() if key != "subject"} == {
                key: value.dtype for key, value in expected.items() if isinstance(value, torch.Tensor)
            }
            assert_close(found, expected)


@pytest.mark.parametrize("factor", [2.0, 4.0, 7.0, 20.0])
def test_a_patch_at_another_dose_is_as_if_that_had_been_drawn(kept, store_folder, factor):
    other = dataset(store_folder, dose_range=(factor, factor))
    other.set_epoch(1)
    for number in range(2):
        scan = other.scan(number)
        for place, start in enumerate(dataset(store_folder).scan_of_every_dose(1, number)["starts"]):
            box = (slice(None), *(slice(s, s + n) for s, n in zip(start, SIZE, strict=True)))
            found = KeptScan(kept.folder / f"epoch001_scan00{number}.json").patch(place, dose=factor)
            assert list(found) == ["image", "label", "dose_reduction_factor", "subject"]
            assert float(found["dose_reduction_factor"]) == factor
            assert_close(found, {key: scan[key][box] for key in KEYS})


def test_no_precision_is_lost_on_average(kept, store_folder):
    drawn = dataset(store_folder)
    drawn.set_epoch(1)
    kept.set_epoch(1)
    for key in KEYS:
        found, expected = (torch.stack([patches[n][key] for n in range(5)]).double() for patches in (kept, drawn))
        assert found.mean().item() == pytest.approx(expected.mean().item(), rel=2e-5)


def test_what_was_measured_of_whole_scans_is_read_without_them(kept, store_folder):
    drawn = dataset(store_folder)
    for epoch, number in ((0, 2), (1, 1)):
        kept.set_epoch(epoch)
        drawn.set_epoch(epoch)
        found, expected = kept.scan(number), drawn.scan(number)
        assert found.keys() == {"dose_reduction_factor", "statistics", "label_statistics", "subject"}
        for key in found.keys() - {"subject"}:
            torch.testing.assert_close(found[key], expected[key], equal_nan=True)
    assert not list(kept.folder.glob("epoch000*.vol"))


def test_a_later_stage_goes_on_where_the_one_before_ends(kept):
    later = kept.after(1)
    later.set_epoch(1)
    kept.set_epoch(2)
    assert torch.equal(later[3]["image"], kept[3]["image"])
    kept.set_epoch(1)
    assert not torch.equal(later[3]["image"], kept[3]["image"])


def test_doses_take_turns_on_the_same_patches(kept, store_folder):
    patches = dataset(store_folder, doses=(20.0, 3.0))
    dosed = KeptPatches(patches, kept.folder.parent, epochs=2, n_measured=3)
    assert dosed.folder == kept.folder
    for epoch, factor, of in ((1, 20.0, 1), (2, 3.0, 1), (3, 20.0, 2)):
        dosed.set_epoch(epoch)
        for index in range(5):
            assert float(dosed[index]["dose_reduction_factor"]) == factor
            assert "statistics" not in dosed[index]
        # Three patches of a scan, five an epoch: the next epoch of the dose begins in the second scan.
        epoch_of, number, place = [(1, 0, 0), (1, 1, 2)][of - 1]
        expected = KeptScan(kept.folder / f"epoch00{epoch_of}_scan00{number}.json").patch(place, dose=factor)
        assert torch.equal(dosed[0]["label"], expected["label"])


def test_too_few_patches_of_a_dose_come_again(make_scans, tmp_path):
    from pipeline.data.manifest import Exclusion

    scans = make_scans()
    exclusion = Exclusion(subject="s1", dose_reduction_factor=20, reason="none")
    scans.manifest = scans.manifest.model_copy(update={"exclusions": (exclusion,)})
    scans.prepare(tmp_path / "store")
    dosed = KeptPatches(dataset(tmp_path / "store", doses=(20.0,)), tmp_path / "kept", epochs=1, n_measured=0)
    items = [dosed[n] for n in range(5)]
    assert {item["subject"] for item in items} == {"s0"}
    assert torch.equal(items[3]["image"], items[0]["image"])  # three of the one scan
    assert not torch.equal(items[2]["image"], items[0]["image"])


def test_what_is_missing_is_made_and_nothing_else(store_folder, tmp_path):
    made = []

    def build() -> KeptPatches:
        made.clear()
        return KeptPatches(
            dataset(store_folder), tmp_path, epochs=1, n_measured=1, progress=lambda *done: made.append(done)
        )

    first = build()
    assert made == [("drawing patches", n, 3) for n in (1, 2, 3)]
    first.set_epoch(1)
    expected = first[1]
    (first.folder / "epoch001_scan001.json").unlink()  # the last that is written of a scan
    (first.folder / ".writing-1234-epoch001_scan001.vol").touch()
    assert torch.equal(build_item(build(), 1)["image"], expected["image"])
    assert made == [("drawing patches", 3, 3)]
    assert not list(first.folder.glob(".writing-*"))
    build()
    assert made == []
    first.set_epoch(5)  # more than were asked for
    assert first[0]["image"].shape == (1, *SIZE)


def build_item(patches: KeptPatches, index: int):
    patches.set_epoch(1)
    return patches[index]


@pytest.mark.parametrize("damage", ["voxels", "index", "record", "other"])
def test_damage_is_told_and_mended(store_folder, tmp_path, damage, caplog):
    def build() -> KeptPatches:
        return KeptPatches(dataset(store_folder), tmp_path, epochs=1, n_measured=0)

    expected = build_item(build(), 1)
    voxels = next(tmp_path.glob("*/epoch001_scan001.vol"))
    record = voxels.with_suffix(".json")
    content = bytearray(voxels.read_bytes())
    if damage == "voxels":
        content[200] ^= 1
    elif damage == "index":
        del content[-100:]
    elif damage == "other":
        content = voxels.with_name("epoch001_scan000.vol").read_bytes()
    else:
        record.write_text(record.read_text()[:-40])
    voxels.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        found = build_item(build(), 1)
    assert "epoch001_scan001" in caplog.text
    assert "it is made anew" in caplog.text
    for key in ("image", "label", "noise_map"):
        assert torch.equal(found[key], expected[key])
    caplog.clear()
    build_item(build(), 1)
    assert not caplog.text


def test_settings_never_mix(kept, store_folder):
    def folder(**options) -> Path:
        return KeptPatches(dataset(store_folder, **options), kept.folder.parent, epochs=2, n_measured=3).folder

    # What is done to a patch after it was read, or which dose is made of it, changes nothing that is kept.
    assert folder(transform=RandFlipd(KEYS, prob=0.5)) == kept.folder
    assert (kept.folder / "settings.json").is_file()
    another = Compose([RandReconstructiond(KEYS, prob=1.0), KeepLargeScaled(KEYS, fwhm=31.0)])
    other = {folder(seed=1), folder(lesion_fraction=0.5), folder(scan_transform=another), folder(measure=None)}
    assert len(other | {kept.folder}) == 5


def test_the_description_of_a_transform_has_its_settings_and_no_random_state():
    flip = Compose([RandFlipd(["image"], prob=0.25, spatial_axis=1), RandScaleUptaked(["image"], factors=(1, 2))])
    text = described(flip)
    assert text["transforms"][0]["prob"] == 0.25
    assert text["transforms"][1]["factors"] == [1, 2]
    flip.set_random_state(seed=3)
    flip({"image": torch.ones(1, 4, 4, 4)})
    assert described(flip) == text
    assert described(Compose([RandScaleIntensityd(["image"], factors=0.3)])) != described(
        Compose([RandScaleIntensityd(["image"], factors=0.4)])
    )


def test_a_run_does_not_wait_for_another_that_makes_the_same(store_folder, tmp_path):
    done = KeptPatches(dataset(store_folder), tmp_path, epochs=1, n_measured=0)
    expected = build_item(done, 0)
    for path in done.folder.glob("epoch*"):
        path.unlink()
    with locked_folder(done.folder, "testing"):
        patches = KeptPatches(dataset(store_folder), tmp_path, epochs=1, n_measured=0)
        assert not list(done.folder.glob("epoch*"))
        assert torch.equal(build_item(patches, 0)["image"], expected["image"])
        assert len(list(done.folder.glob("epoch*.json"))) == 1


@pytest.mark.slow
def test_processes_make_the_same_files(kept, store_folder, tmp_path):
    KeptPatches(dataset(store_folder), tmp_path, epochs=1, n_measured=2, jobs=2)
    for path in tmp_path.glob("*/epoch*"):
        assert path.read_bytes() == (kept.folder / path.name).read_bytes()


def test_refusals(store_folder, tmp_path):
    with pytest.raises(PETError, match="noise_free as well, which are not kept"):
        KeptPatches(dataset(store_folder, extra=("noise_free",)), tmp_path, epochs=1)
    with pytest.raises(PETError, match="epochs 0"):
        KeptPatches(dataset(store_folder), tmp_path, epochs=0)


def test_steps_come_back_exactly_and_halves_go_to_the_even_number():
    rng = np.random.default_rng(0)
    values = rng.integers(-32000, 32000, size=(2, 6, 4, 5)) * 0.25
    np.testing.assert_array_equal(_unpacked(_packed(values.astype(np.float32), 0.25), 0.25), values)
    fractions = np.array([1, 1 + 2**-10, 1 + 3 * 2**-10, -1 - 2**-10, 500.25], dtype=np.float16)
    np.testing.assert_array_equal(_rounded(fractions), np.array([1, 1, 1 + 2**-8, -1, 500], dtype=np.float16))
