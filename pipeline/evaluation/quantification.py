"""What a reader of PET measures in a region: SUVmax, SUVmean, SUVpeak, volume and TLG, before and after."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from pipeline.errors import UndefinedMeasureError
from pipeline.images import Regions, ball_offsets, voxel_volume

__all__ = [
    "LESION_TABLE_COLUMNS",
    "lesion_table",
    "suv_max",
    "suv_mean",
    "suv_peak",
    "volume",
]

PEAK_RADIUS = 6.204  # [mm] a sphere of 1 cm^3

_QUANTITIES = {
    "suv_max": "highest voxel [g/mL]",
    "suv_mean": "mean of the region [g/mL]",
    "suv_peak": "highest mean of a 1 mL sphere centred in the region and not clipped to it [g/mL]",
    "tlg": "total lesion glycolysis: SUVmean x voxel-counted volume [g]",
}

LESION_TABLE_COLUMNS: dict[str, str] = (
    {
        "region": "number, hottest first",
        "found_in": "image in which alone the rule draws the region: both, before only, after only; neither where it "
        "is too small in each; n/a if not determined",
        "centroid_x_mm": "centre of the region, +x is the patient's right [mm]",
        "centroid_y_mm": "centre of the region, +y is anterior [mm]",
        "centroid_z_mm": "centre of the region, +z is superior [mm]",
        "volume_ml": "number of voxels x voxel volume [mL]",
    }
    | {
        f"{quantity}_{when}": f"{meaning}, {text}"
        for quantity, meaning in _QUANTITIES.items()
        for when, text in (
            ("before", "before"),
            ("after", "after"),
            ("change_percent", "change from before [%]"),
        )
    }
    | {"method": "how the regions were delineated; the same region is used before and after"}
)
"""Meaning and unit of every column of `lesion_table`, in order."""


def suv_max(suv: ArrayLike, mask: NDArray[np.bool_]) -> float:
    """Return the highest SUV in the mask [g/mL]; raise ValueError for an empty mask or another shape."""
    return float(values_in(suv, mask).max())


def suv_mean(suv: ArrayLike, mask: NDArray[np.bool_]) -> float:
    """Return the mean SUV in the mask [g/mL]; raise ValueError for an empty mask or another shape."""
    return float(values_in(suv, mask).mean(dtype=np.float64))


def volume(mask: NDArray[np.bool_], *, voxel_size: Sequence[float]) -> float:
    """Return the volume of the mask by counting voxels [mL]; `voxel_size` in mm."""
    return int(np.count_nonzero(mask)) * voxel_volume(voxel_size)


def suv_peak(
    suv: ArrayLike,
    mask: NDArray[np.bool_],
    *,
    voxel_size: Sequence[float],
    kind: Literal["global", "local"] = "global",
) -> float:
    """Return the mean SUV of a 1 cm^3 sphere centred in the region [g/mL].

    The sphere has a radius of 6.204 mm and holds every voxel whose centre lies within it. Its centre is a voxel of the
    region; its voxels are those of the whole image, in the region or not. These are IBSI's local and global intensity
    peak (features VJGA and 0F91), 2.6 and 3.10 on its digital phantom.

    Image [g/mL] and mask have the shape (X, Y, Z); `voxel_size` is in mm. "global" is the highest mean over all centres
    in the region; "local" is centred at the region's hottest voxel, at the one with the highest mean if there are
    several.

    Raises
    ------
    ValueError
        The mask is empty or of another shape, or `kind` is neither.
    """
    image = np.asarray(suv)
    values = values_in(image, mask)
    if kind not in ("global", "local"):
        raise ValueError(f"suv_peak: kind must be 'global' or 'local', found {kind!r}")
    box = ndimage.find_objects(mask.astype(np.int8))[0]
    centres = mask[box]
    if kind == "local":
        centres = centres & (image[box] == values.max())
    return float(sphere_mean(image, box, voxel_size)[centres].max())


def lesion_table(
    suv_before: ArrayLike,
    suv_after: ArrayLike,
    regions: Regions,
    *,
    voxel_size: Sequence[float],
    affine: NDArray[np.floating],
) -> pd.DataFrame:
    """Return one row per region with its place and its SUV before and after denoising.

    Both images are measured in the same region, so a change is a change of the image and not of the outline. Take the
    regions from `regions_in_either` to see what was erased and what was invented; regions of one image alone, or a
    reader's own, are as good: the table's last column names the method.

    The SUV images [g/mL] and the labels lie on one grid (X, Y, Z); `voxel_size` is in mm, and `affine` (4, 4) leads
    from voxel indices to RAS+ [mm]. The columns are those of `LESION_TABLE_COLUMNS`; without regions there are no rows,
    and `attrs["method"]` names the method even then.

    Raises
    ------
    ValueError
        Shapes differ.
    """
    before, after = np.asarray(suv_before), np.asarray(suv_after)
    regions.check_shapes("lesion_table", before, after)
    rows = []
    for number, box, mask in each_region(regions.labels):
        x, y, z = centroid(mask, box, affine)
        row: dict[str, object] = {
            "region": number,
            "found_in": None if regions.found_in is None else regions.found_in[number - 1],
            "centroid_x_mm": x,
            "centroid_y_mm": y,
            "centroid_z_mm": z,
            "volume_ml": volume(mask, voxel_size=voxel_size),
        }
        measured = [measure_region(image, box, mask, voxel_size=voxel_size) for image in (before, after)]
        for quantity in _QUANTITIES:
            old, new = (values[quantity] for values in measured)
            row[f"{quantity}_before"] = old
            row[f"{quantity}_after"] = new
            row[f"{quantity}_change_percent"] = 100 * (new - old) / old if old else np.nan
        row["method"] = regions.method
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(LESION_TABLE_COLUMNS))
    table.attrs["method"] = regions.method
    return table


def measure_region(
    suv: NDArray[np.floating],
    box: tuple[slice, ...],
    mask: NDArray[np.bool_],
    *,
    voxel_size: Sequence[float],
) -> dict[str, float]:
    """Return SUVmax, SUVmean, global and local SUVpeak [g/mL] and TLG [g] of one region.

    TLG is SUVmean x voxel-counted volume. IBSI's integrated intensity uses the mesh volume instead, which is a few
    percent smaller for small regions. `suv` is the whole image (X, Y, Z) [g/mL], `box` the region's bounding box in it,
    and `mask` the region within the box; `voxel_size` is in mm.

    Raises
    ------
    ValueError
        The mask is empty or not of the box's shape.
    """
    values = values_in(suv[box], mask)
    mean = float(values.mean(dtype=np.float64))
    peaks = sphere_mean(suv, box, voxel_size)
    return {
        "suv_max": float(values.max()),
        "suv_mean": mean,
        "suv_peak": float(peaks[mask].max()),
        "suv_peak_local": float(peaks[mask][values == values.max()].max()),
        "tlg": mean * volume(mask, voxel_size=voxel_size),
    }


def each_region(
    labels: NDArray[np.integer],
) -> Iterator[tuple[int, tuple[slice, ...], NDArray[np.bool_]]]:
    """Yield number, bounding box and mask within the box of every region of a label array (0 outside), in order."""
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            yield number, box, labels[box] == number


def centroid(mask: NDArray[np.bool_], box: tuple[slice, ...], affine: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the centre of a region's voxels, RAS+ [mm]; `mask` is that within `box`, `affine` (4, 4) leads to RAS+."""
    center = np.argwhere(mask).mean(axis=0) + [axis.start for axis in box]
    return np.asarray(affine)[:3, :3] @ center + np.asarray(affine)[:3, 3]


