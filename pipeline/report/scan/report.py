"""The page of a denoised series."""

import os
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import UndefinedMeasureError
from pipeline.evaluation import bias, lesion_table, noise_level, suv_mean
from pipeline.images.projections import body_box, center_of_activity
from pipeline.images.regions import BODY_FWHM, BODY_THRESHOLD, Regions, body_mask
from pipeline.pet import PETSeries
from pipeline.pet.grid import check_same_grid
from pipeline.report.figures import (
    SUV_WINDOW,
    difference_figure,
    histogram_figure,
    mip_figure,
    profile_figure,
)
from pipeline.report.page import in_base64, write_page
from pipeline.report.scan.agreement_figures import agreement_figure, error_figure, suv_agreement
from pipeline.report.scan.region_figures import region_figures
from pipeline.trust import ScanTrust

__all__ = ["write_report"]

_ONE_SIDED = ("before only", "after only")
NOTABLE_CHANGE = 10.0
"""Changes of SUV at least this large are marked in the table [%]."""
DOSE = "dose, relative to one that gives the liver a coefficient of variation of 10 %"
"""What a dose that is read means."""
QUANTITIES = {"suv_max": "SUVmax", "suv_peak": "SUVpeak", "suv_mean": "SUVmean"}
"""Columns of the lesion table that are compared, and their names."""
MOST_CHANGES = 20
"""Rows of the table of changes; the others are in its file."""


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    before: PETSeries,
    after: PETSeries,
    lesions: pd.DataFrame,
    run: Mapping[str, object],
    regions: Regions | None = None,
    reference: PETSeries | None = None,
    trust: ScanTrust | None = None,
    warnings: Sequence[str] = (),
) -> Path:
    """Write the report of one denoised series; the file appears complete or not at all.

    The page needs no network, no script and no other file. Of the series it shows voxels, the header's fields (which
    hold no name, identifier or date) and the provenance; `title` and `run` are shown as they are given, so keep
    identifiers out of them. All text is escaped. The same arguments give the same file.

    The folder of `path` must exist, and the series lie on one grid. `title` is a heading, such as a pseudonym;
    `lesions` are rows of `pipeline.evaluation.lesion_table`, perhaps none; `run` says line by line what was done:
    method, weights and their SHA-256, versions, device, time. The hottest of `regions`, which are those of `lesions`,
    are drawn, and their names, if they have any, shown as they are. A `reference`, such as the full dose, is drawn
    beside them, and the regions of both series are compared with it, which needs `regions`. `trust` says what the
    result may be believed; with it, `lesions` have the columns TRUST_COLUMNS, too. `warnings` come first on the page.

    Raises
    ------
    PETError
        The series do not lie on one grid, or the folder does not exist.
    OSError
        The file cannot be written; nothing is left behind.
    """
    grids = {"the series before": before.grid, f"{path}: the series after": after.grid}
    check_same_grid(grids if reference is None else grids | {f"{path}: the reference": reference.grid})
    voxel_size = before.voxel_size
    body = body_mask(before.suv, voxel_size=voxel_size)
    against = {} if lesions.empty else _against(reference, regions, {"before": before, "after": after})
    tables = {"after − before": lesions} | {f"{name} − reference": table for name, table in against.items()}
    images = {"Before": before.suv, "After": after.suv}
    images |= {} if reference is None else {"Reference": reference.suv}
    rows = {row["region"]: row for row in lesions.to_dict("records")}
    drawn: dict[int, bytes] = {}
    if regions is not None and not lesions.empty:
        drawn = region_figures(images, regions, lesions, voxel_size=voxel_size)
    return write_page(
        Path(path),
        "denoised.html",
        source=before,
        figures=_scan_figures(before, after, body),
        run=run,
        kind="PET denoising report",
        title=title,
        provenance=after.provenance,
        body=_body_facts(before.suv, after.suv, body),
        lesions=list(rows.values()),
        names=dict.fromkeys(rows, "") | dict({} if regions is None else regions.names),
        drawn=[(rows[number], in_base64(figure)) for number, figure in drawn.items()],
        images=list(images),
        agreements=_agreements(tables),
        errors=_errors(against),
        trust=None if trust is None else _trust_facts(trust),
        warnings=warnings,
        found=_region_facts(lesions),
        suv_window=SUV_WINDOW,
        notable_change=NOTABLE_CHANGE,
        body_rule={"fwhm": BODY_FWHM, "threshold": BODY_THRESHOLD},
    )


def _scan_figures(before: PETSeries, after: PETSeries, body: NDArray[np.bool_]) -> dict[str, bytes]:
    voxel_size = before.voxel_size
    box = body_box(body, voxel_size=voxel_size)
    cropped = before.suv[box], after.suv[box]
    index = center_of_activity(cropped[0])[1]
    figures = {
        "coronal": mip_figure(*cropped, voxel_size=voxel_size, views=["coronal"]),
        "sagittal": mip_figure(*cropped, voxel_size=voxel_size, views=["sagittal"]),
        "difference": difference_figure(*cropped, voxel_size=voxel_size, index=index),
    }
    if body.any():
        figures["profile"] = profile_figure(*cropped, mask=body[box], voxel_size=voxel_size)
        figures["histogram"] = histogram_figure(*cropped, mask=body[box])
    return figures


def _against(
    reference: PETSeries | None, regions: Regions | None, images: Mapping[str, PETSeries]
) -> dict[str, pd.DataFrame]:
    """Return the lesion table of each image against the reference, which is what is before in it."""
    if reference is None or regions is None:
        return {}
    voxel_size, affine = reference.voxel_size, reference.affine
    return {
        name: lesion_table(reference.suv, image.suv, regions, voxel_size=voxel_size, affine=affine)
        for name, image in images.items()
    }


def _agreements(tables: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Return figure, bias and limits of every quantity of regions, after less before in each of the tables."""
    rows = []
    for (comparison, table), (quantity, title) in product(tables.items(), QUANTITIES.items()):
        agreement = suv_agreement(table[f"{quantity}_after"], table[f"{quantity}_before"])
        if agreement.mean.size:
            figure = agreement_figure(agreement, quantity=title, comparison=comparison)
            facts = {"comparison": comparison, "quantity": title, "n": agreement.mean.size, "limits": agreement.limits}
            rows.append(facts | {"figure": in_base64(figure)})
    return rows


def _errors(against: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Return the figure of the errors of every quantity of regions, where there is a reference."""
    if not against:
        return {}
    return {
        title: in_base64(
            error_figure(
                {name.capitalize(): table[f"{quantity}_change_percent"] for name, table in against.items()},
                quantity=title,
            )
        )
        for quantity, title in QUANTITIES.items()
    }


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


def _trust_facts(trust: ScanTrust) -> dict[str, object]:
    changes = trust.evidence.regions
    return {
        "lines": [
            f"{DOSE}: the scan {trust.domain.dose_statement}" if trust.domain.dose else trust.domain.dose_statement,
            trust.evidence.statement,
            trust.spots.statement,
            str(trust.conservation),
        ],
        "domain": trust.domain.rows,
        "not_stated": trust.not_stated,
        "changes": changes.head(MOST_CHANGES).to_dict("records"),
        "n_changes": len(changes),
        "spots_rule": trust.spots.rule,
    }
