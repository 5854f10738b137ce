"""Two sites with different scanners train one UniPET by federated averaging, without sharing a scan.

python studies/federation.py OUT --rounds 2 --subjects 3

Simulates the subjects of each site, writes a job for NVFlare, and runs its simulator: a server and a client for each
site on this machine. Each client is MONAI's MonaiAlgo, which runs the training of the installed bundle with the overlay
federated.yaml; only weights travel. OUT then has the sites, the job, NVFlare's workspace, ``model.pt``, which
``unipet denoise --weights`` loads, and ``result.json``: PSNR of the validation subjects of each site before and after.

Needs: pip install nvflare monai-nvflare
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from pipeline.data import build_manifest
from pipeline.files import write_json
from pipeline.shipped import own_bundle
from pipeline.simulation import scanner_preset, simulate_cohort
from pipeline.transforms import with_scale

FILES = ("train", "methods/unipet", "federated")
METRIC = "psnr"


def simulate_site(folder: Path, *, scanner: Any, n_subjects: int, seed: int, drf: Sequence[float]) -> Path:
    """Simulate the subjects of a site, the last to validate on; return its manifest."""
    simulate_cohort(folder, n_subjects=n_subjects, seed=seed, scanner=scanner, dose_reduction_factors=drf)
    manifest = build_manifest("simulated", folder)
    splits = ["train"] * (n_subjects - 1) + ["validation"]
    subjects = tuple(s.model_copy(update={"split": x}) for s, x in zip(manifest.subjects, splits, strict=True))
    return manifest.model_copy(update={"subjects": subjects}).write(folder / "manifest.yaml")


def configuration(manifest: Path, settings: Mapping[str, Any], *, store: Path) -> ConfigParser:
    """Return what a site's training is built of."""
    parser = ConfigParser()
    parser.read_config([str(own_bundle() / "configs" / f"{name}.yaml") for name in FILES])
    for key, value in site_settings(manifest, settings, store=store).items():
        parser[key.replace("#", "::")] = value
    return parser


def site_settings(manifest: Path, settings: Mapping[str, Any], *, store: Path) -> dict[str, Any]:
    """Return the keys of the configuration that are a site's own."""
    own = {"bundle_root": str(own_bundle()), "manifest": str(manifest), "dataset_dir": str(manifest.parent)}
    return {**own, "store_dir": str(store), "jobs": 1, **settings}


def write_job(job: Path, sites: Mapping[str, Path], initial: Path, *, rounds: int, settings: Mapping[str, Any]) -> None:
    """Write a job of NVFlare: an app for the server, and one for each site, which names its data.

    Parameters
    ----------
    job
        Folder to make.
    sites
        Manifest of each site, beside its data.
    initial
        State dict that the first round begins with.
    rounds
        How often weights go to the sites and come back.
    settings
        Keys of train.yaml, alike at all sites.
    """
    components = "nvflare.app_common"
    server = {
        "workflows": [
            {
                "id": "scatter_and_gather",
                "path": f"{components}.workflows.scatter_and_gather.ScatterAndGather",
                "args": {
                    "min_clients": len(sites),
                    "num_rounds": rounds,
                    "wait_time_after_min_received": 0,
                    "aggregator_id": "aggregator",
                    "persistor_id": "persistor",
                    "shareable_generator_id": "shareable_generator",
                    "train_task_name": "train",
                },
            },
        ],
        "components": [
            {
                "id": "persistor",
                "path": "nvflare.app_opt.pt.file_model_persistor.PTFileModelPersistor",
                "args": {"source_ckpt_file_full_name": str(initial)},
            },
            {
                "id": "shareable_generator",
                "path": f"{components}.shareablegenerators.full_model_shareable_generator.FullModelShareableGenerator",
            },
            {
                "id": "aggregator",
                "path": f"{components}.aggregators.intime_accumulate_model_aggregator"
                ".InTimeAccumulateWeightedAggregator",
                "args": {"expected_data_kind": "WEIGHT_DIFF"},
            },
        ],
    }
    _write(job / "server" / "config" / "config_fed_server.json", {"format_version": 2, **server})
    files = [f"configs/{name}.yaml" for name in FILES]
    for name, manifest in sites.items():
        own = site_settings(manifest, settings, store=manifest.parent / "store")
        algorithm = {
            "bundle_root": str(own_bundle()),
            "config_train_filename": files,
            "train_kwargs": own,
            "config_evaluate_filename": files,
            "eval_kwargs": own,
        }
        client = {
            "executors": [
                {
                    "tasks": ["train", "validate", "submit_model"],
                    "executor": {
                        "path": "monai_nvflare.client_algo_executor.ClientAlgoExecutor",
                        "args": {"client_algo_id": "algorithm", "key_metric": METRIC},
                    },
                }
            ],
            "components": [{"id": "algorithm", "path": "monai.fl.client.MonaiAlgo", "args": algorithm}],
        }
        _write(job / name / "config" / "config_fed_client.json", {"format_version": 2, **client})
    apps = {"server": ["server"], **{name: [name] for name in sites}}
    _write(job / "meta.json", {"name": "unipet", "min_clients": len(sites), "deploy_map": apps})


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)


