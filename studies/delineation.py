"""Measure what each delineation makes of simulated lesions, whose volume and SUV are known, and print the tables.

`python studies/delineation.py COHORT... --subjects 1` draws the lesions of the first subjects of each
cohort in the noise-free image, at full dose and at a quarter of it, in a volume of 10 mm around each true label less
the other labels. Truth is the label's volume and the SUVmean of the simulated activity in it; of SUVpeak it is that
of the noise-free image in the label. Lesions are those from 10 mm on, by the sphere of equal volume. Then it searches
the whole body, with and without the physiological organs excluded, and counts what it finds.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from pipeline.errors import PETError
from pipeline.evaluation.quantification import each_region, measure_region, suv_mean, volume
from pipeline.images import (
    THRESHOLDS,
    Threshold,
    background_adapted,
    ball_offsets,
    delineated_regions,
    equivalent_diameter,
    liver_reference,
    percist_threshold,
    region_and_surroundings,
)
from pipeline.images.liver import LIVER_SPHERE_DIAMETER
from pipeline.pet import PETSeries, read_pet
from pipeline.simulation import ORGAN_LABELS

SCANS = {"noise-free": "noisefree", "full dose": "full", "DRF 4": "drf004"}
SIZES = {"10 to 15 mm": (10, 15), "15 to 30 mm": (15, 30), "from 30 mm": (30, np.inf)}
REACH = 10.0  # [mm] from a label to the border of the volume that a reader would draw around it
PHYSIOLOGICAL = ("brain", "myocardium", "kidney", "bladder", "bowel", "stomach", "liver", "spleen", "parotid")
MARGIN = 8.0  # [mm] that the mask of the organs reaches beyond them
SMALLEST = 1.0  # [mL]


def volume_of(subject: Path, name: str) -> np.ndarray:
    """Voxels of one file of a subject, on the grid as `read_pet` gives it."""
    (path,) = subject.glob(f"pet/*{name}.nii.gz")
    return np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj)


def thresholds_of(series: PETSeries, subject: Path) -> dict[str, Threshold]:
    """Every threshold, PERCIST by the liver that is found in the scan, where one is."""
    plain = THRESHOLDS | {"adaptive, 50 %": background_adapted(0.5)}
    try:
        reference = liver_reference(series)
    except PETError as error:
        print(f"{subject}: {error}")
        return plain
    return plain | {"PERCIST": percist_threshold(reference)}


def in_volumes(
    series: PETSeries, threshold: Threshold, lesions: np.ndarray, truth: np.ndarray, noise_free: np.ndarray
) -> pd.DataFrame:
    """One row per lesion, drawn in a volume of its own; `truth` is the simulated activity [g/mL], errors are in %."""
    size = series.voxel_size
    drawn = delineated_regions(
        series.suv, threshold, voxel_size=size, volumes_of_interest=around_each(lesions, size)
    ).labels
    boxes = ndimage.find_objects(drawn, max_label=int(lesions.max()))
    rows = []
    for number, box, mask in each_region(lesions):
        diameter = equivalent_diameter(int(mask.sum()), voxel_size=size)
        if diameter < SIZES["10 to 15 mm"][0]:
            continue
        true = {"volume": volume(mask, voxel_size=size), "suv_mean": suv_mean(truth[box], mask)}
        true |= {"tlg": true["volume"] * true["suv_mean"]}
        true |= {"suv_peak": measure_region(noise_free, box, mask, voxel_size=size)["suv_peak"]}
        row = {"lesion": number, "diameter": diameter, "drawn": boxes[number - 1] is not None, "dice": 0.0}
        if row["drawn"]:
            mine = drawn[boxes[number - 1]] == number
            found = measure_region(series.suv, boxes[number - 1], mine, voxel_size=size)
            found["volume"] = volume(mine, voxel_size=size)
            overlap = np.count_nonzero((drawn[box] == number) & mask)
            row["dice"] = 2 * overlap / (np.count_nonzero(mine) + np.count_nonzero(mask))
            row |= {name: 100 * (found[name] / value - 1) for name, value in true.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def in_body(series: PETSeries, threshold: Threshold, lesions: np.ndarray, exclude: np.ndarray | None) -> dict:
    """What a search of the whole body finds."""
    size = series.voxel_size
    found = delineated_regions(series.suv, threshold, voxel_size=size, min_volume=SMALLEST, exclude=exclude).labels
    holds_lesion = [(lesions[box][mask] > 0).any() for _, box, mask in each_region(found)]
    return {
        "lesions": len(np.unique(lesions)) - 1,
        "lesions_found": len(np.setdiff1d(np.unique(lesions[found > 0]), 0)),
        "regions_without": len(holds_lesion) - sum(holds_lesion),
        "tmtv": volume(found > 0, voxel_size=size),
        "true_tmtv": volume(lesions > 0, voxel_size=size),
    }


def measured(subject: Path, rows: list[pd.DataFrame], counts: list[dict]) -> None:
    """Append a subject's lesions in volumes of their own, and its whole body."""
    lesions, organs = volume_of(subject, "lesions_mask"), volume_of(subject, "organs_dseg")
    truth, noise_free = volume_of(subject, "desc-truth_pet"), volume_of(subject, "rec-noisefree_pet")
    physiological = np.isin(organs, [ORGAN_LABELS[name] for name in PHYSIOLOGICAL]) & (lesions == 0)
    for scan, name in SCANS.items():
        (path,) = subject.glob(f"pet/*_rec-{name}_pet.nii.gz")
        series = read_pet(path)
        from_organ = ndimage.distance_transform_edt(~physiological, sampling=series.voxel_size)
        excluded = {"nothing": None, "organs": physiological}
        excluded["organs and 8 mm"] = (from_organ <= MARGIN) & (lesions == 0)
        for label, threshold in thresholds_of(series, subject).items():
            about = {"subject": f"{subject.parent.name} {subject.name}", "scan": scan, "rule": label}
            rows.append(in_volumes(series, threshold, lesions, truth, noise_free).assign(**about))
            for where, exclude in excluded.items():
                counts.append(about | {"excluded": where} | in_body(series, threshold, lesions, exclude))


