"""Whether a real full-dose scan lies in the intervals that its simulated low doses are given.

`python studies/trust_real.py SCAN --scanner discovery_st --drf 4 --drf 10 --drf 20 --seeds 3` inserts noise into a
full-dose scan (`unipet insert-noise`), denoises each low dose with the shipped weights, draws regions as the product
does, and asks whether the full dose's own SUVmean, and its SUVpeak where the denoised image peaks, lie in the 95 %
interval of the recommended value. The full dose has noise itself, and the low dose has the same beside its own: the
interval is taken as it stands, and once widened by what counting gives the full dose in the region.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from denoised_images import denoised_image

from pipeline import read_pet
from pipeline.evaluation.quantification import each_region
from pipeline.images import regions_in_either
from pipeline.images.liver import measured_liver_cov
from pipeline.pet import PETSeries
from pipeline.simulation import scanner_preset
from pipeline.simulation.series_scan import low_dose_of
from pipeline.trust import measured_regions, read_calibration, scan_noise
from pipeline.trust.regions import TrustedValue, peak_sphere

THRESHOLD, MIN_VOLUME = 4.0, 1.0  # those of the product


def rows_of(full: PETSeries, low: PETSeries, kept: Path | None) -> list[dict[str, object]]:
    """One row per region and quantity of one low dose."""
    calibration, size = read_calibration(), full.voxel_size
    x = denoised_image(low, kept)
    found = regions_in_either(low.suv, x, voxel_size=size, threshold=THRESHOLD, min_volume=MIN_VOLUME)
    noise = scan_noise(low.suv, voxel_size=size, coefficients=calibration.noise)
    own = scan_noise(full.suv, voxel_size=size, coefficients=calibration.noise)
    said = measured_regions(low.suv, x, found.labels, noise=noise, calibration=calibration, threshold=THRESHOLD)
    rows = []
    for region, (number, box, mask) in zip(said, each_region(found.labels), strict=True):
        ball_box, ball, _ = peak_sphere(x, box, mask, size)
        for quantity, (place, inside) in (("suv_mean", (box, mask)), ("suv_peak", (ball_box, ball))):
            value: TrustedValue = getattr(region, quantity)
            if value.recommended is None or value.low is None or value.high is None:
                continue
            truth = float(full.suv[place][inside].mean(dtype=np.float64))
            noise_of_full = 1.96 * own.sd_of_mean(inside, place)
            down, up = value.recommended - value.low, value.high - value.recommended
            wide = np.hypot(down, noise_of_full), np.hypot(up, noise_of_full)
            rows.append(
                {
                    "number": number,
                    "quantity": quantity,
                    "diameter": region.diameter,
                    "error": 100 * (value.recommended / truth - 1),
                    "error_denoised": 100 * (value.denoised / truth - 1),
                    "error_measured": 100 * (value.measured / truth - 1),
                    "held": value.low <= truth <= value.high,
                    "held_with_noise_of_full": -wide[0] <= truth - value.recommended <= wide[1],
                    "half": 50 * (value.high - value.low) / value.recommended,
                }
            )
    return rows


def main() -> None:
    """Insert, denoise, ask and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scan", type=Path)
    parser.add_argument("--scanner", default="generic")
    parser.add_argument("--drf", type=float, action="append")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="folder that keeps the denoised images")
    args = parser.parse_args()
    full = read_pet(args.scan)
    liver = measured_liver_cov(full)
    rows = []
    for seed in range(args.seeds):
        made = low_dose_of(
            full,
            args.drf or [4.0, 10.0, 20.0],
            liver=liver.region,
            liver_cov=liver.noise_cov,
            seed=seed,
            preset=scanner_preset(args.scanner),
        )
        for factor, low in made.series.items():
            kept = None if args.keep is None else args.keep / f"seed{seed}_drf{factor:g}.npy"
            rows += [{"drf": factor, "seed": seed} | row for row in rows_of(full, low, kept)]
    table = pd.DataFrame(rows)
    groups = table.groupby(["quantity", "drf"])
    rms = {name: groups[name].apply(lambda e: (e**2).mean() ** 0.5) for name in table if name.startswith("error")}
    held = {name: 100 * groups[name].mean() for name in ("held", "held_with_noise_of_full")}
    shown = pd.DataFrame({"n": groups.size(), **held, "half_width": groups["half"].median(), **rms})
    print(shown.round(1).to_string())


if __name__ == "__main__":
    sys.exit(main())
