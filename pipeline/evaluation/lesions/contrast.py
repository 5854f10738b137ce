"""How the same regions stand out of their surroundings in each image, and how far they are from a reference."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.evaluation.quantification import each_region, measure_region
from pipeline.images import Regions, shell_around

__all__ = ["CONTRAST_COLUMNS", "CONTRAST_RULE", "REFERENCE_COLUMNS", "reference_errors", "region_contrast"]

_SHELL = (5.0, 15.0)  # [mm] from the surface of a region: its background
_FEWEST = 20  # voxels that an SD is taken of
_ERRORS = {"suv_max": "highest voxel", "suv_peak": "SUVpeak", "suv_mean": "mean of the region"}

CONTRAST_RULE = (
    f"background: the body {_SHELL[0]:g} to {_SHELL[1]:g} mm around the region, in no other region; contrast: SUVmean "
    "over the mean of the background; CNR: SUVmean less the mean of the background, over its standard deviation"
)
"""What the columns are, to be quoted with them."""

CONTRAST_COLUMNS: dict[str, str] = {
    f"{quantity}_{when}": f"{meaning}, {text}"
    for quantity, meaning in {
        "contrast": f"SUVmean over the mean of the body {_SHELL[0]:g} to {_SHELL[1]:g} mm around, in no other region",
        "cnr": "contrast-to-noise: SUVmean less that mean, over the standard deviation of the same voxels",
    }.items()
    for when, text in (("before", "before"), ("after", "after"), ("reference", "of the reference"))
}
"""Meaning of the columns of `region_contrast`."""

REFERENCE_COLUMNS: dict[str, str] = {
    f"{quantity}_{what}": f"{meaning}, {text} [g/mL]"
    for quantity, meaning in _ERRORS.items()
    for what, text in (
        ("reference", "of the reference"),
        ("error_before", "difference of before and reference, without its sign"),
        ("error_after", "difference of after and reference, without its sign"),
    )
}
"""Meaning and unit of the columns of `reference_errors`, in order."""


def region_contrast(
    images: Mapping[str, NDArray[np.floating]],
    regions: Regions,
    *,
    body: NDArray[np.bool_],
    voxel_size: Sequence[float],
) -> pd.DataFrame:
    """Return contrast and contrast-to-noise ratio (CNR) of each region in each image, see CONTRAST_RULE.

    The same voxels are taken in all images. The SD is that of a sample; it holds the texture of the tissue around as
    well as noise, so compare the CNR of one region in two images, and not those of two regions. Both are NaN where
    fewer than 20 voxels, or a mean or an SD that is not above 0, are around.

    `images` are SUV [g/mL] by when they are: before, after, reference; they, the labels and the body have the shape
    (X, Y, Z), and `voxel_size` is in mm. The columns are those of CONTRAST_COLUMNS of these images, a row per region.

    Raises
    ------
    ValueError
        Shapes differ.
    """
    regions.check_shapes("region_contrast", body, *images.values())
    rows: list[dict[str, float]] = []
    for number, box, mask in each_region(regions.labels):
        around, shell = shell_around(
            regions.labels, number, box, inner=_SHELL[0], outer=_SHELL[1], voxel_size=voxel_size
        )
        shell &= body[around]
        row = {}
        for when, image in images.items():
            lesion, background = float(image[box][mask].mean(dtype=np.float64)), image[around][shell].astype(np.float64)
            mean, sd = (background.mean(), background.std(ddof=1)) if background.size >= _FEWEST else (np.nan, np.nan)
            row[f"contrast_{when}"] = lesion / mean if mean > 0 else np.nan
            row[f"cnr_{when}"] = (lesion - mean) / sd if sd > 0 else np.nan
        rows.append(row)
    return pd.DataFrame(rows, columns=[name for name in CONTRAST_COLUMNS if name.split("_")[1] in images], dtype=float)


def reference_errors(
    lesions: pd.DataFrame, reference: NDArray[np.floating], regions: Regions, *, voxel_size: Sequence[float]
) -> pd.DataFrame:
    """Return the SUV of the regions in a reference, and by how much both images miss it [g/mL].

    `lesions` are the rows of `lesion_table` of these regions. The reference [g/mL] has the shape of the labels
    (X, Y, Z); `voxel_size` is in mm. The columns are those of REFERENCE_COLUMNS.

    Raises
    ------
    ValueError
        Shapes differ.
    """
    regions.check_shapes("reference_errors", reference)
    measured = [
        measure_region(reference, box, mask, voxel_size=voxel_size) for _, box, mask in each_region(regions.labels)
    ]
    found = {}
    for quantity in _ERRORS:
        true = np.array([values[quantity] for values in measured], dtype=np.float64)
        found[f"{quantity}_reference"] = true
        for when in ("before", "after"):
            found[f"{quantity}_error_{when}"] = np.abs(lesions[f"{quantity}_{when}"].to_numpy() - true)
    return pd.DataFrame(found)
