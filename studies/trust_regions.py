"""Choose how a region's measured and denoised SUV are combined, and how wide its interval is; show what it holds.

`python studies/trust_regions.py rows COHORT... --denoised FOLDER --rows rows.csv` measures regions that the product
draws on its own images (at SUV 4 with 1 mL, and at SUV 2.5 with 0.5 mL), beside the noise-free reconstruction.
`... fit --rows rows.csv --out bundles/unipet_3d/models/trust.json` chooses the rule on validation subjects: of a few
round sizes and weights those of the smallest squared error, then the width of the intervals so that 95 % hold the
truth; and shows both with each subject left out in turn. `... judge --rows test.csv` only shows what the kept rule
holds on other subjects, by class, for all regions and for true lesions.

A class of size and dose counts once as all regions and once as true lesions only, in units of the better error of the
denoised and the measured value. Regions without a recommended value are counted and left out. The subjects are those
of the validation cohorts of `data_manifests/simulated_v2.yaml` and `data_manifests/trust.yaml`, and to judge those of
the test cohorts of the latter. FOLDER keeps the denoised images, COHORT_SUBJECT_drfNNN.npy; those that are missing are
made by the shipped weights.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from denoised_images import denoised_image
from scipy.optimize import minimize

from pipeline.evaluation.quantification import each_region, sphere_mean
from pipeline.files import write_json
from pipeline.images import gaussian_filter_mm, regions_in_either
from pipeline.pet import PETSeries, read_pet
from pipeline.trust.calibration import RecommendationRule, read_calibration
from pipeline.trust.noise_model import NOISE_FEATURES, scan_noise
from pipeline.trust.regions import (
    LARGEST_NOISE_PART,
    OUTLINE_FWHM,
    RegionParts,
    measured_weight,
    peak_sphere,
    recommend,
    region_parts,
    resolution,
    smallness,
)

OUTLINES = ((4.0, 1.0), (2.5, 0.5))  # SUV, smallest volume [mL]
QUANTITIES = ("suv_mean", "suv_peak")
PARTS = ("measured", "measured_sd", "denoised", "difference")
FEWEST = 5  # regions that a class counts as at least
WEIGHTS = (  # what is tried for the ends of the weight: diameters [mm], then SUVmean over the threshold
    (10.0, 12.0, 14.0, 16.0),
    (18.0, 20.0, 25.0),
    (0.5, 1.0, 1.1, 1.2),
    (0.9, 1.4, 1.5, 1.75, 2.0),
)
START = np.array([np.log(2.0), 0.0, np.log(0.02)])  # where the width's coefficients begin
PENALTY = 2e-3  # of a squared distance from it, beside a mean of about 1


def rows_of(subject: Path, folder: Path) -> Iterator[dict[str, object]]:
    """One row per region, outline and dose."""
    (path,) = subject.glob("pet/*_rec-noisefree_pet.nii.gz")
    truth = read_pet(path).suv
    (labels,) = subject.glob("pet/*lesions_mask.nii.gz")
    lesions = np.asarray(nib.load(labels).dataobj) > 0
    for path in sorted(subject.glob("pet/*_rec-drf*_pet.nii.gz")):
        scan = read_pet(path)
        dose = path.name.split("rec-drf")[1].split("_")[0]
        x = denoised_image(scan, folder / f"{subject.parent.name}_{subject.name}_drf{dose}.npy")
        about = {"cohort": subject.parent.name, "subject": subject.name, "drf": float(dose)}
        for row in rows_of_scan(scan, x, truth, lesions):
            yield about | row


def rows_of_scan(scan: PETSeries, x: np.ndarray, truth: np.ndarray, lesions: np.ndarray) -> Iterator[dict[str, object]]:
    """One row per region and outline of one scan; SDs are those before the factor, whose features stand beside."""
    y, size = scan.suv, scan.voxel_size
    noise = scan_noise(y, voxel_size=size)
    smooth = gaussian_filter_mm(x, fwhm=OUTLINE_FWHM, voxel_size=size)
    for threshold, min_volume in OUTLINES:
        found = regions_in_either(y, x, voxel_size=size, threshold=threshold, min_volume=min_volume)
        for number, box, mask in each_region(found.labels):
            parts = region_parts(y, x, box, mask, noise=noise, drawn=smooth >= threshold, threshold=threshold)
            places = ((box, mask), peak_sphere(x, box, mask, size)[:2])
            row: dict[str, object] = {
                **{"threshold": threshold, "number": number, "found_in": found.found_in[number - 1]},
                "resolution": resolution(noise),
                **{"lesion": lesions[box][mask].mean(), "diameter": parts[0].diameter},
                **{"drawn_by_noise": parts[0].drawn_by_noise, "suv_mean_truth": truth[box][mask].mean(dtype=float)},
                "suv_peak_truth": sphere_mean(truth, box, size)[mask].max(),
            }
            for name, part, (place, inside) in zip(QUANTITIES, parts, places, strict=True):
                row |= {f"{name}_{field}": getattr(part, field) for field in PARTS}
                features = zip(NOISE_FEATURES, noise.features(inside, place), strict=True)
                row |= {f"{name}_{feature}": value for feature, value in features}
            yield row


def parts_of(rows: pd.DataFrame, quantity: str, noise: tuple[float, ...]) -> list[RegionParts]:
    """Parts of a quantity in every row, with the SD that the noise model's coefficients give."""
    features = rows[[f"{quantity}_{name}" for name in NOISE_FEATURES]].to_numpy()
    sd = rows[f"{quantity}_measured_sd"] * np.exp(features @ noise)
    columns = [rows.diameter, rows[f"{quantity}_measured"], sd, *(rows[f"{quantity}_{p}"] for p in PARTS[2:])]
    columns += [rows.drawn_by_noise, rows.suv_mean_denoised / rows.threshold]
    return [RegionParts(*values) for values in zip(*columns, strict=True)]


