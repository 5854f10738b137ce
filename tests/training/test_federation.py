"""Two sites of different scanners train one network over NVFlare's simulator; its weights denoise.

Needs nvflare and monai-nvflare from pip; without them the test that runs it is skipped.
"""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, WeightType
from monai.fl.utils.exchange_object import ExchangeObject

from pipeline.shipped import own_bundle
from pipeline.transforms import scale_of
from studies.federation import FILES, federate, simulate_site, site_settings

TINY = {
    "n_patches": 8,
    "batch_size": 4,
    "patch_size": [16, 16, 16],
    "network_def#channels": 8,
    "network_def#n_blocks": 2,
    "n_scans": 2,
    "patches#reconstruction#voxel_size": [10.0, 14.0],
}


@pytest.fixture(scope="module")
def sites(tiny_scanner, tmp_path_factory) -> dict[str, Path]:
    """Manifests of two sites, whose reconstructions have different filters."""
    root = tmp_path_factory.mktemp("sites")
    scanners = {f"site-{k}": replace(tiny_scanner, name=f"tiny{k}", post_filter=15.0 + 5 * k) for k in (1, 2)}
    return {
        name: simulate_site(root / name, scanner=scanner, n_subjects=2, seed=k, drf=(4, 20))
        for k, (name, scanner) in enumerate(scanners.items())
    }


@pytest.mark.slow
def test_a_client_of_monai_trains_the_bundle_and_sends_the_difference_of_weights(sites):
    """What NVFlare calls, without NVFlare."""
    name, manifest = next(iter(sites.items()))
    own = site_settings(manifest, TINY, store=manifest.parent / "store")
    files = [f"configs/{name}.yaml" for name in FILES]
    client = MonaiAlgo(
        str(own_bundle()),
        config_train_filename=files,
        train_kwargs=dict(own),
        config_evaluate_filename=files,
        eval_kwargs=dict(own),
    )
    client.initialize({ExtraItems.CLIENT_NAME: name, ExtraItems.APP_ROOT: ""})
    assert isinstance(client.train_workflow, ConfigWorkflow)
    assert isinstance(client.trainer, SupervisedTrainer)
    assert isinstance(client.evaluator, SupervisedEvaluator)
    first = {key: value.clone() for key, value in client.trainer.network.state_dict().items()}
    assert client.evaluate(ExchangeObject(weights=dict(first))).metrics["psnr"] > 0
    for epochs in (1, 2):  # a round goes on where the one before ended
        client.train(ExchangeObject(weights=dict(first)))
        assert client.trainer.state.epoch == epochs
    sent = client.get_weights()
    assert sent.weight_type == WeightType.WEIGHT_DIFF
    trained = client.trainer.network.state_dict()
    assert sent.weights.keys() == first.keys()
    assert any(value.abs().max() > 0 for value in sent.weights.values())
    for key, value in sent.weights.items():
        assert torch.equal(value, trained[key] - first[key])
    client.finalize()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("nvflare", "monai_nvflare")),
    reason="pip install nvflare monai-nvflare",
)
def test_two_sites_make_weights_that_denoise(unipet, sites, tiny_cohort, tmp_path):
    result = federate(tmp_path, sites, rounds=2, settings=TINY)
    assert result.keys() == {"rounds", "psnr_before_db", "psnr_after_db"}
    assert json.loads((tmp_path / "result.json").read_text()) == result
    before, after = (torch.load(tmp_path / name, weights_only=True) for name in ("initial.pt", "model.pt"))
    assert before.keys() == after.keys()
    assert scale_of(after) == 2.0
    assert any(not torch.equal(value, after[key]) for key, value in before.items())
    log = (tmp_path / "workspace" / "server" / "log.txt").read_text()
    for site in sites:  # both trained in both rounds
        assert log.count(f"Contribution from {site} ACCEPTED") == 2
    method = tmp_path / "tiny.yaml"
    method.write_text("based_on: unipet\nnetwork_def#channels: 8\nnetwork_def#n_blocks: 2\n")
    scan = tiny_cohort[0] / "pet" / "sub-0001_rec-drf020_pet.nii.gz"
    done = unipet("denoise", scan, tmp_path / "out", "--method", method, "--weights", tmp_path / "model.pt")
    assert done.returncode == 0, done.stderr
