"""How uneven tissue is at several scales: a real scan beside simulated patients on the same kind of scanner.

python studies/tissue_texture.py SCAN --preset discovery_st --seeds 11 12

Regions are drawn on the images by one rule for all: by the SUV of the image smoothed by 16 mm, by depth below the skin,
and by distance from hot organs. In each the standard deviation of a band (the difference of two Gaussian filters) is
given in percent of the mean. Of a simulated patient the noise-free reconstruction is measured, too: what noise adds is
the difference.
"""

import argparse

import numpy as np
from scipy import ndimage

from pipeline.images.gaussian import gaussian_filter_mm
from pipeline.pet import read_pet
from pipeline.simulation import scanner_preset, simulate_subject

BANDS = ((8.0, 16.0), (16.0, 32.0), (32.0, 64.0))  # full widths at half maximum [mm]
REGIONS = {
    "soft": (25.0, 1000.0, 30.0, 0.45, 1.2),
    "thighs": (25.0, 1000.0, 30.0, 0.45, 1.2),
    "warm": (25.0, 1000.0, 25.0, 1.2, 2.5),
    "rim": (8.0, 22.0, 30.0, 0.0, 9.0),
}
"""Least and largest depth [mm], least distance from hot organs [mm], least and largest smoothed SUV [g/mL]."""
THIGHS = 160.0  # [mm] above the lower end, for the region of that name: muscle alone
HOT, BODY = 3.0, 0.15  # smoothed SUV [g/mL]
N_END_SLICES = 8
HEAD = 245.0  # [mm] below the upper end that are left out of simulated scans: the real one begins at the chin


def regions(image: np.ndarray, voxel_size: tuple[float, float, float], *, head: float) -> dict[str, np.ndarray]:
    """Regions by name, boolean arrays of the image's shape (X, Y, Z)."""
    smooth = gaussian_filter_mm(image, fwhm=16.0, voxel_size=voxel_size)
    body = ndimage.binary_fill_holes(smooth > BODY)
    depth = ndimage.distance_transform_edt(body, sampling=voxel_size)
    hot = gaussian_filter_mm(image, fwhm=8.0, voxel_size=voxel_size) > HOT
    from_hot = ndimage.distance_transform_edt(~hot, sampling=voxel_size)
    masks = {}
    for name, (least, most, clear, low, high) in REGIONS.items():
        mask = (depth > least) & (depth < most) & (from_hot > clear) & (smooth > low) & (smooth < high)
        mask[:, :, :N_END_SLICES] = False
        mask[:, :, mask.shape[2] - max(N_END_SLICES, round(head / voxel_size[2])) :] = False
        if name == "thighs":
            mask[:, :, round(THIGHS / voxel_size[2]) :] = False
        masks[name] = mask
    return masks


def report(name: str, image: np.ndarray, voxel_size: tuple[float, float, float], *, head: float = 0.0) -> None:
    """Print one line for each region of an image."""
    widths = sorted({width for band in BANDS for width in band})
    smoothed = {width: gaussian_filter_mm(image, fwhm=width, voxel_size=voxel_size) for width in widths}
    for region, mask in regions(image, voxel_size, head=head).items():
        mean = image[mask].mean(dtype=np.float64)
        spread = [100 * float((smoothed[a] - smoothed[b])[mask].std(dtype=np.float64)) / mean for a, b in BANDS]
        print(
            f"{name:28s} {region:6s} {mask.sum():8d} {mean:5.2f} " + " ".join(f"{s:5.1f}" for s in spread), flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", help="a real full-dose scan")
    parser.add_argument("--preset", default="discovery_st", help="scanner of the simulated patients")
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12], help="simulated patients")
    options = parser.parse_args()
    series = read_pet(options.scan)
    print("scan, region, voxels, mean SUV, SD [%] of the bands 8-16, 16-32, 32-64 mm")
    report("real", series.suv, series.voxel_size)
    scanner = scanner_preset(options.preset)
    for seed in options.seeds:
        subject = simulate_subject(seed, scanner=scanner, dose_reduction_factors=(4.0,), n_lesions=3)
        report(f"simulated {seed}", subject.full_dose, scanner.voxel_size, head=HEAD)
        report(f"simulated {seed}, noise-free", subject.noise_free, scanner.voxel_size, head=HEAD)


if __name__ == "__main__":
    main()
