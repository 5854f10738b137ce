"""What giving back at large scale does to SUV, PSNR, lesions and false hot spots, on a simulated cohort.

`unipet simulate COHORT --subjects 3 --seed 3000 --lesions 20 --drf 4 --drf 20 --drf 100`, then
`OMP_NUM_THREADS=1 python studies/conservation.py COHORT`: the method as it is shipped, but with other rules of giving
back: none, the same everywhere, the same in two classes of uptake, and in proportion to uptake, of several widths.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from scipy.signal import fftconvolve
from torch import Tensor

from pipeline import read_pet
from pipeline.constants import FWHM_PER_SIGMA
from pipeline.evaluation import PEAK_SUV, false_hot_spots, lesion_bias, psnr
from pipeline.images import ball_offsets
from pipeline.inference import ConservingInferer, Denoiser
from pipeline.inference.conservation import Gaussian
from pipeline.networks import tissue_mask

ORGANS = {"brain": 2, "lung": 3, "liver": 7, "bladder": 10, "muscle": 1}
SPHERE = 50.0  # [mm]
HOT = (4.0, 5.0, 10.0)  # SUV [g/mL], smallest component [mL], margin [mm]


def shares(lacking: Tensor, uptake: Tensor, size: tuple[float, ...], fwhm: float) -> Tensor:
    """What is given back of a lack in proportion to an uptake that is 0 outside of the class; all (X, Y, Z)."""
    gaussian = Gaussian(uptake, voxel_size=size, sigma=fwhm / FWHM_PER_SIGMA)
    inside, u = uptake > 0, uptake.double()

    def smooth(x: Tensor) -> Tensor:
        return torch.cat([piece for _, piece in gaussian.up(gaussian.down(lambda planes: x[planes]))])

    v = torch.ones_like(u)
    for _ in range(4):
        v = (v / smooth(u * v)).sqrt().where(inside, 1)
    return u * v * smooth((lacking / smooth(u * v)).where(inside, 0))


def variants(noisy: Tensor, denoised: Tensor, size: tuple[float, ...]) -> Iterator[tuple[str, Tensor]]:
    """Denoised images by rule."""
    lacking = noisy.double() - denoised
    body = tissue_mask(denoised[None, None], 0.1)[0, 0]
    threshold, volume, margin = HOT
    labels, n = ndimage.label((denoised > threshold).numpy())
    large = np.flatnonzero(np.bincount(labels.ravel(), minlength=n + 1) * np.prod(size) / 1000 >= volume)
    cool = ~np.isin(labels, large[large > 0])
    hot = torch.from_numpy(ndimage.distance_transform_edt(cool, sampling=size) <= margin) & body
    uptake = denoised.clamp_min(0.005) * body
    yield "nothing", denoised
    yield "the same, 30 mm", denoised + shares(lacking, body.float(), size, 30)
    two = sum(shares(lacking, (c & body).float(), size, 30) for c in (hot, ~hot))
    yield "the same in hot and other, 30 mm", denoised + two
    for fwhm in (20, 30, 40, 60):
        yield f"by uptake, {fwhm} mm", denoised + shares(lacking, uptake, size, fwhm)


def sphere_errors(image: np.ndarray, noisy: np.ndarray, body: np.ndarray, size: tuple[float, ...]) -> np.ndarray:
    """Error of the mean of every sphere in the body against the noisy scan [%]."""
    offsets = ball_offsets(SPHERE / 2, voxel_size=size)
    ball = np.zeros(2 * offsets.max(axis=0) + 1)
    ball[tuple((offsets + offsets.max(axis=0)).T)] = 1
    inside = fftconvolve(body.astype(float), ball, "same") > 0.95 * ball.sum()
    means = [fftconvolve(values * body, ball, "same")[inside] for values in (image, noisy)]
    return 100 * (means[0] / means[1] - 1)


def measured(folder: Path, denoiser: Denoiser) -> Iterator[dict[str, object]]:
    """Rows of one subject: one per dose and rule."""

    def labels(kind: str) -> np.ndarray:
        (path,) = folder.glob(f"*_desc-{kind}.nii.gz")
        return np.asanyarray(nib.load(path).dataobj).astype(int)

    full, true = (read_pet(next(folder.glob(f"*_rec-{name}_pet.nii.gz"))).suv for name in ("full", "noisefree"))
    organs, lesions = labels("organs_dseg"), labels("lesions_mask")
    regions = {"body": organs > 0, **{name: organs == label for name, label in ORGANS.items()}}
    regions["muscle"] = ndimage.binary_erosion(regions["muscle"], iterations=3)
    for path in sorted(folder.glob("*_rec-drf*_pet.nii.gz")):
        low = read_pet(path)
        size = tuple(float(side) for side in low.voxel_size)
        denoised = denoiser(low).suv
        for rule, result in variants(torch.from_numpy(low.suv), torch.from_numpy(denoised), size):
            image = np.maximum(result.float().numpy(), np.minimum(low.suv, 0))
            row: dict[str, object] = {"scan": path.name, "drf": path.name.split("drf")[1][:3], "rule": rule}
            row |= {name: 100 * (image[m].mean() / low.suv[m].mean() - 1) for name, m in regions.items()}
            errors = sphere_errors(image, low.suv, regions["body"], size)
            row["spheres RMS"], row["spheres max"] = np.sqrt(np.mean(errors**2)), np.abs(errors).max()
            row["PSNR full"] = psnr(image, full, data_range=PEAK_SUV)
            row["PSNR noise-free"] = psnr(image, true, data_range=PEAK_SUV)
            row["hot spots"] = len(false_hot_spots(image, true, voxel_size=size, mask=regions["body"]))
            table = lesion_bias(image, true, lesions, voxel_size=size)
            row["lesions"] = table.suv_mean_error_percent[table.diameter_mm >= 15].mean()
            yield row


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--bundle", type=Path, help="other weights than those that come along")
    args = parser.parse_args()
    shipped = Denoiser.from_bundle(args.bundle, device="cpu")
    if isinstance(shipped.inferer, ConservingInferer):
        shipped = replace(shipped, inferer=shipped.inferer.inferer)  # without what gives back
    rows = [row for folder in sorted(args.cohort.glob("sub-*/pet")) for row in measured(folder, shipped)]
    groups = pd.DataFrame(rows).groupby(["drf", "rule"], sort=False)
    print(groups.mean(numeric_only=True).round(2).to_string())
    print("largest of a subject\n", groups[list(ORGANS)].agg(lambda a: a.abs().max()).round(2).to_string())
