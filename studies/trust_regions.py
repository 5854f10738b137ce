"""Choose how a region's measured and denoised SUV are combined, and how wide its interval is; show what it holds.

`python studies/trust_regions.py rows COHORT... --denoised FOLDER --rows rows.csv` measures regions that the product
draws on its own images (at SUV 4 with 1 mL, and at SUV 2.5 with 0.5 mL), beside the noise-free reconstruction.
`... fit --rows rows.csv --out bundles/unipet_3d/models/trust.json` chooses the rule on validation subjects for the
smallest RMS error, and the width of its intervals so that 95 % hold the truth, and shows both with each subject left
out in turn. `... judge --rows test.csv` only shows what the kept rule holds on other subjects.

FOLDER keeps the denoised images, COHORT_SUBJECT_drfNNN.npy; those that are missing are made by the shipped weights.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import date
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
from pipeline.trust.calibration import RULE_FEATURES, RecommendationRule, read_calibration
from pipeline.trust.noise_model import NOISE_FEATURES, scan_noise
from pipeline.trust.regions import (
    OUTLINE_FWHM,
    RegionParts,
    peak_sphere,
    recommend,
    region_parts,
    relative_noise,
    rule_features,
)

OUTLINES = ((4.0, 1.0), (2.5, 0.5))  # SUV, smallest volume [mL]
QUANTITIES = ("suv_mean", "suv_peak")
PARTS = ("measured", "measured_sd", "denoised", "difference")
FEWEST = 5  # regions that a class counts as at least
PENALTY = 2e-3  # of a squared coefficient, beside a mean squared error of about 1
LARGEST_ERROR = 0.3  # beyond, an error counts linearly


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
            parts = region_parts(y, x, box, mask, noise=noise, drawn=smooth >= threshold)
            places = ((box, mask), peak_sphere(x, box, mask, size)[:2])
            row: dict[str, object] = {
                **{"threshold": threshold, "number": number, "found_in": found.found_in[number - 1]},
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
    return [RegionParts(*values) for values in zip(*columns, rows.drawn_by_noise, strict=True)]


def weights_of(rows: pd.DataFrame, quantity: str) -> np.ndarray:
    """Weights that give each class of size, dose and outline a like say, in units of its better error, at least 1 %."""
    classes = [rows[name] for name in ("size", "drf", "threshold")]
    errors = [rows[f"{quantity}_{image}"] / rows[f"{quantity}_truth"] - 1 for image in ("denoised", "measured")]
    best = np.minimum(*((e**2).groupby(classes, observed=True).transform("mean") for e in errors))
    counts = rows.groupby(classes, observed=True).diameter.transform("size")
    weights = (1 / np.maximum(counts, FEWEST) / np.maximum(best, 1e-4)).to_numpy()
    return weights / len(rows.groupby(classes, observed=True))


def fitted_rule(
    parts: list[RegionParts], truth: np.ndarray, weights: np.ndarray, subjects: np.ndarray
) -> RecommendationRule:
    """Weight and shift for the smallest squared relative error; then the width by the likelihood, scaled to 95 %.

    Regions of one scanner err alike, so the scale is that of the subject that needs the largest, not of all together.
    """
    f = np.stack([rule_features(p) for p in parts])
    u = np.array([relative_noise(p) for p in parts])
    x, d = (np.array([getattr(p, name) for p in parts]) for name in ("denoised", "difference"))
    k = f.shape[1]

    def error(b: np.ndarray) -> np.ndarray:
        return (x + d / (1 + np.exp(-f @ b[:k]))) * np.exp(u * (f @ b[k:])) / truth - 1

    def loss(b: np.ndarray) -> float:
        e = np.abs(error(b))
        squared = np.where(e < LARGEST_ERROR, e**2, 2 * LARGEST_ERROR * e - LARGEST_ERROR**2)
        return float(weights @ squared + PENALTY * (b**2).sum())

    b = minimize(loss, np.zeros(2 * k), method="BFGS").x
    # Relative to the value, not to the truth, as an interval is stated.
    e = np.abs(1 - 1 / (1 + error(b)))

    def unlikely(c: np.ndarray) -> float:
        log_sd = f @ c
        return float(np.mean(log_sd + 3 * np.log1p((e * np.exp(-log_sd)) ** 2 / 5)) + PENALTY * (c**2).sum())

    c = minimize(unlikely, np.array([-3.0, 0, 0, 0]), method="BFGS").x
    z = e * np.exp(-f @ c)
    c[0] += np.log(max(np.quantile(z[subjects == subject], 0.95, method="higher") for subject in np.unique(subjects)))
    return RecommendationRule(*(tuple(np.round(v, 4).tolist()) for v in (b[:k], b[k:], c)))


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
    return (
        pd.DataFrame(
            {
                "n": groups.size(),
                "bias": groups.error.mean(),
                "bias_denoised": groups.error_denoised.mean(),
                "rms": groups.error.apply(rms),
                "rms_denoised": groups.error_denoised.apply(rms),
                "rms_measured": groups.error_measured.apply(rms),
                "held_95": 100 * groups.held.mean(),
                "half_width": groups.half.median(),
                "counting_held": 100 * groups.held_counting.mean(),
                "counting_half": groups.half_counting.median(),
            }
        )
        .round(1)
        .to_string()
    )


def classes(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that can be assessed, with their classes."""
    rows = rows[rows.suv_mean_truth > 0].copy()
    rows["size"] = pd.cut(rows.diameter, [0, 10, 15, 25, 1000], right=False)
    rows["contrast"] = pd.cut(np.exp(rows.suv_mean_contrast), [0, 1.5, 2.5, 4, 100])
    rows["all"] = "all"
    return rows


