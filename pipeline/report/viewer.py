"""The viewer of a denoised series: one HTML file with both images, their regions, and NiiVue to turn them over."""

import gzip
import os
from base64 import b64encode
from importlib import resources
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skimage.measure import block_reduce

from pipeline.files import write_text
from pipeline.images import Regions, body_mask
from pipeline.images.projections import body_box
from pipeline.pet import PETSeries
from pipeline.pet.grid import check_same_grid
from pipeline.report.figures import SUV_WINDOW
from pipeline.report.page import environment

__all__ = ["write_viewer"]

_STEP = 0.01
"""Step of the SUV that are stored [g/mL]; more where 16 bits hold less than the highest."""
_MOST_VOXELS = 8_000_000
"""Larger volumes are averaged in blocks: a browser holds several copies, in 32 bits."""
_NAMES = ("Before", "After")


def write_viewer(
    path: str | os.PathLike[str],
    *,
    title: str,
    before: PETSeries,
    after: PETSeries,
    regions: Regions,
    lesions: pd.DataFrame,
) -> Path:
    """Write both images of a scan and its regions into one HTML file with a viewer; complete or not at all.

    The file needs no network and no other file, but WebGL 2. It holds voxels around the body, in steps of 0.01 g/mL,
    averaged in blocks of whole voxels where there would be more than 8 million; how large they are, it says. Nothing
    else of the series is in it; `title` is shown as it is given, escaped. `lesions` are rows of
    `pipeline.evaluation.lesion_table` of the regions. The folder of `path` must exist.

    Raises
    ------
    PETError
        The two series do not lie on one grid, or the folder does not exist.
    """
    check_same_grid({"the series before": before.grid, f"{path}: the series after": after.grid})
    box = body_box(body_mask(before.suv, voxel_size=before.voxel_size), voxel_size=before.voxel_size)
    shown = [series.suv[box] for series in (before, after)]
    factor = 1
    while shown[0].size / factor**3 > _MOST_VOXELS:
        factor += 1
    affine = _affine_of_blocks(before.affine, box, factor)
    images = {name: _volume(_blocks(image, factor, np.mean), affine) for name, image in zip(_NAMES, shown, strict=True)}
    labels = _blocks(regions.labels[box], factor, np.max).astype(np.int16)
    data: dict[str, Any] = {
        "names": _NAMES,
        "images": images,
        "labels": _encoded(labels, affine, intent="label"),
        "window": SUV_WINDOW,
        "regions": [_region(row, regions.names.get(row["region"], "")) for row in lesions.to_dict("records")],
    }
    sides = " × ".join(f"{side * factor:.2f}" for side in before.voxel_size)
    library = resources.files("pipeline.report").joinpath("niivue")
    page = (
        environment()
        .get_template("viewer.html")
        .render(
            title=title,
            names=_NAMES,
            data=data,
            sides=sides,
            factor=factor,
            library=library.joinpath("niivue.umd.js").read_text(encoding="utf-8"),
            license=library.joinpath("LICENSE").read_text(encoding="utf-8"),
        )
    )
    write_text(Path(path), page)
    return Path(path)


def _region(row: dict[Any, Any], name: str) -> dict[str, Any]:
    place = [round(float(row[f"centroid_{axis}_mm"]), 1) for axis in "xyz"]
    called = f"{row['region']} {name}".strip()
    text = f"{called}: SUVmax {row['suv_max_before']:.2f} to {row['suv_max_after']:.2f} g/mL"
    return {"number": int(row["region"]), "text": text, "place": place}


def _blocks(volume: NDArray, factor: int, reduced: Any) -> NDArray:
    """Return a volume of blocks of so many voxels each way; an incomplete block at the end is left out."""
    if factor == 1:
        return volume
    whole = tuple(slice(n // factor * factor) for n in volume.shape)
    return block_reduce(volume[whole], (factor,) * 3, reduced)


def _affine_of_blocks(
    affine: NDArray[np.floating], box: tuple[slice, slice, slice], factor: int
) -> NDArray[np.float64]:
    """Return the affine of blocks of voxels in a box: a block lies in the middle of its voxels."""
    to_voxels = np.diag([factor, factor, factor, 1.0])
    to_voxels[:3, 3] = [axis.start + (factor - 1) / 2 for axis in box]
    return np.asarray(affine, dtype=np.float64) @ to_voxels


def _volume(suv: NDArray[np.floating], affine: NDArray[np.float64]) -> str:
    highest = float(np.abs(suv).max(initial=0))
    step = max(_STEP, highest / np.iinfo(np.int16).max)
    return _encoded(np.round(suv / step).astype(np.int16), affine, step=step)


def _encoded(voxels: NDArray[np.int16], affine: NDArray[np.float64], *, step: float = 1.0, intent: str = "none") -> str:
    """Return a compressed NIfTI of voxels times a step, in base64; the same voxels give the same text."""
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_slope_inter(step, 0)
    image.header.set_intent(intent)
    image.header.set_xyzt_units("mm")
    return b64encode(gzip.compress(image.to_bytes(), mtime=0)).decode("ascii")
