"""Weights from nothing on a machine with a GPU and no network, in pieces: simulate, prepare, train, each resumed.

    python benchmarks/gpu.py --out OUT [--limit 450] [--device cuda] [--jobs 8] [--manifest FILE] [--data FOLDER]
                             [--config OVERLAY ...] [--set KEY=VALUE ...]

Every call ends by itself within the limit (a validation or a simulated subject that is under way is finished first),
exit code 0, and says what is left; the next call goes on. OUT then holds

    data/            simulated subjects and the store
    runs/model.pt    weights, once the second stage has begun
    runs/progress_bdn.png, runs/progress.png, runs/progress.tsv, runs/tensorboard/    curves
    timings.json     a record per call: date, device, versions, seconds of each step, iterations
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from pipeline.data import Manifest, prepare_store
from pipeline.data.simulated import simulated_manifest
from pipeline.files import write_text
from pipeline.pet import PETError
from pipeline.shipped import own_bundle, own_manifest
from pipeline.simulation import scanner_preset, simulate_cohort, tracer_named
from pipeline.training import parse_setting, train_bundle


class TimeIsOver(Exception):
    """Raised between two subjects; says how many are done."""


class Piece:
    """One call: its deadline, and what it did."""

    def __init__(self, limit: float, device: str) -> None:
        self.started = time.monotonic()
        self.limit = limit
        is_there = device.startswith("cuda") and torch.cuda.is_available()
        self.record: dict[str, Any] = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": torch.cuda.get_device_name(device) if is_there else f"{device}, {platform.machine()}",
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "cpu_cores": os.cpu_count(),
            "seconds": {},
        }

    @property
    def seconds_left(self) -> float:
        return self.limit - (time.monotonic() - self.started)

    def check(self, what: str) -> Callable[[int, int], None]:
        """Progress callback that ends the piece when its time is over and there is more to do."""

        def progress(done: int, total: int) -> None:
            if done < total and self.seconds_left <= 0:
                raise TimeIsOver(f"{what}, {done} of {total} subjects")

        return progress

    def timed(self, name: str, step: Callable[[], Any]) -> Any:
        before = time.monotonic()
        try:
            return step()
        finally:
            self.record["seconds"][name] = round(time.monotonic() - before, 1)

    def write(self, path: Path) -> None:
        """Append the record to those of earlier calls."""
        records = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        write_text(path, json.dumps([*records, self.record], indent=2) + "\n")


def simulate(described: Manifest, data: Path, piece: Piece, *, device: str, jobs: int) -> Manifest:
    """Simulate what is missing of a recipe, on the device; the manifest with its subjects."""
    if described.recipe is None:
        return described
    for cohort in described.recipe.cohorts:
        simulate_cohort(
            data / cohort.folder,
            n_subjects=cohort.n_subjects,
            seed=cohort.seed,
            scanner=scanner_preset(cohort.scanner),
            tracer=tracer_named(cohort.tracer),
            dose_reduction_factors=described.recipe.dose_reduction_factors,
            dose_mode=described.recipe.dose_mode,
            n_lesions=cohort.n_lesions,
            jobs=jobs,
            # numpy is the faster one on a CPU, and its bytes follow from the seed.
            device=None if device == "cpu" else device,
            progress=piece.check(f"simulating {cohort.folder}"),
        )
    return simulated_manifest(described, data)


def run(arguments: argparse.Namespace) -> str:
    """Do a piece; what to tell the user."""
    out = Path(arguments.out).absolute()
    data = Path(arguments.data or out / "data").absolute()
    manifest = arguments.manifest or own_manifest("simulated_v1")
    settings = [
        ("manifest", str(manifest)),
        ("dataset_dir", str(data)),
        ("store_dir", str(out / "data" / "store")),
        ("output_dir", str(out / "runs")),
        ("jobs", arguments.jobs),
        ("device", arguments.device),
        *map(parse_setting, arguments.set),
    ]
    out.mkdir(parents=True, exist_ok=True)
    piece = Piece(arguments.limit, arguments.device)
    try:
        described = piece.timed(
            "simulate",
            lambda: simulate(Manifest.from_file(manifest), data, piece, device=arguments.device, jobs=arguments.jobs),
        )
        piece.timed(
            "prepare",
            lambda: prepare_store(
                described, out / "data" / "store", root=data, jobs=arguments.jobs, progress=piece.check("preparing")
            ),
        )
        # That takes minutes and is not interrupted.
        if not (out / "data" / "store" / "noise_statistics.pt").is_file() and piece.seconds_left < piece.limit / 2:
            raise TimeIsOver("the noise of the scans is to be measured")
        # At least a second: the training then says itself what is left.
        limit = ("time_limit", max(1.0, piece.seconds_left))
        overlays = [Path(path) for path in arguments.config]
        done = piece.timed("train", lambda: train_bundle(own_bundle(), overlays, [*settings, limit]))
        piece.record["iterations"] = {name: list(counts) for name, counts in done.stages.items()}
    except TimeIsOver as over:
        piece.record["stopped"] = str(over)
        return f"not finished ({over}); run the same command again to go on"
    finally:
        piece.write(out / "timings.json")
    return f"{done}\n" + (f"{done.model} written" if done.is_finished else "run the same command again to go on")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder of everything")
    parser.add_argument("--limit", type=float, default=450.0, help="seconds of a call [450]")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--jobs", type=int, default=min(8, os.cpu_count() or 1), help="subjects at once")
    parser.add_argument("--manifest", help="recipe, or manifest with subjects [simulated_v1]")
    parser.add_argument("--data", help="folder of the manifest's data [OUT/data]")
    parser.add_argument("--config", action="append", default=[], help="overlay, repeatable")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE, repeatable")
    try:
        print(run(parser.parse_args()))
    except (PETError, OSError) as error:
        parser.exit(1, f"gpu: {error}\n")


if __name__ == "__main__":
    main()