def show(found: pd.DataFrame, quantity: str) -> None:
    """Print tables of judged rows of a quantity."""
    for by in (["all"], ["threshold"], ["drf"], ["size"], ["contrast"], ["cohort"], ["found_in"], ["size", "drf"]):
        print(f"{quantity} by {' and '.join(by)}\n{table(found, by)}\n")
    product = found[found.threshold == OUTLINES[0][0]]
    print(f"{quantity}, only the product's own regions\n{table(product, ['size', 'drf'])}\n")


def fit(rows: pd.DataFrame, out: Path | None) -> None:
    """Fit the rules, show them with each subject left out, and keep them."""
    coefficients = json.loads(out.read_text())["noise_model"]["coefficients"] if out else {}
    noise = tuple(coefficients.get(name, 0.0) for name in NOISE_FEATURES)
    subjects = rows.cohort + rows.subject
    kept: dict[str, object] = {}
    left_out: dict[str, dict[str, float]] = {}
    for quantity in QUANTITIES:
        parts, truth = parts_of(rows, quantity, noise), rows[f"{quantity}_truth"].to_numpy()
        weights = weights_of(rows, quantity)

        def ruled(
            chosen: np.ndarray,
            parts: list[RegionParts] = parts,
            truth: np.ndarray = truth,
            weights: np.ndarray = weights,
        ) -> RecommendationRule:
            of = [p for p, c in zip(parts, chosen, strict=True) if c]
            return fitted_rule(of, truth[chosen], weights[chosen], subjects.to_numpy()[chosen])

        without = {subject: ruled((subjects != subject).to_numpy()) for subject in subjects.unique()}
        found = judged(rows, parts, [without[s] for s in subjects], quantity)
        show(found, quantity)
        left_out[quantity] = {
            "coverage_95": round(float(found.held.mean()), 3),
            "rms_error_percent": round(rms(found.error), 1),
            "rms_error_percent_denoised": round(rms(found.error_denoised), 1),
        }
        rule = ruled(np.ones(len(rows), dtype=bool))
        kept[quantity] = {name: dict(zip(RULE_FEATURES, values, strict=True)) for name, values in vars(rule).items()}
        print(json.dumps(kept[quantity]))
    kept["provenance"] = {
        "command": "python studies/trust_regions.py fit",
        "date": date.today().isoformat(),
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
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="JSON file whose section regions is written")
    args = parser.parse_args()
    if args.what == "rows":
        found = [s for c in args.cohorts for s in sorted(c.glob("sub-*"))]
        pd.DataFrame([r for s in found for r in rows_of(s, args.denoised)]).to_csv(args.rows, index=False)
        return
    rows = classes(pd.read_csv(args.rows))
    if args.what == "fit":
        fit(rows, args.out)
        return
    kept = read_calibration()
    for quantity in QUANTITIES:
        rule = getattr(kept, quantity)
        show(judged(rows, parts_of(rows, quantity, kept.noise), [rule] * len(rows), quantity), quantity)


if __name__ == "__main__":
    sys.exit(main())
