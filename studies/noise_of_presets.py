"""Noise of simulated subjects beside that of real scans: python studies/noise_of_presets.py FOLDER_OF_COHORTS.

Prints for each subject the liver's coefficient of variation and the correlation of neighbouring voxels there, both at
full dose, and the noise statistics that UniPET's style is made of, at full dose and at DRF 10.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from pipeline.data import build_manifest, read_image
from pipeline.data.manifest import Subject
from pipeline.images import find_liver
from pipeline.networks.noise.statistics import NOISE_STATISTICS, noise_statistics
from pipeline.simulation.noise_texture import noise_correlation

CUBE = 26.0  # [mm]
SUV_SCALE = 2.0


def statistics(suv: np.ndarray) -> str:
    """Write the statistics of a scan with two decimals."""
    scaled = torch.from_numpy(np.ascontiguousarray(suv) / np.float32(SUV_SCALE))[None, None]
    return " ".join(f"{value:.2f}" for value in noise_statistics(scaled, suv_scale=SUV_SCALE)[0].tolist())


def row(subject: Subject, root: Path) -> str:
    """Measure one subject: a line of the table."""
    full = read_image(subject.full_dose, root)
    middle = np.array(find_liver(full.suv, voxel_size=full.voxel_size))
    distance = [abs(np.arange(n) - c) * v for n, c, v in zip(full.suv.shape, middle, full.voxel_size, strict=True)]
    inside = np.ix_(*[d <= CUBE / 2 for d in distance])
    region = np.zeros(full.suv.shape, dtype=bool)
    region[inside] = True
    cube = full.suv[inside]
    low = next(image for image in subject.low_dose if image.dose_reduction_factor == 10)
    correlation = " / ".join(f"{c:.2f}" for c in noise_correlation(full.suv, region, voxel_size=full.voxel_size))
    voxels = " x ".join(f"{side:.4g}" for side in full.voxel_size)
    return (
        f"| {subject.id} | {voxels} | {cube.std() / cube.mean():.3f} "
        f"| {correlation} | {statistics(full.suv)} | {statistics(read_image(low, root).suv)} |"
    )


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="simulated cohorts with full dose and DRF 10")
    folder = parser.parse_args().folder
    print(f"| subject | voxels [mm] | liver CoV | X / Y / Z | full dose: {' '.join(NOISE_STATISTICS)} | DRF 10 |")
    print("|---|---|---:|---|---|---|")
    for subject in build_manifest("simulated", folder).subjects:
        print(row(subject, folder), flush=True)


if __name__ == "__main__":
    main()
