"""Push simulated scans outside of the training, one respect at a time, and measure what that does to denoising.

`python studies/trust_outside.py SUBJECT... --seeds SEED... --rows outside.csv` takes the part of each subject from its
bladder up, at two doses, denoises it as it is and pushed outside: coarse and fine voxels, few slices and many, a
transaxial field of view that cuts the body, other uptake, a hot bladder, SUV below 0, other noise. Tracers that
training never saw are simulated beside FDG with the same seeds. Each row says where the scan lay, what denoising gained
in PSNR and the bias of body and lesions, and the same of the scan inside over the same region.
`studies/trust_domain.py fit` keeps the mean differences.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from pipeline.constants import FWHM_PER_SIGMA, OSEM_NOISE_POWER
from pipeline.evaluation import PEAK_SUV, psnr
from pipeline.images import body_mask, equivalent_diameter, gaussian_filter_mm
from pipeline.inference import Denoiser
from pipeline.pet import PETHeader, PETSeries, read_pet
from pipeline.simulation.patient.organs import ORGAN_LABELS
from pipeline.simulation.patient.tracers.known import tracer_named
from pipeline.simulation.scanner.presets import scanner_preset
from pipeline.simulation.subject import simulate_subject
from pipeline.trust.domain import scan_measures

DOSES = (4, 20)
LENGTH = 450.0  # [mm] of a scan from the lower end of the bladder
SMALLEST = 10.0  # [mm] diameter of a lesion that counts
TRACERS = ("FLT", "NaF")


@dataclass(frozen=True)
class Case:
    """A noisy scan with its noise-free reconstruction, lesions, and what of the body is compared, all (X, Y, Z)."""

    noisy: np.ndarray
    truth: np.ndarray
    lesions: np.ndarray
    body: np.ndarray
    size: tuple[float, float, float]

    def changed(self, change: Callable[[np.ndarray], np.ndarray], **other: object) -> "Case":
        """The case with another noisy scan and truth."""
        return replace(self, noisy=change(self.noisy), truth=change(self.truth), **other)

    def part(self, box: tuple[slice, ...]) -> "Case":
        """A box of all volumes."""
        volumes = {name: getattr(self, name)[box] for name in ("noisy", "truth", "lesions", "body")}
        return replace(self, **volumes)

    @property
    def series(self) -> PETSeries:
        """The noisy scan."""
        return PETSeries(suv=self.noisy, affine=np.diag([*self.size, 1.0]), header=PETHeader(units="GML"))


def found(case: Case, denoised: np.ndarray) -> dict[str, float]:
    """Gain in PSNR [dB], and bias of body and lesions [%], of a denoised scan against the noise-free one."""
    gain = psnr(denoised, case.truth, data_range=PEAK_SUV, mask=case.body) - psnr(
        case.noisy, case.truth, data_range=PEAK_SUV, mask=case.body
    )
    ratios = []
    for number in np.unique(case.lesions[case.body & (case.lesions > 0)]):
        mask = case.lesions == number
        if equivalent_diameter(int(mask.sum()), voxel_size=case.size) >= SMALLEST:
            ratios.append(float(denoised[mask].mean()) / float(case.truth[mask].mean()))
    body = float(denoised[case.body].mean(dtype=float)) / float(case.truth[case.body].mean(dtype=float))
    return {"gain": gain, "body": 100 * (body - 1), "lesion": 100 * (np.mean(ratios) - 1) if ratios else np.nan}


def resized(case: Case, side: float) -> Case:
    """The case on cubic voxels of a side [mm]: coarse ones average, fine ones interpolate."""
    zoom = [s / side for s in case.size]

    def linear(x: np.ndarray) -> np.ndarray:
        return ndimage.zoom(
            gaussian_filter_mm(x, fwhm=0.9 * side, voxel_size=case.size) if side > 5 else x, zoom, order=1
        )

    nearest = {name: ndimage.zoom(getattr(case, name), zoom, order=0) for name in ("lesions", "body")}
    size = tuple(s * n / m for s, n, m in zip(case.size, case.noisy.shape, nearest["body"].shape, strict=True))
    return case.changed(linear, size=size, **nearest)


def with_noise(case: Case, factor: np.ndarray) -> Case:
    """The case with so many times its noise, (X, Y, Z) or alike, not below 0."""
    return replace(case, noisy=np.maximum(case.truth + factor * (case.noisy - case.truth), 0))


def with_hot_bladder(case: Case, bladder: np.ndarray, suv: float) -> Case:
    """The case with another SUV of the bladder, whose noise grows as OSEM's does; what it reaches is not compared."""
    soft = gaussian_filter_mm(bladder.astype(np.float32), fwhm=6.0, voxel_size=case.size)
    factor = 1 + (suv / case.truth[bladder].mean() - 1) * soft
    noise = (case.noisy - case.truth) * factor**OSEM_NOISE_POWER
    truth = case.truth * factor
    return replace(case, noisy=np.maximum(truth + noise, 0), truth=truth, body=case.body & (soft < 1e-3))


