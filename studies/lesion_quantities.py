"""Compare the quantities of simulated lesions with those of MIRP, an independent library, and print the table.

`pip install 'unipet_3d[compare]'`, then `python studies/lesion_quantities.py COHORT... --scan drf004 --lesions 20`
takes lesions of at least 50 voxels from the subjects in turn. Both get the voxels of its label in the image as it is.
All quantities that MIRP has as well are compared, with percentiles, which have several definitions, among them.
"""

import argparse
import logging
import tempfile
from collections.abc import Iterator
from itertools import chain, islice, zip_longest
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from pipeline.evaluation import region_quantities
from pipeline.evaluation.quantification import each_region
from pipeline.images import Regions
from pipeline.pet import read_pet

MIRP_NAMES = {
    "suv_max": "stat_max",
    "suv_mean": "stat_mean",
    "suv_peak": "loc_peak_glob",
    "suv_peak_local": "loc_peak_loc",
    "mtv_ml": "morph_vol_approx",
    "mesh_volume_ml": "morph_volume",
    "suv_variance": "stat_var",
    "suv_skewness": "stat_skew",
    "suv_kurtosis": "stat_kurt",
    "suv_median": "stat_median",
    "suv_minimum": "stat_min",
    "suv_p10": "stat_p10",
    "suv_p90": "stat_p90",
    "suv_interquartile_range": "stat_iqr",
    "suv_range": "stat_range",
    "suv_mean_absolute_deviation": "stat_mad",
    "suv_robust_mean_absolute_deviation": "stat_rmad",
    "suv_median_absolute_deviation": "stat_medad",
    "suv_coefficient_of_variation": "stat_cov",
    "suv_quartile_coefficient_of_dispersion": "stat_qcod",
    "suv_energy": "stat_energy",
    "suv_root_mean_square": "stat_rms",
}
"""Our name of each quantity and MIRP's, which is IBSI's tag; volumes there are in mm^3."""

MAY_BE_ZERO = ("suv_skewness", "suv_kurtosis")
"""Their differences are those in percent of 1, where they are smaller."""

FEWEST_VOXELS = 50
MARGIN = 10  # voxels around a lesion that both see: more than the sphere of the peak reaches


def lesions_of(subject: Path, scan: str) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Image and mask around each lesion of a subject, and the affine of its grid."""
    (path,) = subject.glob(f"pet/*_rec-{scan}_pet.nii.gz")
    series = read_pet(path)
    (mask,) = subject.glob("pet/*lesions_mask.nii.gz")
    labels = np.asarray(nib.as_closest_canonical(nib.load(mask)).dataobj)
    for number, box, inside in each_region(labels):
        if np.count_nonzero(inside) >= FEWEST_VOXELS:
            around = tuple(slice(max(b.start - MARGIN, 0), b.stop + MARGIN) for b in box)
            yield series.suv[around], labels[around] == number, series.affine


def by_mirp(suv: np.ndarray, mask: np.ndarray, affine: np.ndarray) -> dict[str, float]:
    """Quantities by MIRP, without interpolation."""
    from mirp import extract_features

    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("image.nii.gz", "mask.nii.gz")]
        for path, array in zip(paths, (suv.astype(np.float32), mask.astype(np.uint8)), strict=True):
            nib.save(nib.Nifti1Image(array, affine), path)
        (table,) = extract_features(
            image=str(paths[0]),
            mask=str(paths[1]),
            base_feature_families=["statistical", "local_intensity", "morphological"],
            num_cpus=1,
        )
    found = {name: float(table[tag].iloc[0]) for name, tag in MIRP_NAMES.items()}
    return found | {name: found[name] / 1000 for name in ("mtv_ml", "mesh_volume_ml")}


def by_us(suv: np.ndarray, mask: np.ndarray, affine: np.ndarray) -> dict[str, float]:
    """Quantities by the product."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    regions = Regions(mask.astype(np.int32), "label")
    row = region_quantities(suv, regions, voxel_size=sizes, affine=affine).iloc[0]
    return {name: float(row[name]) for name in MIRP_NAMES}


def main() -> None:
    """Print the largest difference of every quantity over all lesions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohorts", type=Path, nargs="+", help="folders that unipet simulate wrote")
    parser.add_argument("--scan", default="drf004", help="which reconstruction, as its file name has it")
    parser.add_argument("--lesions", type=int, default=20, help="how many")
    arguments = parser.parse_args()
    subjects = (subject for cohort in arguments.cohorts for subject in sorted(cohort.glob("sub-*")))
    in_turn = chain.from_iterable(zip_longest(*(lesions_of(subject, arguments.scan) for subject in subjects)))
    lesions = list(islice((lesion for lesion in in_turn if lesion is not None), arguments.lesions))
    theirs, ours = (pd.DataFrame([measure(*lesion) for lesion in lesions]) for measure in (by_mirp, by_us))
    scale = theirs.abs()
    scale[list(MAY_BE_ZERO)] = scale[list(MAY_BE_ZERO)].clip(lower=1)
    difference = 100 * (ours - theirs).abs() / scale
    smallest, largest = ours.mtv_ml.min(), ours.mtv_ml.max()
    print(f"{len(lesions)} lesions of {smallest:.2f} to {largest:.1f} mL, largest difference from MIRP [%]\n")
    print("| quantity | median value | largest difference [%] |\n|---|---:|---:|")
    for name in MIRP_NAMES:
        print(f"| {name} | {ours[name].median():.4g} | {difference[name].max():.2g} |")


if __name__ == "__main__":
    main()
