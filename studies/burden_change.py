"""How often the intervals of the change of TMTV and TLG hold what the change is on average, on scans with known noise.

`python studies/burden_change.py --patients 4 --scans 8 --repeats 6 --repeated 2`. Of each simulated patient a slab
around the liver is scanned again and again: Poisson counts of one noise-free image, reconstructed. Every scan is
denoised by the shipped weights, regions are drawn on both, and the burden changes. The expectation of a change is its
mean over the other scans of the patient. "fixed" is the change in the outlines of the scan in question in all scans,
which are chosen by its noise; the others are drawn anew in every scan. Intervals are
those of `pipeline.trust.burden_table`: by counting from every scan, by repeats from the first ones, which know nothing
but the scan and its denoised image, the attenuation, and where the liver is.
"""

import argparse
from collections.abc import Iterator
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import UndefinedMeasureError
from pipeline.evaluation.quantification import each_region
from pipeline.images import Delineation, fixed_threshold, named_threshold, voxel_volume
from pipeline.inference import Denoiser
from pipeline.pet import PETHeader, PETSeries
from pipeline.simulation import GENERIC, InsertionSettings, full_dose_scan, simulate_subject
from pipeline.simulation.subject import measured_liver
from pipeline.trust import burden_changes, burden_table, read_calibration, repeatable_scan, scan_noise

EXTENT = 250.0  # [mm] of the body
RULES = {"smoothed": (fixed_threshold(4.0), 8.0)} | {n: (named_threshold(n), 0.0) for n in ("suv4", "41%")}
QUANTITIES = {
    "TMTV, own": ("own", "tmtv_change_ml", "tmtv_change_low_ml"),
    "TLG, own": ("own", "tlg_change", "tlg_change_low"),
    "TLG, common": ("common", "tlg_change", "tlg_change_low"),
    "TLG, fixed": ("common", "tlg_change", "tlg_change_low"),
}


def counting_sd(suv: np.ndarray, labels: np.ndarray, voxel_size: tuple[float, float, float]) -> float | None:
    """SD that counting gives the TLG of all regions before denoising [g]."""
    try:
        noise = scan_noise(suv, voxel_size=voxel_size, coefficients=read_calibration().noise)
    except UndefinedMeasureError:
        return None
    parts = [mask.sum() * noise.sd_of_mean(mask, box) for _, box, mask in each_region(labels)]
    return float(np.sqrt(np.sum(np.square(parts)))) * voxel_volume(voxel_size)


