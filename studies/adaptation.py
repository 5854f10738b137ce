"""What `unipet adapt` gains on a simulated site of a preset that training never saw.

python studies/adaptation.py OUT --scanner PRESET --scans 5 --jobs 2

A site's full doses are simulated, and as many other subjects at every dose. The bundle is adapted to the first, with
noise inserted as a site would, and old and new weights are measured on the others, whose lower doses are true thinned
counts: PSNR, lesions and false hot spots, each difference with its 95 % interval from a bootstrap over subjects. Run
again, it goes on where it was stopped.
"""

import argparse
import time
from pathlib import Path

from pipeline.adaptation import AdaptationSettings, adapt
from pipeline.comparison import (
    MEASURED_LESION_COLUMNS,
    MEASURED_SCAN_COLUMNS,
    as_markdown,
    cases_of,
    evaluate_methods,
    result_tables,
)
from pipeline.data import build_manifest
from pipeline.inference import Denoiser
from pipeline.simulation import FDG, scanner_preset, simulate_cohort
from pipeline.tables import write_table
from pipeline.training import parse_setting

_SITE_SEED, _OTHERS_SEED = 7100, 7200  # of no manifest


def simulated(options: argparse.Namespace) -> tuple[Path, Path]:
    """Return the manifest of the site's full doses, and the folder of the others."""
    folders = (options.out / "site", options.out / "others")
    for folder, seed, factors in zip(folders, (_SITE_SEED, _OTHERS_SEED), ((4.0,), options.drf), strict=True):
        simulate_cohort(
            folder,
            n_subjects=options.scans,
            seed=seed,
            scanner=scanner_preset(options.scanner),
            tracer=FDG,
            dose_reduction_factors=factors,
            axial_extent=options.axial_extent,
            jobs=options.jobs,
        )
    described = build_manifest("simulated", folders[0])
    full_only = tuple(
        s.model_copy(update={"images": (s.full_dose,), "lesions": None, "organs": None, "attenuation": None})
        for s in described.subjects
    )
    path = folders[0] / "full_doses.yaml"
    if not path.exists():  # its time of modification is part of what was adapted to
        described.model_copy(update={"subjects": full_only}).write(path)
    return path, folders[1]


def main() -> None:
    """Simulate, adapt, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--scanner", required=True, help="preset of the site, one that training never saw")
    parser.add_argument("--scans", type=int, default=5, help="of the site, and as many others")
    parser.add_argument("--drf", type=float, nargs="+", default=[4.0, 10.0, 20.0, 50.0])
    parser.add_argument("--axial-extent", type=float, default=None, help="part of the body [mm], for a trial")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--set", dest="settings", action="append", default=[], help="key=value of the training")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    site, others = simulated(options)
    began = time.perf_counter()
    settings = AdaptationSettings(
        scanner=scanner_preset(options.scanner),
        overrides=tuple(parse_setting(text) for text in options.settings),
        jobs=options.jobs,
    )
    result = adapt([site], options.out / "bundle", settings, on_step=lambda step: print(step, flush=True))
    print(f"{result}\nadapted in {time.perf_counter() - began:.0f} s")
    methods = {"before": Denoiser.from_bundle(), "after": Denoiser.from_bundle(options.out / "bundle")}
    cases = cases_of([others], split="test")
    methods = {"input": lambda series: series, **methods}
    measurements = evaluate_methods(cases, methods, competitors=None, on_case=lambda case: print(case, flush=True))
    write_table(measurements.scans, options.out / "scans.tsv", columns=MEASURED_SCAN_COLUMNS)
    write_table(measurements.lesions, options.out / "lesions.tsv", columns=MEASURED_LESION_COLUMNS)
    print(as_markdown(result_tables(measurements, ["before", "after"])))


if __name__ == "__main__":
    main()
