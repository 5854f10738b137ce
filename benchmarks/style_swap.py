"""Is the style alive? Denoise scans under their own style and under that of another dose of the same subject.

python benchmarks/style_swap.py COHORT

Prints PSNR against full dose at a peak of 20 SUV, a row per dose of the scan, a column per dose of the style. A style
that does nothing gives equal columns; one that works gives its best value on the diagonal.
"""

import sys
from pathlib import Path

import torch

from pipeline import Denoiser, read_pet
from pipeline.data import cohort_items, dose_keys
from pipeline.evaluation import PEAK_SUV, psnr
from pipeline.transforms import pet_to_tensor, scale_suv, tensor_to_pet


def main(cohort: Path) -> None:
    """Print the table for the first subject of a cohort."""
    item = cohort_items(sorted(cohort.glob("sub-*")))[0]
    denoiser = Denoiser.from_bundle()
    full = read_pet(item["label"])
    scans = {key: read_pet(item[key]) for key in dose_keys(item)}
    with torch.inference_mode():
        images = {
            key: scale_suv(pet_to_tensor(scan).as_tensor(), suv_scale=denoiser.suv_scale)[None].to(denoiser.device)
            for key, scan in scans.items()
        }
        networks = {key: denoiser.network.fold(denoiser.network.encode_style(image)) for key, image in images.items()}
        print("scan \\ style", *scans, sep="\t")
        for key, image in images.items():
            values = []
            for network in networks.values():
                pred = denoiser.inferer(image, network)[0]
                result = tensor_to_pet(pred, scans[key], suv_scale=denoiser.suv_scale, note="")
                values.append(f"{psnr(result.suv, full.suv, data_range=PEAK_SUV):.2f}")
            print(key, *values, sep="\t")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
