"""Patches of the shipped recipe: their scan is measured as inference measures it, and the map lies at its place."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from torch import nn

from pipeline.data import KeptPatches, PatchDataset, build_manifest, prepared_store
from pipeline.networks import BaseDenoisingNetwork, DoseConditionedNetwork, LocalNoise, UniPET
from pipeline.training import MeasureNoised, fit_noise
from pipeline.training.scan_noise import measured_noise


@pytest.fixture(scope="module")
def store(tiny_cohort: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two coarse simulated subjects, both for training."""
    root = tiny_cohort[0].parent
    manifest = build_manifest("simulated", root)
    subjects = tuple(s.model_copy(update={"split": "train"}) for s in manifest.subjects)
    folder = tmp_path_factory.mktemp("store")
    path = manifest.model_copy(update={"subjects": subjects}).write(folder / "manifest.yaml")
    return prepared_store(path, folder / "store", root=root, jobs=1)


@pytest.fixture
def recipe(store, repository: Path) -> ConfigParser:
    """The shipped recipe of UniPET, with a small store, larger voxels and smaller patches."""
    configs = repository / "bundles" / "unipet_3d" / "configs"
    parser = ConfigParser()
    parser.read_config([str(configs / "train.yaml"), str(configs / "methods" / "unipet.yaml")])
    changes = {
        "store": store,
        "device": torch.device("cpu"),
        "patch_size": [16, 16, 16],
        "n_patches": 6,
        "n_scans": 2,
        "patches#reconstruction#voxel_size": [8.0, 14.0],
        "patches#reconstruction#max_voxels": 60_000,
        "patches#drawn#dose_range": [2, 20],
    }
    for key, value in changes.items():
        parser[key] = value
    return parser