def rows_of(seed: int, drf: float, denoise: Denoiser, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield change, expectation and half width of every scan, rule, quantity and kind of interval."""
    subject = simulate_subject(seed, scanner=GENERIC, dose_reduction_factors=(), n_lesions=30, axial_extent=EXTENT)
    scanner, size = subject.scanner, subject.scanner.voxel_size
    affine, mu = scanner.affine, subject.truth.attenuation
    counts = subject.parameters["prompts_full_dose"] / drf
    header = PETHeader(units="GML", frame_duration=120.0, radiopharmaceutical="FDG")
    settings = InsertionSettings(scanner=scanner, attenuation=mu, counts=counts)
    scan = full_dose_scan(subject.noise_free, settings, rng=np.random.default_rng(seed))
    scans = [
        PETSeries(suv=y, affine=affine, header=header) for y in scan.repeats(options.scans, np.random.default_rng(seed))
    ]
    denoised = [denoise(series) for series in scans]
    pairs = [(y.suv, x.suv) for y, x in zip(scans, denoised, strict=True)]
    repeats = {}
    for k in range(options.repeated):
        fitted = repeatable_scan(
            scans[k], denoised[k], seed=k, liver=measured_liver(subject.truth), preset=scanner, attenuation=mu
        )
        again = fitted.fitted.scan.repeats(options.repeats, np.random.default_rng(k))
        repeats[k] = [(y, denoise(scans[k].with_suv(y, note="repeat")).suv) for y in again]
    for name, (threshold, fwhm) in RULES.items():
        rule = Delineation(threshold=threshold, voxel_size=size, min_volume=1.0, fwhm=fwhm)
        options_of = {"rule": rule, "voxel_size": size}
        drawn = [rule.of_either(*pair) for pair in pairs]
        changes = np.array(
            [burden_changes(*pair, regions=of, **options_of) for pair, of in zip(pairs, drawn, strict=True)]
        )
        for k, (pair, regions) in enumerate(zip(pairs, drawn, strict=True)):
            inside = regions.labels > 0
            fixed = np.array([(x - y)[inside].sum(dtype=np.float64) for y, x in pairs]) * voxel_volume(size)
            expected = dict(zip(list(QUANTITIES)[:3], np.delete(changes, k, axis=0).mean(axis=0), strict=True))
            expected["TLG, fixed"] = np.delete(fixed, k).mean()
            again = [burden_changes(*other, regions=regions, **options_of) for other in repeats.get(k, ())]
            images = dict(zip(("before", "after"), pair, strict=True))
            own = {n: rule.of(image) for n, image in images.items()}
            kinds: dict[str, dict[str, Any]] = {"counting": {"tlg_sd": counting_sd(pair[0], regions.labels, size)}}
            kinds |= {"repeats": {"repeats": SimpleNamespace(changes=np.array(again))}} if again else {}
            for (kind, given), (quantity, truth) in product(kinds.items(), expected.items()):
                table = burden_table(images, regions, voxel_size=size, own=own, **given)
                rows = table.set_index(["outlines", "image"])
                outlines, change, low = QUANTITIES[quantity]
                after = rows.loc[outlines, "after"]
                yield {
                    **{"patient": seed, "drf": drf, "scan": k, "rule": name, "by": kind, "change of": quantity},
                    **{"change": after[change], "expected": truth, "half": after[change] - after[low]},
                    "before": rows.loc[outlines, "before"]["tmtv_ml" if "TMTV" in quantity else "tlg"],
                }


def shown(rows: pd.DataFrame) -> str:
    """Coverage, and the error over the half width, by rule, outlines and dose."""
    rows = rows.dropna(subset=["half"]).copy()
    rows["held"] = (rows.change - rows.expected).abs() <= rows.half
    rows["error"], rows["width"] = (100 * v / rows.before for v in (rows.change - rows.expected, rows.half))
    groups = rows.groupby(["by", "change of", "drf", "rule"], sort=False)
    table = groups.agg(
        n=("held", "size"),
        held_percent=("held", lambda held: 100 * held.mean()),
        expected_change_percent=("expected", lambda v: 100 * (v / rows.loc[v.index].before).median()),
        median_error_percent=("error", "median"),
        rms_error_percent=("error", lambda v: (v**2).mean() ** 0.5),
        median_half_width_percent=("width", "median"),
    )
    return table.round(1).to_string()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=4)
    parser.add_argument("--scans", type=int, default=8, help="of each patient and dose")
    parser.add_argument("--repeated", type=int, default=2, help="of these, as many are repeated from their image alone")
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--drf", type=float, action="append", help="dose reduction factors, else 4 and 20")
    parser.add_argument("--seed", type=int, default=5000, help="of the first patient")
    parser.add_argument("--rows", help="CSV file to write every row to")
    options = parser.parse_args()
    denoise = Denoiser.from_bundle(device="cpu")
    rows = []
    for seed, drf in product(range(options.seed, options.seed + options.patients), options.drf or (4.0, 20.0)):
        rows += list(rows_of(seed, drf, denoise, options))
        if options.rows:
            pd.DataFrame(rows).to_csv(options.rows, index=False)
        print(f"patient {seed}, DRF {drf:g}: done", flush=True)
    print(shown(pd.DataFrame(rows)))


if __name__ == "__main__":
    main()
