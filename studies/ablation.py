"""What each part of UniPET gives: stage two from one body, with and without style, critic, masked pooling.

python studies/ablation.py OUT --body bundles/unipet_3d/runs/bdn --epochs 8 --data bundles/unipet_3d/data

Every arm is train.yaml with overlays of configs, trained for the same iterations from the same stage one
(its checkpoints, --body), on the same patches in the same order. Run again, it goes on where it was stopped. Then all
arms are measured on the test cohorts of the recipe: PSNR by dose, lesions, texture, and the difference from the plain
body with its 95 % interval from a bootstrap over subjects. Needs the data that `make weights` simulates.
"""

import argparse
import logging
import shutil
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from pipeline.comparison import (
    MEASURED_LESION_COLUMNS,
    MEASURED_SCAN_COLUMNS,
    Measurements,
    cases_of,
    compare_methods,
    evaluate_methods,
)
from pipeline.files import new_folder
from pipeline.inference import Denoiser, Method, StreamingInferer, fast_dtype, load_weights
from pipeline.tables import write_table
from pipeline.training import train_bundle
from pipeline.training.checkpoint_files import newest_intact

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "unipet_3d"
NO_CRITIC = ("train#trainer#adversarial_weight", 0.0)
ARMS: dict[str, tuple[str, tuple[tuple[str, Any], ...]]] = {
    "body": ("unipet_no_style", (NO_CRITIC,)),
    "style": ("unipet_no_adversarial", ()),
    "critic": ("unipet_no_style", ()),
    "style and critic": ("unipet", ()),
    "style and whole-image critic": ("unipet", (("train#trainer#region_threshold", None),)),
    "convolutional style": ("unipet_convolutional", (NO_CRITIC,)),
    "convolutional style, unmasked": (
        "unipet_convolutional",
        (NO_CRITIC, ("network_def#tissue_threshold", None)),
    ),
}
MEASURES = ("psnr_full", "psnr_repeat", "psnr_noise_free", "local_variance_ratio_full", "n_false_hot_spots")


def trained(arm: str, options: argparse.Namespace) -> Denoiser:
    """Denoiser of an arm, trained as far as it is not yet."""
    method, changed = ARMS[arm]
    output = options.out / arm.replace(" ", "_").replace(",", "")
    if not (output / "bdn").exists():
        output.mkdir(parents=True, exist_ok=True)
        with new_folder(output / "bdn") as copy:  # half a copy would be another body
            shutil.copytree(options.body, copy, dirs_exist_ok=True)
    body = newest_intact(output / "bdn")
    if body is None:
        raise SystemExit(f"{options.body}: no checkpoint of a body, expected those of a finished stage one")
    settings = [
        ("output_dir", str(output)),
        ("dataset_dir", str(options.data)),
        ("pretrain#max_epochs", torch.load(body.path, weights_only=True)["epoch"]),  # not one more
        ("train#max_epochs", options.epochs),
        *changed,
    ]
    began = time.process_time()
    result = train_bundle(BUNDLE, settings=settings, method=method)
    print(f"{arm}: {result}, {time.process_time() - began:.0f} CPU-s now", flush=True)
    described = Method(BUNDLE, method)
    network = load_weights(described["network_def"], result.model)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Denoiser(
        network=network.to(device),
        inferer=StreamingInferer(dtype=fast_dtype(device)),
        suv_scale=described["suv_scale"],
        method=arm,
        device=device,
    )


def report(measurements: Measurements, arms: list[str]) -> None:
    """Print means by dose, lesion bias, and each arm's difference from the first."""
    for measure in MEASURES:
        table = measurements.scans.pivot_table(index="method", columns="dose_reduction_factor", values=measure)
        print(f"\n{measure}\n{table.loc[arms].round(3).to_string()}")
    large = measurements.lesions[measurements.lesions["diameter_mm"] >= 10]
    for measure in ("suv_mean_error_percent", "suv_max_error_percent"):
        table = large.pivot_table(index="method", columns="dose_reduction_factor", values=measure)
        print(f"\n{measure}, lesions of at least 10 mm\n{table.loc[arms].round(1).to_string()}")
    rows = [
        {
            "arm": arm,
            "measure": d.measure,
            "DRF": d.dose_reduction_factor,
            "difference": f"{d.interval.mean:+.3f} [{d.interval.low:+.3f}, {d.interval.high:+.3f}]",
            "verdict": d.verdict,
        }
        for arm in arms[1:]
        for d in compare_methods(measurements, arm, [arms[0]])
    ]
    print(f"\nless {arms[0]}, 95 % interval over subjects\n{pd.DataFrame(rows).to_string(index=False)}")


def main() -> None:
    """Train what is not trained yet, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, help="folder of the arms")
    parser.add_argument(
        "--body", type=Path, default=BUNDLE / "runs" / "bdn", help="checkpoints of a finished stage one"
    )
    parser.add_argument("--data", type=Path, default=BUNDLE / "data", help="folder of the recipe's cohorts")
    parser.add_argument("--epochs", type=int, default=8, help="of stage two")
    parser.add_argument("--arms", nargs="+", choices=[*ARMS], default=[*ARMS])
    parser.add_argument("--cohorts", nargs="+", default=["test_gemini", "test_biograph"], help="to measure on")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    methods = {arm: trained(arm, options) for arm in options.arms}
    cases = cases_of([options.data / cohort for cohort in options.cohorts], split="test")
    measurements = evaluate_methods(cases, methods, competitors=None)
    write_table(measurements.scans, options.out / "scans.tsv", columns=MEASURED_SCAN_COLUMNS)
    write_table(measurements.lesions, options.out / "lesions.tsv", columns=MEASURED_LESION_COLUMNS)
    report(measurements, options.arms)


if __name__ == "__main__":
    main()