def test_a_patch_of_the_recipe_has_what_inference_measures_of_its_scan(recipe):
    patches, network = (recipe.get_parsed_content(key) for key in ("patches#dataset", "network"))
    scale = recipe.get_parsed_content("suv_scale")
    for number in range(2):
        scan = patches.scan(number)
        for prefix, key in (("", "image"), ("label_", "label")):
            x = scan[key][None] / scale
            assert torch.equal(scan[f"{prefix}noise_map"], network.base.measure_noise(x)[0])
            torch.testing.assert_close(
                scan[f"{prefix}statistics"], network.scan_statistics(x)[0], rtol=0, atol=0, equal_nan=True
            )
        for k, start in enumerate(scan["starts"]):
            item = patches[number + 2 * k]
            box = (slice(None), *(slice(int(s), int(s) + 16) for s in start))
            cells = (slice(None), *(slice(int(s) // 2, int(s) // 2 + 8) for s in start))
            assert item.keys() >= {
                *("image", "label", "statistics", "label_statistics", "noise_map", "label_noise_map"),
                *("dose_reduction_factor", "subject"),
            }
            torch.testing.assert_close(item["image"], scan["image"][box] / scale)
            torch.testing.assert_close(item["label"], scan["label"][box] / scale)
            assert torch.equal(item["noise_map"], scan["noise_map"][cells])
            assert not any(isinstance(value, MetaTensor) for value in item.values())
            # What the network sees of the map beside the patch is what it sees of it in the whole scan.
            whole = network.base.guide(scan["image"][None] / scale)[(slice(None), *cells)]
            assert torch.equal(network.base.guide(item["image"][None], item["noise_map"][None]), whole)


def test_items_of_the_recipe_follow_from_seed_epoch_and_index(recipe):
    patches = recipe.get_parsed_content("patches#dataset")
    first = [patches[k] for k in range(6)]
    patches.set_epoch(1)
    assert not torch.equal(patches[0]["image"], first[0]["image"])
    patches.set_epoch(0)
    for item, again in zip(first, [patches[k] for k in range(6)], strict=True):
        assert torch.equal(item["image"], again["image"])
        assert torch.equal(item["noise_map"], again["noise_map"])


def test_scans_of_the_recipe_differ_in_voxels_and_hold_lesions(recipe):
    patches = recipe.get_parsed_content("patches#dataset")
    scans = [patches.scan(number) for number in range(12)]
    assert len({tuple(scan["label"].shape) for scan in scans}) > 4
    sides = np.array([scan["voxel_size"].numpy() for scan in scans])
    changed = sides[sides[:, 0] != 15]
    assert len(changed) > 5
    assert ((changed >= 8) & (changed <= 14)).all()
    assert all(scan["label"].numel() <= 60_000 for scan in scans if scan["voxel_size"][0] != 15)
    assert sum("lesions" in scan and int(scan["lesions"].max()) > 0 for scan in scans) > 6
    for scan in scans:
        assert scan["image"].isfinite().all()
        # At large scale the pair is the same: that is what training asks for.
        body = scan["label"] > 0.3
        assert scan["label"][body].mean() == pytest.approx(float(scan["image"][body].mean()), rel=0.1)


@pytest.mark.parametrize(
    ("network", "keys"),
    [
        (UniPET(4, 1, style="statistics"), {"statistics"}),
        (UniPET(4, 1, style="statistics", local_noise=True), {"statistics", "noise_map"}),
        (UniPET(4, 4), set()),
        (BaseDenoisingNetwork(4, 1), set()),
        (BaseDenoisingNetwork(4, 1, local_noise=LocalNoise()), {"noise_map"}),
        (nn.Identity(), set()),
    ],
)
def test_nothing_is_measured_that_a_network_does_not_read(network, keys):
    x = 1 + 0.1 * torch.randn(1, 20, 20, 20, generator=torch.Generator().manual_seed(0))
    keys = keys | ({"noise_moments"} if "noise_map" in keys else set())
    assert measured_noise(network, x[None]).keys() == keys
    found = MeasureNoised(network, suv_scale=2.0)({"image": x, "label": x})
    assert found.keys() == {"image", "label", *keys, *(f"label_{key}" for key in keys)}


def test_without_a_network_everything_is_measured_as_the_shipped_one_does():
    x = 1 + 0.1 * torch.randn(1, 24, 20, 20, generator=torch.Generator().manual_seed(0))
    network = UniPET(
        4, 1, resolution_factor=2, style="statistics", local_noise=True, suv_scale=1.5, tissue_threshold=0.1
    )
    found, expected = (MeasureNoised(n, suv_scale=1.5)({"image": x}) for n in (None, network))
    assert found.keys() == expected.keys() == {"image", "statistics", "noise_map", "noise_moments"}
    for key, value in expected.items():
        assert torch.equal(found[key], value)


def test_noise_is_standardised_alike_by_scans_that_are_kept(store, tmp_path):
    measure = MeasureNoised(None, suv_scale=2.0)
    options = {"patch_size": (8, 8, 8), "n_patches": 2, "n_scans": 1, "dose_range": (2, 20), "measure": measure}
    patches = PatchDataset(store, split="train", **options)
    kept = KeptPatches(patches, tmp_path, epochs=1, n_measured=4)
    states = []
    for source in (patches, kept):
        network = UniPET(4, 1, resolution_factor=2, style="statistics", local_noise=True, style_width=4, latent_size=4)
        fit_noise(network, source, n_scans=4)
        states.append(dict(network.named_buffers()))
    assert any(not torch.equal(value, torch.ones_like(value)) for name, value in states[0].items() if "std" in name)
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "network",
    [
        UniPET(4, 1, resolution_factor=2, style="statistics", local_noise=True),
        BaseDenoisingNetwork(4, 1, resolution_factor=2, local_noise=LocalNoise()),
    ],
)
def test_noise_is_standardised_over_scans_of_both_doses(store, network):
    measure = MeasureNoised(network, suv_scale=2.0)
    options = {"patch_size": (8, 8, 8), "n_patches": 4, "n_scans": 4, "dose_range": (2, 20), "measure": measure}
    patches = PatchDataset(store, split="train", **options)
    assert fit_noise(network, patches, n_scans=4) is network
    maps = [patches.scan(n)[f"{prefix}noise_map"] for n in range(4) for prefix in ("", "label_")]
    layer = network.base.local_noise if isinstance(network, UniPET) else network.local_noise
    torch.testing.assert_close(layer.mean, torch.stack([m.mean(dim=(1, 2, 3)) for m in maps]).mean(dim=0))
    assert (layer.std > 0).all()
    assert not torch.equal(layer.std, torch.ones(2))
    if isinstance(network, UniPET):
        statistics = [patches.scan(n)[f"{prefix}statistics"] for n in range(4) for prefix in ("", "label_")]
        measured = torch.stack([s for s in statistics if s.isfinite().all()])
        torch.testing.assert_close(network.statistics_style.mean, measured.mean(dim=0))


def test_a_network_that_reads_no_noise_is_left_alone(store):
    patches = PatchDataset(store, split="train", patch_size=(8, 8, 8), n_patches=1)
    network = nn.Identity()
    assert fit_noise(network, patches) is network
    assert not patches._scans


def test_a_network_that_reads_the_dose_learns_how_from_scans_of_known_dose():
    class Scans:
        """Noise whose level alone follows the dose; the full dose has a level of its own."""

        def set_epoch(self, epoch: int) -> None:
            assert epoch == 0

        def scan(self, number: int) -> dict[str, Any]:
            factor = 2.0 + number
            low, full = (torch.tensor([math.log(f) / 2 - 1, 0, 0, 0, 0, 0, 0]) for f in (factor, 1.0))
            return {"dose_reduction_factor": torch.tensor(factor), "statistics": low, "label_statistics": full}

    network = fit_noise(DoseConditionedNetwork(4, 1), Scans(), n_scans=20)
    assert network.dose_reader.error < 0.02
    assert network.dose_reader.slopes[0] == pytest.approx(2, rel=0.02)
