"""What the evidence map and the support of spots say of simulated scans, whose noise-free image is known.

python studies/trust_evidence.py COHORTS... --doses 4 20 --denoised FOLDER --results FOLDER

COHORTS are folders of simulated subjects with a noise-free reconstruction. Denoised images are kept in one folder and
measurements in the other, so that a stopped run goes on. Prints tables in Markdown:

- changes listed on untouched outputs: true ones, of which half is confirmed by the noise-free image, and false;
- the part that is found of lesions erased in the output, and of balls put into it;
- false spots in a scan, those that are called supported, the area under the ROC, and the part of lesions supported;
- the distribution of the strongest false spot of a scan, away from its ends: what SIMULATED_NULL was fitted to.

A spot is true if the noise-free image has half of its excess over the background there, or half of what makes a spot.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from denoised_images import denoised_image
from scipy import ndimage

from pipeline.data import build_manifest, read_image
from pipeline.data.manifest import Subject
from pipeline.evaluation import Answers
from pipeline.images import ball_offsets, body_mask, equivalent_diameter, gaussian_filter_mm, numbered_lesions
from pipeline.pet.volumes import read_labels_on
from pipeline.trust.evidence import EVIDENCE_SCALES, Evidence, evidence_of_change
from pipeline.trust.noise_field import n_end_slices
from pipeline.trust.spots import (
    SIMULATED_NULL,
    SPOT_FWHM,
    LargestSpot,
    background_around,
    spots_of,
    support_in_words,
)

DIAMETERS = (10.0, 15.0, 20.0, 30.0)  # [mm] of balls
CONTRASTS = (2.0, 4.0, 8.0)
SIZES = ((8.0, 10.0), (10.0, 15.0), (15.0, 20.0), (20.0, 30.0), (30.0, 100.0))  # [mm]
CONTRAST_CLASSES = ((1.2, 2.0), (2.0, 4.0), (4.0, 8.0), (8.0, 100.0))
CHANGED_SIZES = ((10.0, 15.0), (15.0, 20.0), (20.0, 30.1))  # [mm] of what is erased or invented
CHANGED_CONTRASTS = ((2.0, 4.0), (4.0, 8.1))
APART = 50.0  # [mm] between balls, and from lesions
BLUR = 6.0  # [mm] of what is put in or taken out
MARGIN = 25.0  # [mm] around a lesion
TOLERANCE = 5.0  # [mm] from the surface of a lesion to the peak of the change that is found
N_DRAWS = 2000


@dataclass(frozen=True)
class Lesion:
    """A lesion, or a ball that was put in."""

    place: tuple[float, ...]
    """Centre [voxels]."""
    diameter: float
    """[mm]."""
    contrast: float
    """Mean over background."""
    box: tuple[slice, ...]
    distance: np.ndarray
    """Distance from it [mm] of the voxels of the box."""
    background: float
    """In the denoised image [g/mL]."""

    def row(self, **answers: bool) -> dict[str, Any]:
        """What is kept of it."""
        return {"diameter": self.diameter, "contrast": self.contrast, **answers}


class Scan:
    """One dose of a subject: noisy, denoised and noise-free [g/mL], its lesions and outline."""

    def __init__(self, subject: Subject, root: Path, dose: float, kept: Path) -> None:
        image = next(i for i in subject.low_dose if i.dose_reduction_factor == dose)
        series = read_image(image, root)
        noise_free = subject.image("noise_free")
        assert noise_free is not None, f"{subject.id}: no noise-free reconstruction"
        self.name = f"{root.name}_{subject.id}_drf{dose:03.0f}"
        self.voxel_size, self.noisy = series.voxel_size, series.suv
        self.noise_free = read_image(noise_free, root).suv
        self.denoised = denoised_image(series, kept / f"{self.name}.npy")
        self.body = body_mask(self.denoised, voxel_size=self.voxel_size)
        if subject.lesions is None:
            self.labels = np.zeros(self.noisy.shape, dtype=np.uint8)
        else:
            self.labels = numbered_lesions(read_labels_on(root / subject.lesions.path, series.grid))

    def box(self, part: Sequence[slice], margin: float) -> tuple[slice, ...]:
        """Return a part of the grid with a margin [mm] on all sides."""
        steps = [int(np.ceil(margin / side)) for side in self.voxel_size]
        bounds = zip(part, steps, self.noisy.shape, strict=True)
        return tuple(slice(max(p.start - n, 0), min(p.stop + n, size)) for p, n, size in bounds)

    def lesions(self) -> Iterator[Lesion]:
        """Each lesion: where it is, its distance map, and what it is in the noise-free image."""
        for number, part in enumerate(ndimage.find_objects(self.labels), start=1):
            if part is None:
                continue
            box = self.box(part, MARGIN)
            mask = self.labels[box] == number
            distance = ndimage.distance_transform_edt(~mask, sampling=self.voxel_size)
            rim = (distance > 5) & (distance < 15) & (self.labels[box] == 0) & self.body[box]
            if rim.any():
                background = float(np.median(self.noise_free[box][rim]))
                corner = np.array([axis.start for axis in box])
                yield Lesion(
                    place=tuple(float(i) for i in corner + ndimage.center_of_mass(mask)),
                    diameter=equivalent_diameter(int(mask.sum()), voxel_size=self.voxel_size),
                    contrast=float(self.noise_free[box][mask].mean() / max(background, 1e-3)),
                    box=box,
                    distance=distance,
                    background=float(np.median(self.denoised[box][rim])),
                )


def erase(scan: Scan, image: np.ndarray, lesion: Lesion) -> None:
    """Replace a lesion by its background, in place."""
    near = (lesion.distance <= BLUR).astype(np.float32)
    weight = gaussian_filter_mm(near, fwhm=BLUR, voxel_size=scan.voxel_size)
    image[lesion.box] += weight * np.minimum(lesion.background - image[lesion.box], 0)


def invent(scan: Scan, image: np.ndarray, rng: np.random.Generator) -> list[Lesion]:
    """Put balls of each diameter and contrast into the body, in place, far from each other and from lesions."""
    clear = ndimage.binary_erosion(scan.body, iterations=int(max(DIAMETERS) / 2 / min(scan.voxel_size)))
    last = np.array(clear.shape) - 1
    offsets = ball_offsets(APART, voxel_size=scan.voxel_size)
    for lesion in scan.lesions():
        clear[tuple(np.clip(np.round(lesion.place).astype(int) + offsets, 0, last).T)] = False
    balls = []
    for diameter, contrast in rng.permutation([(d, c) for d in DIAMETERS for c in CONTRASTS]):
        candidates = np.argwhere(clear)
        if not len(candidates):
            break
        place = candidates[rng.integers(len(candidates))]
        clear[tuple(np.clip(place + offsets, 0, last).T)] = False
        box = scan.box([slice(i, i + 1) for i in place], MARGIN + diameter / 2)
        axes = np.ogrid[box]
        distance = np.sqrt(sum(((a - p) * s) ** 2 for a, p, s in zip(axes, place, scan.voxel_size, strict=True)))
        background = float(np.median(scan.denoised[box][distance < 15]))
        if background < 0.2:
            continue
        inside = np.clip((diameter / 2 - distance) / min(scan.voxel_size) + 0.5, 0, 1).astype(np.float32)
        ball = gaussian_filter_mm(inside, fwhm=BLUR, voxel_size=scan.voxel_size)
        image[box] += (contrast - 1) * background * ball
        balls.append(Lesion(tuple(map(float, place)), float(diameter), float(contrast), box, distance, background))
    return balls


def is_found(change: str, lesion: Lesion, evidence: Evidence, voxel_size: Sequence[float]) -> bool:
    """Whether a change of that sign peaks in or beside a lesion."""
    table = evidence.regions[evidence.regions["change"] == change]
    place = np.array(lesion.place) * voxel_size
    distance = np.linalg.norm(table[["x_mm", "y_mm", "z_mm"]].to_numpy(float) - place, axis=1)
    return bool((distance <= lesion.diameter / 2 + TOLERANCE).any())


def measured_changes(scan: Scan, rng: np.random.Generator) -> dict[str, Any]:
    """Changes listed on the untouched output, and what is found of erased lesions and invented balls."""
    untouched = evidence_of_change(scan.noisy, scan.denoised, voxel_size=scan.voxel_size, body=scan.body)
    missing = {
        fwhm: gaussian_filter_mm(scan.noise_free - scan.denoised, fwhm=fwhm, voxel_size=scan.voxel_size)
        for fwhm in (EVIDENCE_SCALES if len(untouched.regions) else ())
    }
    near_lesion = ndimage.binary_dilation(scan.labels > 0, iterations=2)
    listed = []
    for row in untouched.regions.itertuples():
        voxel = tuple(np.round(np.array([row.x_mm, row.y_mm, row.z_mm]) / scan.voxel_size).astype(int))
        confirmed = float(missing[row.scale_mm][voxel]) / row.suv_removed
        listed.append({"change": row.change, "confirmed": confirmed, "at_lesion": bool(near_lesion[voxel])})
    changed = scan.denoised.copy()
    erased = [a for a in scan.lesions() if 10 <= a.diameter <= 30 and 2 <= a.contrast <= 8]
    for lesion in erased:
        erase(scan, changed, lesion)
    invented = invent(scan, changed, rng)
    found = evidence_of_change(scan.noisy, changed, voxel_size=scan.voxel_size, body=scan.body)
    rows = [
        [lesion.row(found=is_found(change, lesion, found, scan.voxel_size)) for lesion in lesions]
        for change, lesions in (("removed", erased), ("added", invented))
    ]
    return {"listed": listed, "erased": rows[0], "invented": rows[1]}


def measured_spots(scan: Scan) -> dict[str, Any]:
    """Spots of the output, true or false, and how the lesions are supported."""
    table = spots_of(scan.noisy, scan.denoised, voxel_size=scan.voxel_size, body=scan.body).spots
    voxels = np.round(table[["x_mm", "y_mm", "z_mm"]].to_numpy(float) / scan.voxel_size).astype(int)
    background = background_around(scan.noise_free, voxels, body=scan.body, voxel_size=scan.voxel_size)
    peak = ndimage.maximum_filter(scan.noise_free, 3)[tuple(voxels.T)]
    excess = table["suv_max"] - table["suv_background"]
    true = (peak - background > excess / 2) | (peak > 1.25 * background + 0.15)
    n_end = n_end_slices(SPOT_FWHM, scan.voxel_size[2])
    at_end = np.minimum(voxels[:, 2], scan.noisy.shape[2] - 1 - voxels[:, 2]) < n_end
    number = np.full(scan.noisy.shape, -1)
    number[tuple(voxels.T)] = np.arange(len(voxels))
    lesions = []
    for lesion in scan.lesions():
        inside = number[lesion.box][lesion.distance <= BLUR]
        lesions.append(lesion.row(spots=inside[inside >= 0].tolist()))
    return {
        "strength": table["strength"].tolist(),
        "excess": excess.tolist(),
        "true": true.tolist(),
        "at_end": at_end.tolist(),
        "lesions": lesions,
    }


def with_support(result: dict[str, Any]) -> dict[str, Any]:
    """The measurements of a scan with what today's rule says of its spots and lesions."""
    spots = result["spots"]
    probabilities = SIMULATED_NULL.probability(spots["strength"])
    spots["support"] = [
        support_in_words(float(p), at_end=end) for p, end in zip(probabilities, spots["at_end"], strict=True)
    ]
    for lesion in spots["lesions"]:
        lesion["supported"] = any(spots["support"][number] == "supported" for number in lesion["spots"])
    return result