def evaluate(manifests: Mapping[str, Path], weights: Path, settings: Mapping[str, Any]) -> dict[str, float]:
    """Return the PSNR [dB] of each site's validation subject with weights."""
    found = {}
    for name, manifest in manifests.items():
        parser = configuration(manifest, settings, store=manifest.parent / "store")
        evaluator = parser.get_parsed_content("validate#evaluator")
        evaluator.network.load_state_dict(torch.load(weights, weights_only=True))
        evaluator.run()
        found[name] = round(float(evaluator.state.metrics[METRIC]), 3)
    return found


def federate(
    out: Path, sites: Mapping[str, Path], *, rounds: int, settings: Mapping[str, Any], weights: Path | None = None
) -> dict[str, Any]:
    """Train over the sites, beginning with weights or, where there are none, from nothing; return what came of it."""
    parser = configuration(next(iter(sites.values())), settings, store=out / "no_store")
    torch.manual_seed(0)
    network, scale = parser.get_parsed_content("network_def"), parser.get_parsed_content("suv_scale")
    if weights is not None:
        network.load_state_dict(torch.load(weights, weights_only=True))
    initial = out / "initial.pt"
    torch.save(with_scale(network.state_dict(), scale), initial)
    before = evaluate(sites, initial, settings)
    for folder in (out / "job", out / "workspace"):
        shutil.rmtree(folder, ignore_errors=True)
    write_job(out / "job", sites, initial.absolute(), rounds=rounds, settings=settings)
    simulator = [sys.executable, "-m", "nvflare.private.fed.app.simulator.simulator", str(out / "job")]
    names = ["-c", ",".join(sites), "-t", str(len(sites))]
    subprocess.run([*simulator, "-w", str(out / "workspace"), *names], check=True)
    trained = next((out / "workspace").rglob("FL_global_model.pt"), None)
    if trained is None:
        raise SystemExit(f"{out}/workspace: holds no weights, expected those of NVFlare; its log says why")
    # NVFlare's file says more than the weights, and knows nothing of their scale.
    state = torch.load(trained, map_location="cpu", weights_only=True)["model"]
    torch.save(with_scale(state, scale), out / "model.pt")
    result = {"rounds": rounds, "psnr_before_db": before, "psnr_after_db": evaluate(sites, out / "model.pt", settings)}
    write_json(out / "result.json", result)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scanner", action="append", help="preset of a site, repeatable [generic and vision]")
    parser.add_argument("--subjects", type=int, default=3, help="of each site, the last to validate on")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--from-nothing", action="store_true", help="begin with no weights, not with the shipped ones")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="key of train.yaml, JSON value")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    sites = {
        f"site-{k + 1}": simulate_site(
            arguments.out.absolute() / f"site-{k + 1}",
            scanner=scanner_preset(name),
            n_subjects=arguments.subjects,
            seed=k,
            drf=(4, 20),
        )
        for k, name in enumerate(arguments.scanner or ("generic", "vision"))
    }
    settings = {key: json.loads(value) for key, value in (text.split("=", 1) for text in arguments.set)}
    weights = None if arguments.from_nothing else own_bundle() / "models" / "model.pt"
    result = federate(arguments.out.absolute(), sites, rounds=arguments.rounds, settings=settings, weights=weights)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
