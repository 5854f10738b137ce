"""Measure what training saw, fit the reading of the dose from noise, and keep both with the effects outside.

`python studies/trust_domain.py training COHORT... --rows training.csv` measures training scans as training sees them:
every subject once, at one of its doses, through the shipped augmentation. `... scans COHORT... --rows scans.csv`
measures every dose of subjects as they are. `... fit --training training.csv --scans scans.csv --outside outside.csv
--out bundles/unipet_3d/models/trust.json` fits and keeps the section ``domain``, with the table that
`studies/trust_outside.py` writes; `... judge --scans test.csv` shows what the kept reading of the dose holds on other
subjects.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.constants import STYLE_RANGE
from pipeline.errors import UndefinedMeasureError
from pipeline.files import write_json
from pipeline.images import body_mask, smoothed_noise_meter
from pipeline.pet import PETSeries, read_pet
from pipeline.trust.calibration import DOSE_FEATURES, read_calibration
from pipeline.trust.domain import dose_features, scan_measures, tracer_of
from pipeline.trust.unfamiliar import farthest_statistic

CLINICAL_COV = 0.10  # of the liver at full dose: presets of clinical scanners have 0.07 to 0.16
ONE_SIDED = ("body_width",)  # of which more does not matter


def noisy_images(subject: Path) -> list[tuple[float, Path]]:
    """Dose reduction factors of a subject and their images; full dose is 1."""
    found = []
    for path in sorted(subject.glob("pet/*_rec-*_pet.nii.gz")):
        dose = re.search(r"_rec-(full|drf(\d+))_pet", path.name)
        if dose:
            found.append((float(dose.group(2) or 1), path))
    return found


def row_of(series: PETSeries) -> dict[str, object]:
    """What `pipeline.trust.domain` measures of a scan, and what its dose is read from."""
    body = body_mask(series.suv, voxel_size=series.voxel_size)
    row: dict[str, object] = {"tracer": tracer_of(series.header)[0], "nuclide": series.header.radionuclide}
    for name, (low, high) in scan_measures(series, body=body).items():
        row |= {f"{name}_low": low, f"{name}_high": high}
    try:
        row["noise"] = smoothed_noise_meter(series.suv, voxel_size=series.voxel_size, body=body)
    except UndefinedMeasureError:
        row["noise"] = np.nan
    return row


def as_trained(series: PETSeries, augmentation: Callable[[dict[str, object]], dict[str, Any]]) -> PETSeries:
    """A scan as training sees it: cut around the body, filtered, on other voxels, with lesions, of another uptake."""
    import torch

    body = body_mask(series.suv, voxel_size=series.voxel_size)
    box = tuple(slice(max(int(k.min()) - 4, 0), int(k.max()) + 5) for k in np.nonzero(body))
    image = torch.from_numpy(series.suv[box])[None]
    data = {"image": image, "label": image.clone(), "voxel_size": torch.tensor(series.voxel_size)}
    seen = augmentation(data)
    affine = np.diag([*(float(v) for v in seen["voxel_size"]), 1.0])
    return PETSeries(suv=np.asarray(seen["image"][0]), affine=affine, header=series.header)


def training_rows(cohorts: list[Path], seed: int) -> Iterator[dict[str, object]]:
    """One row per training subject."""
    from monai.bundle import ConfigParser
    from monai.transforms import Compose

    from pipeline.shipped import own_bundle

    parser = ConfigParser()
    parser.read_config([str(own_bundle() / "configs" / f) for f in ("train.yaml", "methods/unipet.yaml")])
    # What makes a label of the full dose is of no matter here.
    names = [n for n, t in enumerate(parser["patches"]["augmentation"]) if "KeepLarge" not in str(t)]
    augmentation = Compose([parser.get_parsed_content(f"patches#augmentation#{n}") for n in names])
    augmentation.set_random_state(seed)
    for number, subject in enumerate(s for c in cohorts for s in sorted(c.glob("sub-*"))):
        images = noisy_images(subject)
        drf, path = images[number % len(images)]
        row = row_of(as_trained(read_pet(path), augmentation))
        yield {"cohort": subject.parent.name, "subject": subject.name, "drf": drf} | row


def scan_rows(cohorts: list[Path], n_subjects: int) -> Iterator[dict[str, object]]:
    """One row per image as it is, of so many subjects of each cohort at most."""
    for subject in (s for c in cohorts for s in sorted(c.glob("sub-*"))[:n_subjects]):
        about = {"cohort": subject.parent.name, "subject": subject.name} | about_dose(subject)
        for drf, path in noisy_images(subject):
            yield about | {"drf": drf} | row_of(read_pet(path))


def tables(paths: list[Path]) -> pd.DataFrame:
    """Tables one after the other."""
    return pd.concat([pd.read_csv(path) for path in paths], ignore_index=True)


def keep(rows: Iterator[dict[str, object]], path: Path) -> None:
    """Write a table as its rows come."""
    kept: list[dict[str, object]] = []
    for row in rows:
        kept.append(row)
        pd.DataFrame(kept).to_csv(path, index=False)


def clinical_factor(rows: pd.DataFrame) -> pd.Series:
    """Dose reduction factor relative to the dose that gives the liver the noise of `CLINICAL_COV`."""
    return rows.drf * (rows.liver_cov / CLINICAL_COV) ** 2


def fitted_dose(rows: pd.DataFrame) -> np.ndarray:
    """Coefficients of `DOSE_FEATURES`: how the dose goes with the noise within cohorts, and the mean of the cohorts."""
    terms = np.stack([dose_features(noise) for noise in rows.noise])[:, 1:]
    table = pd.DataFrame(terms).assign(dose=np.log(clinical_factor(rows)).to_numpy(), cohort=rows.cohort.to_numpy())
    means = table.groupby("cohort").transform("mean").to_numpy()
    within = table.drop(columns="cohort").to_numpy() - means
    slopes = np.linalg.lstsq(within[:, :-1], within[:, -1], rcond=None)[0]
    left = table.groupby("cohort").mean().to_numpy()
    return np.array([(left[:, -1] - left[:, :-1] @ slopes).mean(), *slopes])


def errors(rows: pd.DataFrame, coefficients: np.ndarray, true: pd.Series | None = None) -> pd.Series:
    """Logarithm of the read over the true factor, that of `clinical_factor` by default."""
    features = np.stack([dose_features(noise) for noise in rows.noise])
    true = clinical_factor(rows) if true is None else true
    return pd.Series(features @ coefficients - np.log(true.to_numpy()), index=rows.index)


def about_dose(subject: Path) -> dict[str, object]:
    """Scanner of a simulated subject, and the coefficient of variation of its liver's noise at full dose."""
    (path,) = subject.glob("pet/*_simulation.json")
    kept = json.loads(path.read_text())
    return {"scanner": kept["request"]["scanner"]["name"], "liver_cov": kept["liver_cov_target"]}