def measured(scan: Scan, folder: Path) -> dict[str, Any]:
    """All of a scan, once."""
    path = folder / f"{scan.name}.json"
    folder.mkdir(parents=True, exist_ok=True)
    result = measured_changes(scan, np.random.default_rng(0)) | {"spots": measured_spots(scan)}
    path.write_text(json.dumps(result))
    return result


def area_with_interval(scans: list[dict[str, Any]], key: str) -> tuple[float, np.ndarray]:
    """Area under the ROC of all spots of some scans, and its draws over a bootstrap of the scans."""
    kinds = [(np.array(s["spots"][key]), np.array(s["spots"]["true"], dtype=bool)) for s in scans]
    right = np.array([[Answers(v[t], w[~u]).n_right for w, u in kinds] for v, t in kinds])
    pairs = np.array([[float(t.sum() * (~u).sum()) for _, u in kinds] for _, t in kinds])
    draws = np.random.default_rng(0).multinomial(len(scans), np.full(len(scans), 1 / len(scans)), size=N_DRAWS)
    areas = np.einsum("di,ij,dj->d", draws, right, draws) / np.maximum(np.einsum("di,ij,dj->d", draws, pairs, draws), 1)
    return float(right.sum() / max(pairs.sum(), 1)), areas


def part(lesions: list[dict[str, Any]], key: str, sizes: tuple[float, float], contrasts: tuple[float, float]) -> str:
    """Part of the lesions of a class for which a key is true, and their number."""
    values = [
        lesion[key]
        for lesion in lesions
        if sizes[0] <= lesion["diameter"] < sizes[1] and contrasts[0] <= lesion["contrast"] < contrasts[1]
    ]
    return f"{100 * np.mean(values):.0f} % of {len(values)}" if values else "-"


