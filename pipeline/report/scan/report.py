"""The page of a denoised series."""

import os
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.evaluation import CONTRAST_RULE, reference_errors
from pipeline.images import ReferenceRegion
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
from pipeline.report.scan.agreement_figures import (
    absolute_error_figure,
    agreement_figure,
    error_figure,
    suv_agreement,
    voxel_error_figure,
)
from pipeline.report.scan.burden import burden_facts, percist_facts
from pipeline.report.scan.facts import body_facts, region_facts, trust_facts
from pipeline.report.scan.matches import match_facts, status_of_regions
from pipeline.report.scan.region_figures import region_figures
from pipeline.report.scan.turning import turning_projections
from pipeline.trust import ScanTrust

__all__ = ["write_report"]

NOTABLE_CHANGE = 10.0
"""Changes of SUV at least this large are marked in the table [%]."""
QUANTITIES = {"suv_max": "SUVmax", "suv_peak": "SUVpeak", "suv_mean": "SUVmean"}
"""Columns of the lesion table that are compared, and their names."""


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
    matches: pd.DataFrame | None = None,
    burden: pd.DataFrame | None = None,
    percist: Mapping[str, ReferenceRegion] | None = None,
    trust: ScanTrust | None = None,
    warnings: Sequence[str] = (),
    turning: bool = False,
) -> Path:
    """Write the report of one denoised series; the file appears complete or not at all.

    The page needs no network, no script and no other file. Of the series it shows voxels, the header's fields (which
    hold no name, identifier or date) and the provenance; `title` and `run` are shown as they are given, so keep
    identifiers out of them. All text is escaped. The same arguments give the same file.

    Parameters
    ----------
    path
        File to write, in a folder that exists.
    title
        A heading, such as a pseudonym.
    before, after
        The series, on one grid.
    lesions
        Rows of `pipeline.evaluation.lesion_table`, perhaps none, perhaps with more columns, which are shown, too: those
        of `region_contrast`, of `reference_errors`, and TRUST_COLUMNS, which `trust` needs.
    run
        What was done, line by line: method, weights and their SHA-256, versions, device, time.
    regions
        Those of `lesions`. The hottest are drawn, and their names, if they have any, shown as they are.
    reference
        Such as the full dose, on the same grid: it is drawn beside the series, and the regions of both are compared
        with it, which needs `regions`.
    matches
        Which lesions are kept, lost and new, by `pipeline.evaluation.matches_of_images`.
    burden
        Of all regions together, by `pipeline.trust.burden_table`.
    percist
        The organ that lesions are compared with, "after" and, where it was measured, "before".
    trust
        What the result may be believed.
    warnings
        First on the page.
    turning
        Whether projections turn.

    Raises
    ------
    PETError
        The series do not lie on one grid, or the folder does not exist.
    OSError
        The file cannot be written; nothing is left behind.
    """
    grids = {"the series before": before.grid, f"{path}: the series after": after.grid}
    check_same_grid(grids if reference is None else grids | {f"{path}: the reference": reference.grid})
    body = body_mask(before.suv, voxel_size=before.voxel_size)
    images = {"Before": before.suv, "After": after.suv}
    images |= {} if reference is None else {"Reference": reference.suv}
    lesions = _with_reference(lesions, reference, regions)
    statuses = {} if matches is None else status_of_regions(matches)
    rows = {row["region"]: _shown(row, statuses, matches is not None) for row in lesions.to_dict("records")}
    drawn: dict[int, bytes] = {}
    if regions is not None and rows:
        drawn = region_figures(images, regions, lesions, voxel_size=before.voxel_size)
    return write_page(
        Path(path),
        "denoised.html",
        source=before,
        figures=_scan_figures(images, body, before.voxel_size),
        turning=_turning(images, body, before.voxel_size) if turning else None,
        run=run,
        kind="PET denoising report",
        title=title,
        provenance=after.provenance,
        body=body_facts(before.suv, after.suv, body),
        lesions=list(rows.values()),
        columns=set(lesions.columns),
        quantities=QUANTITIES,
        names=dict.fromkeys(rows, "") | dict({} if regions is None else regions.names),
        drawn=[(rows[number], in_base64(figure)) for number, figure in drawn.items()],
        images=list(images),
        burden=None if burden is None else burden_facts(burden),
        # Of regions that somebody drew, no image has outlines of its own.
        drawn_by_rule=burden is None or burden.empty or "own" in set(burden["outlines"]),
        percist=percist_facts(percist, images, before.voxel_size) if percist else None,
        matches=None if matches is None else match_facts(matches, lesions, has_reference=reference is not None),
        agreements=_agreements(lesions),
        errors=_errors(lesions),
        contrast_rule=CONTRAST_RULE,
        trust=None if trust is None else trust_facts(trust),
        warnings=warnings,
        found=region_facts(lesions),
        suv_window=SUV_WINDOW,
        notable_change=NOTABLE_CHANGE,
        body_rule={"fwhm": BODY_FWHM, "threshold": BODY_THRESHOLD},
    )


