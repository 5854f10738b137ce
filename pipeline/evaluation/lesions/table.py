"""One table of the regions of an image with every quantity, and what they amount to together."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import PETError
from pipeline.evaluation.lesions.extent import largest_centroid_distance, largest_distance, mesh_volume
from pipeline.evaluation.lesions.intensity import INTENSITY_STATISTICS, intensity_statistics
from pipeline.evaluation.quantification import centroid, each_region, measure_region, volume
from pipeline.images import Regions
from pipeline.pet import PETHeader
from pipeline.pet.suv.body_size import suvbw_per_suv

__all__ = ["REGION_QUANTITIES", "TOTAL_BURDEN", "region_quantities", "suvbw_per_sul", "total_burden"]

SUL_TYPES = {"janmahasatian": "LBMJANMA", "james": "LBMJAMES128"}
"""DICOM's SUVType of every formula of the lean body mass that SUL is told by."""

_OWN = ("mean", "maximum")  # of the statistics, columns of their own

REGION_QUANTITIES: dict[str, str] = (
    {
        "region": "number of the region",
        "centroid_x_mm": "centre of the region, +x is the patient's right [mm]",
        "centroid_y_mm": "centre of the region, +y is anterior [mm]",
        "centroid_z_mm": "centre of the region, +z is superior [mm]",
        "mtv_ml": "metabolic tumour volume: number of voxels x voxel volume [mL]",
        "mesh_volume_ml": "volume within the surface, by marching cubes [mL]",
        "suv_max": "highest voxel [g/mL]",
        "suv_mean": "mean of the region [g/mL]",
        "suv_peak": "highest mean of a 1 mL sphere centred in the region and not clipped to it [g/mL]",
        "suv_peak_local": "mean of the 1 mL sphere around the hottest voxel [g/mL]",
        "tlg": "total lesion glycolysis: suv_mean x mtv_ml [g]",
    }
    | {
        f"sul_{quantity}_{formula}": f"suv_{quantity} by lean body mass, formula of {formula.capitalize()} [g/mL]; "
        "n/a without weight, height and sex"
        for formula in SUL_TYPES
        for quantity in ("max", "mean", "peak")
    }
    | {f"suv_{name}": f"{text}, IBSI" for name, text in INTENSITY_STATISTICS.items() if name not in _OWN}
    | {"method": "how the regions were delineated"}
)
"""Meaning and unit of every column of `region_quantities`, in order."""

TOTAL_BURDEN: dict[str, str] = {
    "n_regions": "number of regions",
    "tmtv_ml": "total metabolic tumour volume: sum of mtv_ml [mL]",
    "tlg": "total lesion glycolysis of all regions [g]",
    "suv_max": "highest voxel of all regions [g/mL]; n/a without regions",
    "suv_peak": "highest suv_peak of all regions [g/mL]; n/a without regions",
    "dmax_centroid_mm": "distance of the two regions farthest apart, centre to centre (Cottereau 2020) [mm]; 0 for one",
    "dmax_voxel_mm": "distance of the two voxels of regions farthest apart (Cottereau 2021) [mm]",
    "method": "how the regions were delineated",
}
"""Meaning and unit of every key of `total_burden`, in order."""


def suvbw_per_sul(header: PETHeader) -> dict[str, float]:
    """Return SUVbw per SUL by the names in `SUL_TYPES`, NaN where weight, height or the formula fails.

    A patient whose sex is neither male nor female has the mean of both formulas, as IBSI's SUV manual has it.
    """
    factors = {}
    for formula, suv_type in SUL_TYPES.items():
        try:
            factors[formula] = suvbw_per_suv(header, suv_type)
        except PETError:
            factors[formula] = float("nan")
    return factors


def region_quantities(
    suv: ArrayLike,
    regions: Regions,
    *,
    voxel_size: Sequence[float],
    affine: NDArray[np.floating],
    suvbw_per_sul: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Return one row per region with its place and every quantity of it in one image.

    Image [g/mL] and labels lie on one grid (X, Y, Z); `voxel_size` is in mm, and `affine` (4, 4) leads from voxel
    indices to RAS+ [mm]. `suvbw_per_sul` is what the function of that name gives for the scan's header. The columns are
    those of `REGION_QUANTITIES`; without regions there are no rows, and `attrs["method"]` names the method even then.

    Raises
    ------
    ValueError
        Shapes differ.
    """
    image = np.asarray(suv)
    regions.check_shapes("region_quantities", image)
    factors = suvbw_per_sul or {}
    rows = []
    for number, box, mask in each_region(regions.labels):
        x, y, z = centroid(mask, box, affine)
        measured = measure_region(image, box, mask, voxel_size=voxel_size)
        statistics = intensity_statistics(image[box], mask)
        row: dict[str, object] = {
            **{"region": number, "centroid_x_mm": x, "centroid_y_mm": y, "centroid_z_mm": z},
            "mtv_ml": volume(mask, voxel_size=voxel_size),
            "mesh_volume_ml": mesh_volume(mask, voxel_size=voxel_size),
            **measured,
            **{f"suv_{name}": value for name, value in statistics.items() if name not in _OWN},
            "method": regions.method,
        }
        for formula in SUL_TYPES:
            factor = factors.get(formula, float("nan"))
            row |= {f"sul_{q}_{formula}": measured[f"suv_{q}"] / factor for q in ("max", "mean", "peak")}
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(REGION_QUANTITIES))
    table.attrs["method"] = regions.method
    return table


def total_burden(suv: ArrayLike, regions: Regions, *, voxel_size: Sequence[float]) -> dict[str, float | str]:
    """Return what the regions of an image amount to together, by the names in `TOTAL_BURDEN`.

    Image [g/mL] and labels have the shape (X, Y, Z); `voxel_size` is in mm.

    Raises
    ------
    ValueError
        Shapes differ.
    """
    image, labels = np.asarray(suv), regions.labels
    regions.check_shapes("total_burden", image)
    measured = [measure_region(image, box, mask, voxel_size=voxel_size) for _, box, mask in each_region(labels)]
    nothing = float("nan")
    return {
        "n_regions": len(measured),
        "tmtv_ml": volume(labels > 0, voxel_size=voxel_size),
        "tlg": sum(region["tlg"] for region in measured),
        "suv_max": max((region["suv_max"] for region in measured), default=nothing),
        "suv_peak": max((region["suv_peak"] for region in measured), default=nothing),
        "dmax_centroid_mm": largest_centroid_distance(labels, voxel_size=voxel_size),
        "dmax_voxel_mm": largest_distance(labels, voxel_size=voxel_size),
        "method": regions.method,
    }