def longer(case: Case, times: int) -> Case:
    """The case mirrored at its ends again and again; only its first copy is compared."""

    def mirrored(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x if k % 2 == 0 else x[..., ::-1] for k in range(times)], axis=2)

    def alone(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x] + [np.zeros_like(x)] * (times - 1), axis=2)

    return case.changed(mirrored, lesions=alone(case.lesions), body=alone(case.body))


def middle(n: int, kept: int) -> slice:
    """The middle of n voxels."""
    return slice(max((n - kept) // 2, 0), max((n - kept) // 2, 0) + min(kept, n))


def pushed(case: Case, bladder: np.ndarray, *, costly: bool) -> Iterator[tuple[str, str, Case, Case | None]]:
    """Respect, grade, case outside, and the part of the case inside that it is compared with; None is all of it."""
    n_x, _, n_z = case.noisy.shape
    whole = (slice(None),) * 3
    for side in (8.0, 12.0):
        yield "voxel_size", f"{side:g} mm", resized(case, side), None
    if costly:
        part = case.part((*whole[:2], middle(n_z, round(120 / case.size[2]))))
        yield "voxel_size", "1.2 mm", resized(part, 1.2), part
        yield "axial_extent", "times 4", longer(case, 4), None
    for slices in (8, 16, 32):
        part = case.part((*whole[:2], middle(n_z, slices)))
        yield "axial_extent", f"{slices} slices", part, part
    for width in (120, 240):
        part = case.part((middle(n_x, round(width / case.size[0])), *whole[1:]))
        yield "body_width", f"{width} mm", part, part
    for factor in (0.1, 0.3, 3.0, 6.0):
        yield "body_mean", f"times {factor:g}", case.changed(lambda x, f=factor: x * np.float32(f)), None
    for suv in (300.0, 900.0):
        hot = with_hot_bladder(case, bladder, suv)
        yield "highest_suv", f"bladder of {suv:g}", hot, replace(case, body=hot.body)
    for offset in (0.2, 0.4):
        yield "negative_part", f"less {offset:g}", case.changed(lambda x, c=offset: x - np.float32(c)), None
    ramp = np.linspace(0.25, 1.75, n_x, dtype=np.float32)[:, None, None]
    yield "noise", "7 times from left to right", with_noise(case, ramp), None
    axial = case.changed(lambda x: ndimage.gaussian_filter1d(x, 25 / FWHM_PER_SIGMA / case.size[2], axis=2))
    yield "noise", "axial Gaussian of 25 mm", axial, None
    # Of every voxel by itself, as strong as that of the scan.
    sd = (
        np.std(case.noisy - case.truth, where=case.body)
        * (case.truth / case.truth[case.body].mean()) ** OSEM_NOISE_POWER
    )
    noise = np.random.default_rng(0).normal(size=case.noisy.shape)
    yield "noise", "independent voxels", replace(case, noisy=np.maximum(case.truth + sd * noise, 0)), None


def case_of(subject: Path, drf: int) -> tuple[Case, np.ndarray]:
    """A subject from its bladder up, cut around its body, and the bladder."""

    def volume(name: str) -> np.ndarray:
        (path,) = subject.glob(f"pet/*_{name}.nii.gz")
        return np.asarray(nib.load(path).dataobj)

    (noisy,) = subject.glob(f"pet/*_rec-drf{drf:03d}_pet.nii.gz")
    (truth,) = subject.glob("pet/*_rec-noisefree_pet.nii.gz")
    series, free = read_pet(noisy), read_pet(truth).suv
    bladder = volume("desc-organs_dseg") == ORGAN_LABELS["bladder"]
    body = body_mask(free, voxel_size=series.voxel_size)
    x, y = (np.flatnonzero(body.any(axis=k)) for k in ((1, 2), (0, 2)))
    first = int(np.flatnonzero(bladder.any(axis=(0, 1)))[0])
    planes = slice(max(first - 5, 0), first + round(LENGTH / series.voxel_size[2]))
    box = (slice(max(x[0] - 4, 0), x[-1] + 5), slice(max(y[0] - 4, 0), y[-1] + 5), planes)
    case = Case(series.suv, free, volume("desc-lesions_mask"), body, series.voxel_size).part(box)
    return case, bladder[box]


def rows_of(subject: Path, drf: int, denoise: Denoiser, *, costly: bool) -> Iterator[dict[str, object]]:
    """One row per push of a subject at a dose."""
    case, bladder = case_of(subject, drf)
    inside = denoise(case.series).suv
    about = {"cohort": subject.parent.name, "subject": subject.name, "drf": drf}
    yield about | {"respect": "", "grade": "inside"} | found(case, inside) | measures(case, denoise)
    for respect, grade, outside, compared in pushed(case, bladder, costly=costly):
        compared = compared or case
        if compared.noisy.shape == case.noisy.shape:
            reference = found(compared, inside)
        else:
            # The same voxels of the scan that was denoised whole.
            reference = found(compared, matched(inside, case, compared))
        row = about | {"respect": respect, "grade": grade} | measures(outside, denoise)
        here = found(outside, denoise(outside.series).suv)
        yield row | here | {f"{name}_inside": value for name, value in reference.items()}


def matched(inside: np.ndarray, case: Case, part: Case) -> np.ndarray:
    """The middle of a denoised scan that has a part's shape."""
    box = tuple(middle(n, m) for n, m in zip(case.noisy.shape, part.noisy.shape, strict=True))
    return inside[box]


def measures(case: Case, denoise: Denoiser) -> dict[str, float]:
    """Where a scan lies."""
    series = case.series
    of_scan = scan_measures(series, body=body_mask(series.suv, voxel_size=series.voxel_size))
    ends = {f"{name}_{end}": v for name, pair in of_scan.items() for end, v in zip(("low", "high"), pair, strict=True)}
    return ends | {f"noise_{name}": sd for name, sd in denoise.style_deviation(series).items()}


def tracer_rows(seeds: list[int], denoise: Denoiser) -> Iterator[dict[str, object]]:
    """One row per tracer, seed and dose, beside FDG in the same scanner."""
    scanner = scanner_preset("discovery_st")
    for seed in seeds:
        kept: dict[tuple[str, int], dict[str, float]] = {}
        for name in ("FDG", *TRACERS):
            subject = simulate_subject(
                seed,
                scanner=scanner,
                dose_reduction_factors=DOSES,
                n_lesions=20,
                axial_extent=200.0,
                tracer=tracer_named(name),
            )
            body = body_mask(subject.noise_free, voxel_size=scanner.voxel_size)
            for drf in DOSES:
                case = Case(
                    subject.low_dose[drf], subject.noise_free, subject.truth.lesion_labels, body, scanner.voxel_size
                )
                kept[name, drf] = found(case, denoise(case.series).suv)
                about = {"cohort": "simulated", "subject": seed, "drf": drf, "respect": "tracer", "grade": name}
                inside = {f"{key}_inside": value for key, value in kept["FDG", drf].items()}
                yield about | measures(case, denoise) | kept[name, drf] | inside


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("subjects", nargs="*", type=Path)
    parser.add_argument("--seeds", nargs="*", type=int, default=[], help="of the patients with other tracers")
    parser.add_argument("--rows", type=Path, required=True)
    args = parser.parse_args()
    denoise = Denoiser.from_bundle(device="cpu")
    kept: list[dict[str, object]] = []

    def keep(rows: Iterator[dict[str, object]]) -> None:
        for row in rows:
            kept.append(row)
            pd.DataFrame(kept).to_csv(args.rows, index=False)

    for number, subject in enumerate(args.subjects):
        for drf in DOSES:
            keep(rows_of(subject, drf, denoise, costly=number == 0 and drf == DOSES[-1]))
    keep(tracer_rows(args.seeds, denoise))


if __name__ == "__main__":
    sys.exit(main())
