"""What parts of the recipe give: stage one trained without each of them, for equal iterations, on scans of one seed.

python studies/training_arms.py OUT --data gpu/data --gpu --scan FULL_DOSE --low 4=LOW_DOSE

Every arm is train.yaml with other keys, its first stage alone: the body, without style. Patches and batches are small
unless `--gpu` takes those of gpu.yaml. Run again, it goes on where it was stopped. The validation subjects, whose
scanners are not in training, and a scan of yours, are then denoised without and with giving back what was taken at
large scale; tables have the PSNR against full dose, and by how much the mean of the body differs from the noisy scan's.
"""

import argparse
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from monai.bundle import ConfigParser

from pipeline import read_pet
from pipeline.comparison import cases_of, scanner_of
from pipeline.data import own_manifest
from pipeline.evaluation import psnr
from pipeline.files import read_yaml
from pipeline.images import body_mask
from pipeline.inference import Denoiser, load_weights
from pipeline.pet import PETSeries
from pipeline.shipped import method_files
from pipeline.tables import write_table
from pipeline.training import checked_config, parse_setting, train_bundle

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "unipet_3d"
CONFIGS = BUNDLE / "configs"
ITERATIONS_OF_AN_EPOCH = 40
STAGE = (
    "$@stage('BDN', @pretrain#trainer, network=@pretrain#network, optimizer=@pretrain#optimizer, "
    "val_interval=@val_interval, is_last=True)"
)
"""Stage one of train.yaml, as the one stage: it is validated at its end, and its weights are written."""
Settings = dict[str, Any]
Scans = list[tuple[str, PETSeries, dict[float, PETSeries]]]


def augmentation_without(name: str) -> list[Any]:
    """Return the augmentation of train.yaml without one transform."""
    steps = read_yaml(CONFIGS / "train.yaml")["patches"]["augmentation"]
    return [step for step in steps if isinstance(step, str) or not step["_target_"].endswith(f".{name}")]


ARMS: dict[str, Settings] = {
    "control": {},
    "no_map": {"network_def#local_noise": False},
    "native": {"patches#reconstruction#prob": 0.0, "patches#reconstruction#fwhm": [0.0, 0.0]},
    "flat_loss": {"loss#variance_power": 0.0},
    "no_keep": {"patches#augmentation": augmentation_without("KeepLargeScaled")},
}
"""The recipe; without the map of local noise; without filters and other voxel sizes; with squares that all weigh alike;
and with the full dose itself as the target, not with what the low dose has at large scale."""


def settings_of(arm: str, options: argparse.Namespace) -> Settings:
    """Return the keys of train.yaml that an arm sets."""
    sizes: Settings = {"batch_size": 4}
    if options.gpu:
        sizes = {key: value for key, value in read_yaml(CONFIGS / "gpu.yaml").items() if not key.startswith("train#")}
    return {
        **sizes,
        "n_patches": ITERATIONS_OF_AN_EPOCH * sizes["batch_size"],
        "stages": ["@pretrain#stage"],
        "pretrain#stage": STAGE,
        "pretrain#max_epochs": options.epochs,
        "val_interval": options.epochs,
        "dataset_dir": str(options.data),
        "output_dir": str(options.out / arm),
        "manifest": str(options.manifest),
        **dict(map(parse_setting, options.settings)),
        **ARMS[arm],
    }


def trained(arm: str, options: argparse.Namespace) -> dict[str, Denoiser]:
    """Return an arm's denoisers, without and with giving back, trained as far as it is not yet."""
    settings = settings_of(arm, options)
    began = time.perf_counter()
    result = train_bundle(BUNDLE, [], [*settings.items()])
    print(f"{arm}: {result}, {time.perf_counter() - began:.0f} s now", flush=True)
    overlays = method_files(BUNDLE, "unipet")
    parser = ConfigParser(
        checked_config(CONFIGS / "train.yaml", overlays, [("bundle_root", str(BUNDLE)), *settings.items()])
    )
    device, scale = parser.get_parsed_content("device"), parser.get_parsed_content("suv_scale")
    network = load_weights(parser.get_parsed_content("network_def").base, result.model, suv_scale=scale).to(device)
    conserving = parser.get_parsed_content("inferer")
    return {
        name: Denoiser(network=network, inferer=inferer, suv_scale=scale, method=arm, device=device)
        for name, inferer in ((arm, conserving.inferer), (f"{arm}, given back", conserving))
    }


COLUMNS = {
    "scan": "name of the scan, and the scanner of a simulated one",
    "DRF": "full dose over the dose of the scan",
    "method": "arm of the study; input is the scan as it is",
    "PSNR [dB]": "PSNR against full dose, peak 20 SUV [dB]",
    "body [%]": "change of the mean SUV of the body from the noisy scan [%]",
}
"""Meaning and unit of the columns of ``arms.tsv``."""


def scans_of(options: argparse.Namespace) -> Scans:
    """Return name, full dose and low doses of every scan to judge on."""
    cases = cases_of([options.manifest], split="validation", root=options.data, factors=options.drf)
    scans = []
    for case in cases:
        full = case.full_dose()
        scans.append((f"{case.name} ({scanner_of(full)})", full, {d: case.read(i) for d, i in case.doses.items()}))
    if options.scan is not None:
        lows = {float(drf): read_pet(path) for drf, _, path in (text.partition("=") for text in options.low)}
        scans.append((options.scan.name, read_pet(options.scan), lows))
    return scans


def rows(scans: Scans, methods: dict[str, Denoiser]) -> Iterator[dict[str, Any]]:
    """Measure every method on every scan and dose."""
    for name, full, lows in scans:
        body = body_mask(full.suv, voxel_size=full.voxel_size)
        for factor, low in lows.items():
            results = {"input": low.suv} | {method: denoise(low).suv for method, denoise in methods.items()}
            for method, suv in results.items():
                yield {
                    "scan": name,
                    "DRF": factor,
                    "method": method,
                    "PSNR [dB]": psnr(suv, full.suv, data_range=20),
                    "body [%]": 100 * (suv[body].mean(dtype=float) / low.suv[body].mean(dtype=float) - 1),
                }


def main() -> None:
    """Train what is not trained yet, and judge."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, help="folder of the arms")
    parser.add_argument("--data", type=Path, default=BUNDLE / "data", help="folder of the data and their store")
    parser.add_argument("--manifest", default=own_manifest("simulated_v2"), help="of the data")
    parser.add_argument("--arms", nargs="+", choices=[*ARMS], default=[*ARMS])
    parser.add_argument("--epochs", type=int, default=6, help=f"of {ITERATIONS_OF_AN_EPOCH} iterations")
    parser.add_argument("--gpu", action="store_true", help="patches and batches of gpu.yaml")
    parser.add_argument("--drf", type=float, nargs="+", default=[4, 20], help="doses to judge on")
    parser.add_argument("--scan", type=Path, help="a full dose of yours to judge on, too")
    parser.add_argument("--low", action="append", default=[], metavar="DRF=SCAN", help="a low dose of it, repeatable")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE", help="for all arms")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    methods: dict[str, Denoiser] = {}
    for arm in options.arms:
        methods |= trained(arm, options)
    measured = pd.DataFrame(rows(scans_of(options), methods))
    options.out.mkdir(parents=True, exist_ok=True)
    write_table(measured, options.out / "arms.tsv", columns=COLUMNS)
    for measure in ("PSNR [dB]", "body [%]"):
        table = measured.pivot_table(index=["scan", "DRF"], columns="method", values=measure)
        print(f"\n{measure}\n{table[['input', *methods]].round(2).T.to_string()}")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
