"""How near the noise of a scan's repeats comes to the true noise of a simulated scan, and what repeating costs.

`unipet simulate COHORT --subjects 2 --seed 3000 --lesions 20 --drf 4 --drf 20`, then
`OMP_NUM_THREADS=1 python studies/trust_repeats.py COHORT --drf 4 --drf 20 --repeats 6`: each low dose and its denoised
image are all that the repeats know of, and, unless `--without-map`, the attenuation. The true noise is the low dose
less the reconstruction without noise. The error of a ratio is that of one draw of the noise, by the spread of the
repeats.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from denoised_images import denoised_image
from scipy import ndimage

from pipeline import read_pet
from pipeline.pet import PETSeries
from pipeline.simulation import ORGAN_LABELS, Scanner, scanner_preset
from pipeline.simulation.noise_texture import noise_correlation
from pipeline.trust.repeats import repeatable_scan

REGIONS = ("body", "liver", "lung", "lesions")


def volume(folder: Path, kind: str) -> np.ndarray:
    """Return the voxels of a map of a subject."""
    (path,) = folder.glob(f"*_desc-{kind}.nii.gz")
    return np.asarray(nib.load(path).dataobj)


def regions_of(folder: Path) -> dict[str, np.ndarray]:
    """Return the true regions, with the slices at both ends."""
    organs, lesions = volume(folder, "organs_dseg"), volume(folder, "lesions_mask")
    masks = (organs > 0, organs == ORGAN_LABELS["liver"], organs == ORGAN_LABELS["lung"], lesions > 0)
    return dict(zip(REGIONS, masks, strict=True))


def rows_of(
    noisy: PETSeries, denoised: PETSeries, folder: Path, *, n_repeats: int, preset: Scanner, with_map: bool
) -> Iterator[dict[str, object]]:
    """Yield the ratio of the SD by region, the difference of the correlation along each axis, and CPU seconds."""
    regions = regions_of(folder)
    true = noisy.suv - read_pet(next(folder.glob("*_rec-noisefree_pet.nii.gz"))).suv
    attenuation = volume(folder, "attenuation_map").astype(np.float32) if with_map else None
    start = time.process_time()
    scan = repeatable_scan(noisy, denoised, seed=1, preset=preset, attenuation=attenuation)
    fitted = time.process_time()
    repeats = scan.fitted.scan.repeats(n_repeats, np.random.default_rng(2))
    found: dict[str, list[float]] = {name: [] for name in regions}
    correlations = []
    liver = ndimage.binary_erosion(regions["liver"])
    for image in repeats:
        noise = image - denoised.suv
        for name, region in regions.items():
            found[name].append(float(noise[region].std(dtype=np.float64)))
        correlations.append(noise_correlation(noise, liver, voxel_size=noisy.voxel_size))
    cost = {"fit [CPU-s]": fitted - start, "repeat [CPU-s]": (time.process_time() - fitted) / (n_repeats + 1)}
    for name, region in regions.items():
        sd = np.array(found[name])
        ratio = float(np.sqrt(np.mean(sd**2)) / true[region].std(dtype=np.float64))
        yield {"what": f"SD in {name}", "value": ratio, "error": ratio * sd.std(ddof=1) / sd.mean()}
    of_true = noise_correlation(true, liver, voxel_size=noisy.voxel_size)
    for axis, mine, theirs in zip("XYZ", np.transpose(correlations), of_true, strict=True):
        yield {"what": f"correlation along {axis}", "value": mine.mean() - theirs, "error": mine.std(ddof=1)}
    for name, seconds in cost.items():
        yield {"what": name, "value": seconds, "error": np.nan}
    yield {"what": "prompts [1e6]", "value": scan.fitted.scan.prompts / 1e6, "error": np.nan}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohorts", type=Path, nargs="+", help="folders of simulated subjects, or subjects")
    parser.add_argument("--drf", type=int, action="append", help="dose reduction factors, else 4 and 20")
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--scanner", default="generic", help="preset that the repeats are made on")
    parser.add_argument("--without-map", action="store_true", help="take the body for water")
    parser.add_argument("--kept", type=Path, help="folder of denoised images, COHORT_SUBJECT_drfNNN.npy")
    args = parser.parse_args()
    rows = []
    folders = [f for cohort in args.cohorts for f in [*cohort.glob("sub-*/pet"), *cohort.glob("pet")]]
    for folder in sorted(folders):
        for drf in args.drf or (4, 20):
            noisy = read_pet(next(folder.glob(f"*_rec-drf{drf:03d}_pet.nii.gz")))
            name = f"{folder.parents[1].name}_{folder.parent.name}_drf{drf:03d}"
            kept = None if args.kept is None else args.kept / f"{name}.npy"
            denoised = noisy.with_suv(denoised_image(noisy, kept))
            preset, with_map = scanner_preset(args.scanner), not args.without_map
            for row in rows_of(noisy, denoised, folder, n_repeats=args.repeats, preset=preset, with_map=with_map):
                rows.append({"scan": name, "drf": drf} | row)
            table = pd.DataFrame(rows)
            print(table[table.scan == name].round(3).to_string(index=False), flush=True)
    ratios = pd.DataFrame(rows)
    print(ratios.groupby(["drf", "what"], sort=False).value.agg(["mean", "min", "max"]).round(3).to_string())


if __name__ == "__main__":
    main()