def weights_of(rows: pd.DataFrame, quantity: str) -> np.ndarray:
    """Weights by class of size and dose in units of its better error, at least 1 %: as all regions, and as lesions."""
    lesions = (rows.lesion > 0.5).to_numpy()
    weights = np.zeros(len(rows))
    for chosen in (np.ones(len(rows), dtype=bool), lesions):
        part = rows[chosen]
        by = [part[name] for name in ("size", "drf")]
        errors = [part[f"{quantity}_{image}"] / part[f"{quantity}_truth"] - 1 for image in ("denoised", "measured")]
        best = np.minimum(*((e**2).groupby(by, observed=True).transform("mean") for e in errors))
        counts = part.groupby(by, observed=True).diameter.transform("size")
        weights[chosen] += 1 / np.maximum(counts, FEWEST) / np.maximum(best, 1e-4)
    return weights / weights.sum()


def fitted_rules(rows: pd.DataFrame, noise: tuple[float, ...]) -> dict[str, RecommendationRule]:
    """Weight of the smallest squared relative error, one for all quantities, then the width of each one's intervals."""
    diameter, over = rows.diameter.to_numpy(), (rows.suv_mean_denoised / rows.threshold).to_numpy()
    truths = {quantity: rows[f"{quantity}_truth"].to_numpy() for quantity in QUANTITIES}
    says = {quantity: weights_of(rows, quantity) for quantity in QUANTITIES}

    def value(quantity: str, rule: RecommendationRule) -> np.ndarray:
        x, d = rows[f"{quantity}_denoised"].to_numpy(), rows[f"{quantity}_difference"].to_numpy()
        return x + measured_weight(diameter, over, rule) * d

    tried = [of for of in product(*WEIGHTS) if of[0] < of[1] and of[2] < of[3]]
    rules = [RecommendationRule(*of, counting=0.0, size_power=0.0, other=0.0) for of in tried]
    best = min(rules, key=lambda rule: sum(says[q] @ (value(q, rule) / truths[q] - 1) ** 2 for q in QUANTITIES))
    found = {}
    for quantity in QUANTITIES:
        sd = np.array([part.measured_sd for part in parts_of(rows, quantity, noise)])
        found[quantity] = replace(best, **fitted_width(rows, value(quantity, best), sd, truths[quantity]))
    return found


