"""Make the README's picture from what `make demo` left.

python docs/picture.py
"""

from pathlib import Path

from pipeline import read_pet
from pipeline.report import mip_figure

REPOSITORY = Path(__file__).resolve().parents[1]


def main() -> None:
    """Write docs/images/demo.png."""
    name = "sub-0001_rec-drf020"
    before = read_pet(REPOSITORY / "demo" / "simulated" / "sub-0001" / "pet" / f"{name}_pet.nii.gz")
    after = read_pet(REPOSITORY / "demo" / "denoised" / f"{name}_desc-denoised_pet.nii.gz")
    png = mip_figure(before.suv, after.suv, voxel_size=before.voxel_size, names=("DRF 20", "Denoised"))
    (REPOSITORY / "docs" / "images" / "demo.png").write_bytes(png)


if __name__ == "__main__":
    main()