def shown(rows: pd.DataFrame, error: pd.Series, factor_95: float) -> None:
    """Print how far readings are from the true dose, and how often the interval holds it."""
    table = rows.assign(error=error, all="all")
    for by in ("all", "drf", "cohort"):
        groups = table.groupby(by).error
        columns = {
            "n": groups.size(),
            "read / true": np.exp(groups.mean()),
            "factor, 68 %": np.exp(groups.apply(lambda e: e.abs().quantile(0.68))),
            "factor, 95 %": np.exp(groups.apply(lambda e: e.abs().quantile(0.95))),
            "held [%]": 100 * groups.apply(lambda e: (e.abs() <= np.log(factor_95)).mean()),
        }
        print(pd.DataFrame(columns).round(2).to_string(), end="\n\n")


def ranges_of(rows: pd.DataFrame) -> dict[str, list[float | None]]:
    """Smallest and largest value of every respect, to three digits, outwards never inwards."""

    def rounded(value: float, to: Callable[[float], float]) -> float:
        if value == 0:
            return 0.0
        unit = 10.0 ** (np.floor(np.log10(abs(value))) - 2)
        return float(f"{to(value / unit) * unit:.6g}")

    names = [name.removesuffix("_low") for name in rows.columns if name.endswith("_low")]
    rows = rows.assign(negative_part_high=np.ceil(rows.negative_part_high))  # a hundredth of a percent is no matter
    lowest = {n: rounded(rows[f"{n}_low"].min(), np.floor) for n in names}
    return {n: [lowest[n], None if n in ONE_SIDED else rounded(rows[f"{n}_high"].max(), np.ceil)] for n in names}


