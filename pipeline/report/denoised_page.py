"""The report: what was done to a PET series and what it did to its SUV."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import UndefinedMeasureError
from pipeline.evaluation import bias, noise_level, suv_mean
from pipeline.images.body import BODY_FWHM, BODY_THRESHOLD, body_mask
from pipeline.images.projections import body_box, center_of_activity
from pipeline.pet import PETSeries
from pipeline.pet.grid import check_same_grid
from pipeline.report.figures import (
    SUV_WINDOW,
    agreement_figure,
    difference_figure,
    mip_figure,
    profile_figure,
)
from pipeline.report.page import write_page

__all__ = ["write_report"]

_ONE_SIDED = ("before only", "after only")
NOTABLE_CHANGE = 10.0
"""Changes of SUV at least this large are marked in the table [%]."""


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    before: PETSeries,
    after: PETSeries,
    lesions: pd.DataFrame,
    run: Mapping[str, object],
) -> Path:
    """Write the report of one denoised series.

    The page needs no network, no script and no other file. Of the series it shows voxels, the header's fields
    (which hold no name, identifier or date) and the provenance; `title` and `run` are shown as they are
    given, so keep identifiers out of them. All text is escaped. The same arguments give the same file.

    Parameters
    ----------
    path
        The HTML file; its folder must exist. It appears complete or not at all.
    title
        Heading, such as a pseudonym.
    before, after
        The series before and after denoising, on one grid.
    lesions
        Rows of `pipeline.evaluation.lesion_table`, perhaps none.
    run
        What was done, shown line by line in this order: method, weights and their SHA-256, versions, device,
        time.

    Raises
    ------
    PETError
        The two series do not lie on one grid, or the folder does not exist.
    OSError
        The file cannot be written; nothing is left behind.
    """
    check_same_grid({"the series before": before.grid, f"{path}: the series after": after.grid})
    voxel_size = before.voxel_size
    body = body_mask(before.suv, voxel_size=voxel_size)
    box = body_box(body, voxel_size=voxel_size)
    cropped = before.suv[box], after.suv[box]
    coronal_index = center_of_activity(cropped[0])[1]
    figures = {
        "mip": mip_figure(*cropped, voxel_size=voxel_size),
        "difference": difference_figure(*cropped, voxel_size=voxel_size, index=coronal_index),
    }
    if body.any():
        figures["profile"] = profile_figure(*cropped, mask=body[box], voxel_size=voxel_size)
    if not lesions.empty:
        figures["agreement"] = agreement_figure(lesions)
    return write_page(
        Path(path),
        "denoised.html",
        source=before,
        figures=figures,
        run=run,
        kind="PET denoising report",
        title=title,
        provenance=after.provenance,
        body=_body_facts(before.suv, after.suv, body),
        lesions=lesions.to_dict("records"),
        regions=_region_facts(lesions),
        suv_window=SUV_WINDOW,
        notable_change=NOTABLE_CHANGE,
        body_rule={"fwhm": BODY_FWHM, "threshold": BODY_THRESHOLD},
    )


def _body_facts(
    before: NDArray[np.floating], after: NDArray[np.floating], body: NDArray[np.bool_]
) -> dict[str, float | str]:
    """Return mean and noise of the body in both images; what is not defined is NaN, and ``undefined`` says why."""
    names = [f"{measure}_{when}" for measure in ("mean", "noise") for when in ("before", "after", "change")]
    facts: dict[str, float | str] = {**dict.fromkeys(names, np.nan), "undefined": ""}
    if not body.any():
        return facts | {"undefined": f"no body was found, expected SUV of {BODY_THRESHOLD:g} or more"}
    try:
        facts |= {"mean_before": suv_mean(before, body), "mean_after": suv_mean(after, body)}
        facts["mean_change"] = bias(after, before, mask=body)
        noise_before, noise_after = (noise_level(image, mask=body) for image in (before, after))
    except UndefinedMeasureError as error:
        return facts | {"undefined": str(error)}
    change = 100 * (noise_after / noise_before - 1) if noise_before else np.nan
    return facts | {"noise_before": noise_before, "noise_after": noise_after, "noise_change": change}


def _region_facts(lesions: pd.DataFrame) -> dict[str, object]:
    found_in = lesions["found_in"]
    return {
        "n_in_both": int((found_in == "both").sum()),
        "n_in_one": int(found_in.isin(_ONE_SIDED).sum()),
        "peak_change": None if lesions.empty else float(lesions["suv_peak_change_percent"].median()),
        # A table without rows still names its method if it comes from lesion_table.
        "method": lesions.attrs.get("method", "") if lesions.empty else lesions["method"].iloc[0],
    }