def _with_reference(lesions: pd.DataFrame, reference: PETSeries | None, regions: Regions | None) -> pd.DataFrame:
    """Return the lesion table with what the reference has in the regions, which it may have already."""
    if reference is None or regions is None or lesions.empty or "suv_mean_reference" in lesions:
        return lesions
    errors = reference_errors(lesions, reference.suv, regions, voxel_size=reference.voxel_size)
    joined = pd.concat([lesions.reset_index(drop=True), errors], axis=1)
    joined.attrs = lesions.attrs
    return joined


def _shown(row: dict[Any, Any], statuses: Mapping[int, str], matched: bool) -> dict[Any, Any]:
    """Return the row of a region with what became of it, and whether that is to be marked."""
    found_in = row["found_in"] if isinstance(row["found_in"], str) else "–"
    status = statuses.get(row["region"], "–") if matched else found_in
    return row | {"status": status, "changed": status not in ("kept", "both", "–")}


def _scan_figures(
    images: Mapping[str, NDArray[np.floating]], body: NDArray[np.bool_], voxel_size: Sequence[float]
) -> dict[str, bytes]:
    box = body_box(body, voxel_size=voxel_size)
    cropped = {name: image[box] for name, image in images.items()}
    pair, reference = (cropped["Before"], cropped["After"]), cropped.get("Reference")
    index = center_of_activity(pair[0])[1]
    figures = {
        "coronal": mip_figure(*pair, voxel_size=voxel_size, views=["coronal"]),
        "sagittal": mip_figure(*pair, voxel_size=voxel_size, views=["sagittal"]),
        "difference": difference_figure(*pair, voxel_size=voxel_size, index=index, reference=reference),
    }
    if body.any():
        figures["profile"] = profile_figure(*pair, mask=body[box], voxel_size=voxel_size)
        figures["histogram"] = histogram_figure(*pair, mask=body[box])
        if reference is not None:
            inside = {name: image[body[box]] for name, image in cropped.items()}
            true = inside.pop("Reference")
            figures["errors"] = voxel_error_figure(inside, true)
    return figures


def _turning(
    images: Mapping[str, NDArray[np.floating]], body: NDArray[np.bool_], voxel_size: Sequence[float]
) -> dict[str, str]:
    box = body_box(body, voxel_size=voxel_size)
    made = turning_projections({name: image[box] for name, image in images.items()}, voxel_size=voxel_size)
    return {"animated": in_base64(made.animated), "still": in_base64(made.still)}


def _agreements(lesions: pd.DataFrame) -> list[dict[str, Any]]:
    """Return figure, bias and limits of every quantity of regions, for each two images that are compared."""
    pairs = [("after", "before")]
    pairs += [("before", "reference"), ("after", "reference")] if "suv_mean_reference" in lesions else []
    rows = []
    for (image, against), (quantity, title) in product(pairs, QUANTITIES.items()):
        agreement = suv_agreement(lesions[f"{quantity}_{image}"], lesions[f"{quantity}_{against}"])
        if agreement.mean.size:
            comparison = f"{image} − {against}"
            figure = agreement_figure(agreement, quantity=title, comparison=comparison)
            facts = {"comparison": comparison, "quantity": title, "n": agreement.mean.size, "limits": agreement.limits}
            rows.append(facts | {"figure": in_base64(figure)})
    return rows


def _errors(lesions: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Return of every quantity of regions its name and the figures of the errors, relative and absolute."""
    if "suv_mean_reference" not in lesions:
        return []
    figures = []
    for quantity, title in QUANTITIES.items():
        true = lesions[f"{quantity}_reference"]
        when = ("before", "after")
        relative = {w.capitalize(): 100 * (lesions[f"{quantity}_{w}"] - true) / true.where(true > 0) for w in when}
        absolute = {w.capitalize(): lesions[f"{quantity}_error_{w}"] for w in when}
        figures.append(
            (
                title,
                in_base64(error_figure(relative, quantity=title)),
                in_base64(absolute_error_figure(absolute, quantity=title)),
            )
        )
    return figures