def print_changes(by_dose: dict[float, list[dict[str, Any]]]) -> None:
    """Print what is listed on untouched outputs, and what is found of erased lesions and invented balls."""
    print("| DRF | scans | listed a scan | true, at a lesion | true, elsewhere | false removed | false added |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for dose, scans in by_dose.items():
        table = pd.DataFrame(
            [row for scan in scans for row in scan["listed"]], columns=["change", "confirmed", "at_lesion"]
        )
        true, lesion = table["confirmed"] >= 0.5, table["at_lesion"].astype(bool)
        removed = table["change"] == "removed"
        counts = [
            len(table),
            (true & lesion).sum(),
            (true & ~lesion).sum(),
            (~true & removed).sum(),
            (~true & ~removed).sum(),
        ]
        print(f"| {dose:g} | {len(scans)} | " + " | ".join(f"{n / len(scans):.2f}" for n in counts) + " |")
    for kind in ("erased", "invented"):
        lesions = {dose: [a for scan in scans for a in scan[kind]] for dose, scans in by_dose.items()}
        print_classes(f"{kind}, found", "found", lesions, CHANGED_SIZES, CHANGED_CONTRASTS)


def print_classes(
    title: str,
    key: str,
    by_dose: dict[float, list[dict[str, Any]]],
    sizes: Sequence[tuple[float, float]],
    contrasts: Sequence[tuple[float, float]],
) -> None:
    """Print for which part of the lesions of each class and dose a key is true."""
    print(f"\n| {title}: mm, contrast | " + " | ".join(f"DRF {dose:g}" for dose in by_dose) + " |")
    print("|---|" + "---:|" * len(by_dose))
    for size, contrast in product(sizes, contrasts):
        cells = " | ".join(part(lesions, key, size, contrast) for lesions in by_dose.values())
        print(f"| {size[0]:g} to {size[1]:g}, {contrast[0]:g} to {contrast[1]:g} | {cells} |")


def print_spots(by_dose: dict[float, list[dict[str, Any]]]) -> None:
    """Print false spots, areas under the ROC, and the part of lesions that is supported."""
    print(
        "\n| DRF | true spots a scan | false | false, supported | true, supported "
        "| strongest false, not at an end | area: strength | area: excess | difference, 95 % interval |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for dose, scans in by_dose.items():
        rows = pd.concat([pd.DataFrame({k: v for k, v in s["spots"].items() if k != "lesions"}) for s in scans])
        true, named = rows["true"].astype(bool), rows["support"] == "supported"
        counts = [true.sum(), (~true).sum(), (~true & named).sum(), (true & named).sum()]
        (area, draws), (plain, plain_draws) = (area_with_interval(scans, key) for key in ("strength", "excess"))
        low, high = np.quantile(draws - plain_draws, [0.025, 0.975])
        strongest = max(strongest_false(scans), default=np.nan)
        numbers = " | ".join(f"{n / len(scans):.2f}" for n in counts)
        print(
            f"| {dose:g} | {numbers} | {strongest:.1f} | {area:.3f} | {plain:.3f} "
            f"| {area - plain:+.3f} ({low:+.3f} to {high:+.3f}) |"
        )
    lesions = {dose: [a for scan in scans for a in scan["spots"]["lesions"]] for dose, scans in by_dose.items()}
    print_classes("lesions supported", "supported", lesions, SIZES, CONTRAST_CLASSES)


def strongest_false(scans: list[dict[str, Any]]) -> list[float]:
    """Strength of the strongest false spot of each scan, the ends left out; a scan without any has none."""
    tables = [pd.DataFrame({key: scan["spots"][key] for key in ("strength", "true", "at_end")}) for scan in scans]
    values = [table["strength"][~table["true"].astype(bool) & ~table["at_end"].astype(bool)] for table in tables]
    return [float(v.max()) for v in values if len(v)]


def print_null(by_dose: dict[float, list[dict[str, Any]]]) -> None:
    """Print what SIMULATED_NULL is fitted to, and the fit."""
    print("\n| DRF | scans with a false spot | strength of the strongest: mean | SD | largest |")
    print("|---:|---:|---:|---:|---:|")
    strongest = {f"{dose:g}": strongest_false(scans) for dose, scans in by_dose.items()}
    for name, found in (strongest | {"all": [s for of_dose in strongest.values() for s in of_dose]}).items():
        values = pd.Series(found, dtype=float)
        print(f"| {name} | {len(values)} | {values.mean():.2f} | {values.std():.2f} | {values.max():.2f} |")
    if len(values) >= 3:
        null = LargestSpot.of_replicates(values)
        print(f"\nGumbel distribution of all: location {null.location:.2f}, scale {null.scale:.2f}")


def main() -> None:
    """Measure the scans and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohorts", type=Path, nargs="+", help="folders of simulated subjects")
    parser.add_argument("--doses", type=float, nargs="+", default=[2, 4, 10, 20, 50, 100])
    parser.add_argument("--denoised", type=Path, required=True, help="folder of denoised images, made where missing")
    parser.add_argument("--results", type=Path, required=True, help="folder of measurements, made where missing")
    options = parser.parse_args()
    subjects = [(subject, root) for root in options.cohorts for subject in build_manifest("simulated", root).subjects]
    by_dose: dict[float, list[dict[str, Any]]] = {}
    for dose in options.doses:
        for subject, root in subjects:
            path = options.results / f"{root.name}_{subject.id}_drf{dose:03.0f}.json"
            if path.exists():
                result = json.loads(path.read_text())
            else:
                result = measured(Scan(subject, root, dose, options.denoised), options.results)
            by_dose.setdefault(dose, []).append(with_support(result))
    print_changes(by_dose)
    print_spots(by_dose)
    print_null(by_dose)


if __name__ == "__main__":
    main()
