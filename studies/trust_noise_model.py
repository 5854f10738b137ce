"""Fit the factor of `pipeline.trust.noise_model` to true noise, and show how well it holds on scanners left out.

`python studies/trust_noise_model.py COHORT... --rows rows.csv --out bundles/unipet_3d/models/trust.json`, where each
COHORT is a folder of simulated subjects (`unipet simulate`), of training or validation. The noise of a scan is what
separates it from the noise-free reconstruction. A subject without one has its full dose instead, of which the low dose
is a part: their difference times sqrt(d / (d - 1)) has the variance of the low dose's own noise. Unfiltered
reconstructions are filtered first, by 2.5 to 7 mm, as training does.

One scan gives one error a place, no standard deviation, so the factor maximises the likelihood of normal errors.
Without --out it only measures.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from zlib import crc32

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from pipeline.files import write_json
from pipeline.images import ball_offsets, body_mask, equivalent_diameter, gaussian_filter_mm
from pipeline.pet import read_pet
from pipeline.trust.noise_model import NOISE_FEATURES, scan_noise

DIAMETERS = (8.0, 11.0, 15.0, 20.0, 28.0, 38.0, 50.0)  # [mm]
UPTAKE_QUANTILES = (0.5, 0.8, 0.95, 0.99)  # of the body: as many places in each class
PLACES_PER_CLASS = 30
SMALLEST_LESION = 8.0  # [mm]
FILTERS = (2.5, 3.5, 4.5, 5.5, 7.0)  # [mm] of unfiltered reconstructions


def places(expected: np.ndarray, voxel_size: tuple[float, float, float], rng: np.random.Generator) -> np.ndarray:
    """Voxels (n, 3) of the body, as many in each class of uptake."""
    smooth = gaussian_filter_mm(expected, fwhm=8, voxel_size=voxel_size)
    inside = np.flatnonzero(body_mask(expected, voxel_size=voxel_size))
    uptake = smooth.ravel()[inside]
    classes = np.digitize(uptake, np.quantile(uptake, UPTAKE_QUANTILES))
    chosen = [
        rng.choice(of, min(PLACES_PER_CLASS, len(of)), replace=False)
        for of in (inside[classes == k] for k in range(len(UPTAKE_QUANTILES) + 1))
    ]
    return np.stack(np.unravel_index(np.concatenate(chosen), expected.shape), axis=1)


def regions(
    expected: np.ndarray, lesions: np.ndarray, voxel_size: tuple[float, float, float], rng: np.random.Generator
) -> Iterator[tuple[str, float, tuple[slice, ...], np.ndarray]]:
    """Spheres in the body and lesions as drawn: kind, diameter [mm], box, and mask in it."""
    body = body_mask(expected, voxel_size=voxel_size)
    centres = places(expected, voxel_size, rng)
    for diameter in DIAMETERS:
        offsets = ball_offsets(diameter / 2, voxel_size=voxel_size)
        reach = offsets.max(axis=0)
        ball = np.zeros(2 * reach + 1, dtype=bool)
        ball[tuple((offsets + reach).T)] = True
        for centre in centres:
            if (centre < reach).any() or (centre + reach >= expected.shape).any():
                continue
            box = tuple(slice(c - r, c + r + 1) for c, r in zip(centre, reach, strict=True))
            if body[box][ball].mean() > 0.9:
                yield "sphere", diameter, box, ball
    for number, lesion in enumerate(ndimage.find_objects(lesions), start=1):
        if lesion is not None:
            mask = lesions[lesion] == number
            diameter = equivalent_diameter(int(mask.sum()), voxel_size=voxel_size)
            if diameter >= SMALLEST_LESION:
                yield "lesion", diameter, lesion, mask


def scans(subject: Path) -> Iterator[tuple[float, np.ndarray, np.ndarray, tuple[float, float, float], float]]:
    """Of every low dose: dose reduction factor, image, expectation, voxel size, and what their difference counts."""
    (reference,) = subject.glob("pet/*_rec-noisefree_pet.nii.gz") if has_truth(subject) else full_dose(subject)
    series = read_pet(reference)
    width = 0.0 if has_truth(subject) else FILTERS[crc32(str(subject.parent.name).encode()) % len(FILTERS)]
    expected = gaussian_filter_mm(series.suv, fwhm=width, voxel_size=series.voxel_size)
    for path in sorted(subject.glob("pet/*_rec-drf*_pet.nii.gz")):
        factor = float(path.name.split("rec-drf")[1].split("_")[0])
        image = gaussian_filter_mm(read_pet(path).suv, fwhm=width, voxel_size=series.voxel_size)
        yield factor, image, expected, series.voxel_size, 1.0 if has_truth(subject) else (factor / (factor - 1)) ** 0.5


def has_truth(subject: Path) -> bool:
    """Whether the noise-free reconstruction was kept."""
    return any(subject.glob("pet/*_rec-noisefree_pet.nii.gz"))


def full_dose(subject: Path) -> list[Path]:
    """The full-dose image of a subject."""
    return list(subject.glob("pet/*_rec-full_pet.nii.gz"))


def rows_of(subject: Path) -> Iterator[dict[str, object]]:
    """One row per region and dose: the error of the mean, the SD without the factor, and the features."""
    (record,) = subject.glob("pet/*_simulation.json")
    scanner = json.loads(record.read_text())["request"]["scanner"]["name"]
    (labels,) = subject.glob("pet/*lesions_mask.nii.gz")
    lesions = np.asarray(nib.load(labels).dataobj).astype(np.int32)
    for factor, image, expected, voxel_size, counts in scans(subject):
        noise = scan_noise(image, voxel_size=voxel_size)
        rng = np.random.default_rng(crc32(subject.parent.name.encode()))
        for kind, diameter, box, mask in regions(expected, lesions, voxel_size, rng):
            error = float((image[box][mask] - expected[box][mask]).mean(dtype=np.float64)) * counts
            yield {
                **{"cohort": subject.parent.name, "subject": subject.name, "scanner": scanner, "drf": factor},
                **{"kind": kind, "size_mm": diameter, "error": error, "field_sd": noise.field_sd(mask, box)},
                "mean": float(expected[box][mask].mean()),
                **dict(zip(NOISE_FEATURES, noise.features(mask, box), strict=True)),
            }


def fitted(rows: pd.DataFrame) -> np.ndarray:
    """Coefficients that maximise the likelihood of normal errors of SD field_sd x exp(features @ coefficients)."""
    x, log_sd = rows[list(NOISE_FEATURES)].to_numpy(), np.log(rows.field_sd.to_numpy())
    # Lesions are few and what it is for: they count as much as spheres, and each scanner as much as any other.
    weights = 1 / rows.groupby(["scanner", "kind"]).error.transform("size").to_numpy()
    weights /= weights.sum()
    b = np.zeros(x.shape[1])
    for _ in range(60):  # Newton's method
        squared = (rows.error.to_numpy() * np.exp(-log_sd - x @ b)) ** 2
        step = np.linalg.solve((x.T * (2 * weights * squared)) @ x, x.T @ (weights * (1 - squared)))
        b -= step * min(1, 0.5 / np.abs(step).max())
        if np.abs(step).max() < 1e-8:
            break
    return b


def standardised(rows: pd.DataFrame, coefficients: np.ndarray) -> pd.Series:
    """Errors over the SD of the model."""
    return rows.error / (rows.field_sd * np.exp(rows[list(NOISE_FEATURES)].to_numpy() @ coefficients))


def held_out(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with z, the standardised error by a fit that has not seen the row's scanner."""
    rows = rows.copy()
    for scanner in rows.scanner.unique():
        theirs = rows.scanner == scanner
        rows.loc[theirs, "z"] = standardised(rows[theirs], fitted(rows[~theirs]))
    return rows