def values_in(suv: ArrayLike, mask: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Return the SUV in a mask [g/mL]; raise ValueError for an empty mask or another shape."""
    image = np.asarray(suv)
    if image.shape != mask.shape:
        raise ValueError(f"the image has shape {image.shape}, the mask {mask.shape}")
    if not mask.any():
        raise UndefinedMeasureError("the region has no voxel")
    return image[mask.astype(bool)]


def sphere_mean(suv: NDArray[np.floating], box: tuple[slice, ...], voxel_size: Sequence[float]) -> NDArray[np.float64]:
    """Return the mean over the 1 cm^3 sphere, or its part in the image, around every voxel of the box."""
    offsets = ball_offsets(PEAK_RADIUS, voxel_size=voxel_size)
    reach = offsets.max(axis=0)
    wanted = [(axis.start - r, axis.stop + r) for axis, r in zip(box, reach, strict=True)]
    present = tuple(slice(max(a, 0), min(b, n)) for (a, b), n in zip(wanted, suv.shape, strict=True))
    outside = [(max(-a, 0), max(b - n, 0)) for (a, b), n in zip(wanted, suv.shape, strict=True)]
    padded = np.pad(suv[present].astype(np.float64), outside)
    in_image = np.pad(np.ones([axis.stop - axis.start for axis in present]), outside)

    shape = [axis.stop - axis.start for axis in box]
    total, count = np.zeros(shape), np.zeros(shape)
    for offset in offsets:
        window = tuple(slice(r + o, r + o + n) for r, o, n in zip(reach, offset, shape, strict=True))
        total += padded[window]
        count += in_image[window]
    return total / count