def around_each(lesions: np.ndarray, voxel_size: tuple[float, ...]) -> np.ndarray:
    """Each lesion with what lies up to 10 mm around it and in no other, nearer or not, as one volume."""
    volumes = lesions.astype(np.int32)
    for number, box, _ in each_region(lesions):
        around, _, allowed = region_and_surroundings(lesions, number, box, reach=REACH, voxel_size=voxel_size)
        free = allowed & (volumes[around] == 0)
        volumes[around][free] = number
    return volumes


def references(subject: Path) -> Iterator[str]:
    """Lines of Markdown: the liver that is found in a subject's scans, how much of it is liver, and its threshold."""
    organs = volume_of(subject, "organs_dseg")
    for name in ("noisefree", "full", "drf004", "drf020"):
        (path,) = subject.glob(f"pet/*_rec-{name}_pet.nii.gz")
        series = read_pet(path)
        found = liver_reference(series)
        voxel = np.round(np.linalg.solve(series.affine, [*found.center, 1.0])[:3]).astype(int)
        sphere = ball_offsets(LIVER_SPHERE_DIAMETER / 2, voxel_size=series.voxel_size) + voxel
        inside = 100 * np.mean(organs[tuple(sphere.T)] == ORGAN_LABELS["liver"])
        about = f"{subject.parent.name} {subject.name} | {name} | {inside:.0f}"
        yield f"| {about} | {found.suv_mean:.2f} | {found.suv_sd:.2f} | {found.threshold:.2f} |"


def tables(rows: pd.DataFrame, counts: pd.DataFrame) -> Iterator[str]:
    """Lines of Markdown: lesions in volumes of their own by scan and size, and the whole body."""
    yield "| scan | rule | drawn | volume [%] | SUVmean [%] | TLG [%] | SUVpeak [%] | Dice |"
    yield "|---|---|---:|---|---|---|---|---:|"
    for scan in SCANS:
        for rule in rows.rule.unique():
            some = rows[(rows.scan == scan) & (rows.rule == rule)]
            middle = " | ".join(quartiles(some[name]) for name in ("volume", "suv_mean", "tlg", "suv_peak"))
            yield f"| {scan} | {rule} | {some.drawn.sum()} of {len(some)} | {middle} | {some.dice.median():.2f} |"
    yield "\n| rule | " + " | ".join(f"volume, {size} [%]" for size in SIZES) + " |\n|---|" + "---|" * len(SIZES)
    for rule in rows.rule.unique():
        some = rows[(rows.scan == "full dose") & (rows.rule == rule)]
        cells = (quartiles(some.volume[some.diameter.between(*ends, inclusive="left")]) for ends in SIZES.values())
        yield f"| {rule} | {' | '.join(cells)} |"
    yield "\n| rule | excluded | lesions found | regions without lesion | TMTV, true TMTV [mL] |"
    yield "|---|---|---:|---:|---|"
    for (rule, excluded), some in counts[counts.scan == "full dose"].groupby(["rule", "excluded"], sort=False):
        total = some.sum(numeric_only=True)
        found = f"{total.lesions_found:.0f} of {total.lesions:.0f} | {total.regions_without:.0f}"
        yield f"| {rule} | {excluded} | {found} | {total.tmtv:.0f}, {total.true_tmtv:.0f} |"


def quartiles(values: pd.Series) -> str:
    """Median and quartiles as text."""
    if values.notna().sum() == 0:
        return "-"
    low, middle, high = values.quantile([0.25, 0.5, 0.75])
    return f"{middle:+.0f} ({low:+.0f} to {high:+.0f})"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohorts", type=Path, nargs="+", help="folders that unipet simulate wrote")
    parser.add_argument("--subjects", type=int, default=1, help="how many of each cohort")
    arguments = parser.parse_args()
    rows: list[pd.DataFrame] = []
    counts: list[dict] = []
    livers = ["\n| subject | scan | liver in the sphere [%] | mean | SD | threshold |\n|---|---|---:|---:|---:|---:|"]
    for cohort in arguments.cohorts:
        for subject in sorted(cohort.glob("sub-*"))[: arguments.subjects]:
            measured(subject, rows, counts)
            livers.extend(references(subject))
    print("\n".join([*tables(pd.concat(rows), pd.DataFrame(counts)), *livers]))


if __name__ == "__main__":
    main()