def fitted_width(rows: pd.DataFrame, value: np.ndarray, sd: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Coefficients of the half width, by the likelihood of the errors with each class alike, then scaled to 95 %.

    Regions of one scanner err alike, so the scale is the geometric mean of those that all regions together need and the
    subject that needs the largest.
    """
    # Relative to the value, as an interval is stated, not to the truth.
    e, u, small = np.abs(truth / value - 1), sd / value, smallness(rows.diameter)
    counts = rows.groupby(["size", "drf"], observed=True).diameter.transform("size").to_numpy()
    say = 1 / np.maximum(counts, FEWEST)
    say /= say.sum()

    def half(c: np.ndarray) -> np.ndarray:
        return np.hypot(np.exp(c[0]) * u * small ** c[1], np.exp(c[2]))

    def unlikely(c: np.ndarray) -> float:
        z = 2 * e / half(c)
        return float(say @ (np.log(half(c)) + 3 * np.log1p(z**2 / 5)) + PENALTY * ((c - START) ** 2).sum())

    c = minimize(unlikely, START, method="BFGS").x
    z = pd.Series(e / half(c), index=rows.index)
    needed = z.groupby(rows.cohort + rows.subject).quantile(0.95, interpolation="higher")
    scale = np.sqrt(z.quantile(0.95, interpolation="higher") * needed.max())
    coefficients = {"counting": scale * np.exp(c[0]), "size_power": c[1], "other": scale * np.exp(c[2])}
    return {name: round(float(value), 3) for name, value in coefficients.items()}


def judged(
    rows: pd.DataFrame, parts: list[RegionParts], rules: list[RecommendationRule], quantity: str
) -> pd.DataFrame:
    """Rows with the relative errors [%], whether the interval holds the truth, and its half width [%]."""
    truth = rows[f"{quantity}_truth"].to_numpy()
    value, low, high = np.array([recommend(p, r) for p, r in zip(parts, rules, strict=True)]).T
    measured, sd, denoised = (np.array([getattr(p, n) for p in parts]) for n in ("measured", "measured_sd", "denoised"))
    return rows.assign(
        error=100 * (value / truth - 1),
        error_denoised=100 * (denoised / truth - 1),
        error_measured=100 * (measured / truth - 1),
        held=(low <= truth) & (truth <= high),
        half=100 * (high - low) / 2 / value,
        held_counting=np.abs(measured - truth) <= 1.96 * sd,
        half_counting=196 * sd / measured,
    )


def rms(values: pd.Series) -> float:
    """Root of the mean square."""
    return float((values**2).mean() ** 0.5)


def table(rows: pd.DataFrame, by: list[str]) -> str:
    """Bias, RMS errors [%] and coverage in classes."""
    groups = rows.groupby(by, observed=True)
    errors = {f"rms{name}": groups[f"error{name}"].apply(rms) for name in ("", "_denoised", "_measured")}
    shown = {
        "n": groups.size(),
        "bias": groups.error.mean(),
        "bias_denoised": groups.error_denoised.mean(),
        **errors,
        "to_best": errors["rms"] / np.minimum(errors["rms_denoised"], errors["rms_measured"]),
        "held_95": 100 * groups.held.mean(),
        "half_width": groups.half.median(),
        "counting_held": 100 * groups.held_counting.mean(),
        "counting_half": groups.half_counting.median(),
    }
    return pd.DataFrame(shown).round({"to_best": 2} | dict.fromkeys(set(shown) - {"to_best"}, 1)).to_string()


def recommended(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that have a recommended value, with their classes; say how many have none, and why."""
    rows = rows[rows.suv_mean_truth > 0].assign(lesion_true=rows.lesion > 0.5)
    left = {"below the resolution": rows.diameter < rows.resolution}
    left["drawn by noise"] = ~left["below the resolution"] & (rows.drawn_by_noise > LARGEST_NOISE_PART)
    for why, out in left.items():
        found = rows[out].groupby("drf").lesion_true.agg(["size", "sum"])
        print(f"{why}: {out.sum()} of {len(rows)}, by dose all and true lesions\n{found.T.to_string()}\n")
    rows = rows[~np.any(list(left.values()), axis=0)].copy()
    rows["size"] = pd.cut(rows.diameter, [0, 10, 15, 25, 1000], right=False)
    rows["contrast"] = pd.cut(np.exp(rows.suv_mean_contrast), [0, 1.5, 2.5, 4, 100])
    rows["all"] = "all"
    rows["what"] = np.where(rows.lesion_true, "lesion", "other")
    return rows


def show(found: pd.DataFrame, quantity: str) -> None:
    """Print tables of judged rows of a quantity, and what they miss."""
    for by in (["all"], ["what"], ["threshold"], ["drf"], ["size"], ["contrast"], ["cohort"], ["size", "drf"]):
        print(f"{quantity} by {' and '.join(by)}\n{table(found, by)}\n")
    for name, part in {
        "true lesions": found[found.lesion_true],
        "only the product's own regions": found[found.threshold == OUTLINES[0][0]],
    }.items():
        print(f"{quantity}, {name}\n{table(part, ['size'])}\n{table(part, ['size', 'drf'])}\n")
    usual = found[(found.diameter >= 10) & found.drf.isin([4, 10, 20])]
    print(f"{quantity} from 10 mm\n{table(usual, ['drf'])}\n{table(usual[usual.lesion_true], ['drf'])}\n")


def fit(rows: pd.DataFrame, out: Path | None) -> None:
    """Fit the rules, show them with each subject left out, and keep them."""
    coefficients = json.loads(out.read_text())["noise_model"]["coefficients"] if out else {}
    noise = tuple(coefficients.get(name, 0.0) for name in NOISE_FEATURES)
    subjects = rows.cohort + rows.subject
    kept: dict[str, object] = {}
    left_out: dict[str, dict[str, float]] = {}
    without = {s: fitted_rules(rows[subjects != s], noise) for s in subjects.unique()}
    rules = fitted_rules(rows, noise)
    for quantity in QUANTITIES:
        parts = parts_of(rows, quantity, noise)
        found = judged(rows, parts, [without[s][quantity] for s in subjects], quantity)
        show(found, quantity)
        print(*(f"without {s}: {vars(rule[quantity])}" for s, rule in without.items()), sep="\n")
        print(f"all: {vars(rules[quantity])}")
        kept[quantity] = vars(rules[quantity])
        left_out[quantity] = {
            "coverage_95": round(float(found.held.mean()), 3),
            "rms_error_percent": round(rms(found.error), 1),
            "rms_error_percent_denoised": round(rms(found.error_denoised), 1),
            "rms_error_percent_measured": round(rms(found.error_measured), 1),
        }
    kept["provenance"] = {
        "command": "python studies/trust_regions.py fit",
        "date": date.today().isoformat(),
        "manifests": ["data_manifests/simulated_v2.yaml", "data_manifests/trust.yaml"],
        "cohorts": sorted(rows.cohort.unique()),
        "n_subjects": int(subjects.nunique()),
        "n_regions": len(rows),
        "dose_reduction_factors": sorted(rows.drf.unique()),
        "subject_left_out": left_out,
    }
    if out:
        write_json(out, json.loads(out.read_text()) | {"regions": kept})


def main() -> None:
    """Measure, fit or judge."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["rows", "fit", "judge"])
    parser.add_argument("cohorts", nargs="*", type=Path)
    parser.add_argument("--denoised", type=Path, help="folder of the denoised images")
    parser.add_argument("--rows", type=Path, nargs="+", required=True, help="written or, one or more, read")
    parser.add_argument("--out", type=Path, help="JSON file whose section regions is written")
    args = parser.parse_args()
    if args.what == "rows":
        found = [s for c in args.cohorts for s in sorted(c.glob("sub-*"))]
        pd.DataFrame([r for s in found for r in rows_of(s, args.denoised)]).to_csv(args.rows[0], index=False)
        return
    rows = recommended(pd.concat([pd.read_csv(path) for path in args.rows], ignore_index=True))
    if args.what == "fit":
        fit(rows, args.out)
        return
    kept = read_calibration()
    for quantity in QUANTITIES:
        rule = getattr(kept, quantity)
        show(judged(rows, parts_of(rows, quantity, kept.noise), [rule] * len(rows), quantity), quantity)


if __name__ == "__main__":
    sys.exit(main())