def tables(rows: pd.DataFrame) -> Iterator[str]:
    """SD of the standardised errors in classes, and how often 95 % intervals held the truth."""

    def shown(by: str) -> str:
        groups = rows.groupby(by, observed=True).z
        table = pd.DataFrame({"n": groups.size(), "SD": groups.apply(lambda z: (z**2).mean() ** 0.5)})
        table["95 % held"] = groups.apply(lambda z: (z.abs() < 1.96).mean())
        return table.round(3).to_string()

    rows["SUV"] = pd.cut(rows["mean"], [0, 0.5, 1.5, 3, 6, 1000])
    rows["relative_contrast"] = pd.cut(np.exp(rows.contrast), [0, 0.8, 1.25, 2, 4, 100])
    rows["size"] = pd.cut(rows.size_mm, [0, 10, 15, 25, 40, 1000], right=False)
    rows["dose"] = pd.cut(rows.drf, [1, 3, 5, 15, 25, 50, 200])
    rows["all"] = "all"
    for by in ("all", "scanner", "dose", "size", "SUV", "relative_contrast", "kind"):
        yield shown(by)


def main() -> None:
    """Measure, fit, show, and write the coefficients."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cohorts", nargs="*", type=Path)
    parser.add_argument("--subjects", type=int, default=99, help="of each cohort, at most")
    parser.add_argument("--rows", type=Path, required=True, help="table of rows, read if it is there")
    parser.add_argument("--out", type=Path, help="JSON file whose section noise_model is written")
    args = parser.parse_args()
    if not args.rows.exists():
        found = [s for c in args.cohorts for s in sorted(c.glob("sub-*"))[: args.subjects]]
        measured = [row for subject in found for row in rows_of(subject)]
        pd.DataFrame(measured).to_csv(args.rows, index=False)
    rows = pd.read_csv(args.rows)
    coefficients = fitted(rows)
    print(dict(zip(NOISE_FEATURES, coefficients.round(4).tolist(), strict=True)))
    judged = held_out(rows)
    for table in tables(judged):
        print(table, end="\n\n")
    if args.out:
        kept = json.loads(args.out.read_text()) if args.out.exists() else {}
        kept["noise_model"] = {
            "coefficients": dict(zip(NOISE_FEATURES, coefficients.round(4).tolist(), strict=True)),
            "provenance": {
                "command": "python studies/trust_noise_model.py",
                "date": date.today().isoformat(),
                "cohorts": sorted(rows.cohort.unique()),
                "scanners": sorted(rows.scanner.unique()),
                "n_subjects": int(rows.groupby("cohort").subject.nunique().sum()),
                "n_errors": len(rows),
                "dose_reduction_factors": sorted(rows.drf.unique()),
                "scanner_left_out": {
                    "sd_of_standardised_errors": round(float((judged.z**2).mean() ** 0.5), 3),
                    "coverage_95": round(float((judged.z.abs() < 1.96).mean()), 3),
                },
            },
        }
        write_json(args.out, kept)


if __name__ == "__main__":
    sys.exit(main())