def effects_of(rows: pd.DataFrame, ranges: dict[str, list[float | None]]) -> list[dict[str, object]]:
    """Mean differences of every grade that lies outside of the training, and where it lies."""
    found = []
    for (respect, grade), of_grade in rows[rows.respect.notna()].groupby(["respect", "grade"], sort=False):
        means = of_grade.mean(numeric_only=True)

        def difference(name: str, digits: int, means: pd.Series = means) -> float:
            return round(float(means[name] - means[f"{name}_inside"]), digits) + 0.0  # not -0

        effect = {
            "gain_db": difference("gain", 2),
            "body_percent": difference("body", 1),
            "lesion_percent": None if np.isnan(means.lesion) else difference("lesion", 1),
        }
        where: dict[str, object] | None = None
        if respect == "tracer":
            where = None if grade == "FDG" else {"respect": respect, "value": 0.0, "label": grade}
        elif respect == "noise":
            deviations = {name.removeprefix("noise_"): means[name] for name in means.index if name.startswith("noise_")}
            name, value = farthest_statistic(deviations)
            if abs(value) > STYLE_RANGE:
                where = {"respect": name, "value": round(float(value), 1)}
        else:
            low, high = means[f"{respect}_low"], means[f"{respect}_high"]
            lowest, highest = ranges[respect]
            above = highest is not None and high > highest
            if above or low < lowest:
                where = {"respect": respect, "value": float(f"{high if above else low:.3g}")}
        print(f"{respect}, {grade}: {where or 'inside'} {effect}, n = {len(of_grade)}")
        if where is not None:
            found.append(where | effect)
    return found


def fit(training: pd.DataFrame, scans: pd.DataFrame, outside: pd.DataFrame, out: Path) -> None:
    """Fit the reading of the dose, and keep it with ranges and effects."""
    rows = scans.dropna(subset="noise")
    error = pd.concat(
        [errors(rows[rows.cohort == c], fitted_dose(rows[rows.cohort != c])) for c in rows.cohort.unique()]
    )
    # Scans of one scanner err alike: what 95 % of the scanners need for 95 % of their scans.
    factor_95 = float(np.exp(error.abs().groupby(rows.cohort).quantile(0.95).quantile(0.95)))
    print(f"each cohort left out in turn, 95 % of them have 95 % of their scans within a factor of {factor_95:.2f}")
    shown(rows, error, factor_95)
    coefficients = fitted_dose(rows).round(4).tolist()
    ranges = ranges_of(training)
    nuclides = training.groupby("tracer").nuclide.unique()
    kept = {
        "dose": {
            "coefficients": dict(zip(DOSE_FEATURES, coefficients, strict=True)),
            "factor_95": round(factor_95, 2),
        },
        "training": ranges,
        "tracers": {str(tracer): sorted(of) for tracer, of in nuclides.items()},
        "effects": effects_of(outside, ranges),
        "provenance": {
            "command": "python studies/trust_domain.py fit",
            "date": date.today().isoformat(),
            "cohorts": sorted(set(rows.cohort) | set(training.cohort)),
            "clinical_dose": f"coefficient of variation of the liver's noise of {CLINICAL_COV}",
            "cohort_left_out": {"factor_95_of_scans": round(float(np.exp(error.abs().quantile(0.95))), 2)},
            "n_training_subjects": int(training.groupby("cohort").subject.nunique().sum()),
            "n_scans_of_dose": len(rows),
            "n_subjects_of_dose": int(rows.groupby("cohort").subject.nunique().sum()),
            "n_scans_outside": int(outside.respect.notna().sum()),
            "subjects_outside": sorted({f"{c}/{s}" for c, s in zip(outside.cohort, outside.subject, strict=True)}),
        },
    }
    write_json(out, json.loads(out.read_text()) | {"domain": kept})


def judge(scans: pd.DataFrame) -> None:
    """Show what the kept reading of the dose holds."""
    rule = read_calibration().dose
    rows = scans.dropna(subset="noise")
    print(f"interval: a factor of {rule.factor_95}; {len(scans) - len(rows)} scans without a reading")
    coefficients = np.array(rule.coefficients)
    print(f"against the dose that gives the liver a coefficient of variation of {CLINICAL_COV}")
    shown(rows, errors(rows, coefficients), rule.factor_95)
    print("against the scan's own full dose")
    shown(rows, errors(rows, coefficients, rows.drf), rule.factor_95)


def main() -> None:
    """Measure, fit or judge."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["training", "scans", "fit", "judge"])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--rows", type=Path, help="table that is written")
    parser.add_argument("--subjects", type=int, default=99, help="of each cohort, at most")
    parser.add_argument("--training", type=Path)
    parser.add_argument("--scans", type=Path, nargs="+", help="tables of scans with a known dose")
    parser.add_argument("--outside", type=Path)
    parser.add_argument("--out", type=Path, help="JSON file whose section domain is written")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.what == "training":
        keep(training_rows(args.folders, args.seed), args.rows)
    elif args.what == "scans":
        keep(scan_rows(args.folders, args.subjects), args.rows)
    elif args.what == "fit":
        fit(pd.read_csv(args.training), tables(args.scans), pd.read_csv(args.outside), args.out)
    else:
        judge(tables(args.scans))


if __name__ == "__main__":
    sys.exit(main())
