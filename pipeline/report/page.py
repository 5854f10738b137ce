"""The page of a denoised series, and what every page shares: one HTML file, the facts of a series, number formats."""

import base64
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FunctionLoader, StrictUndefined
from numpy.typing import NDArray

from pipeline.errors import UndefinedMeasureError
from pipeline.evaluation import bias, lesion_table, noise_level, suv_mean
from pipeline.files import write_text
from pipeline.images.projections import body_box, center_of_activity
from pipeline.images.regions import BODY_FWHM, BODY_THRESHOLD, Regions, body_mask
from pipeline.pet import PETSeries
from pipeline.pet.grid import check_same_grid
from pipeline.report.agreement_figures import agreement_figure, error_figure, suv_agreement
from pipeline.report.figures import (
    SUV_WINDOW,
    difference_figure,
    histogram_figure,
    mip_figure,
    profile_figure,
)
from pipeline.report.region_figures import region_figures
from pipeline.trust import ScanTrust

__all__ = ["write_page", "write_report"]

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
        drawn=[(rows[number], _base64(figure)) for number, figure in drawn.items()],
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
            rows.append(facts | {"figure": _base64(figure)})
    return rows


def _errors(against: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Return the figure of the errors of every quantity of regions, where there is a reference."""
    if not against:
        return {}
    return {
        title: _base64(
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


def write_page(
    path: Path,
    template: str,
    *,
    source: PETSeries | None,
    figures: Mapping[str, bytes],
    run: Mapping[str, object],
    **content: Any,
) -> Path:
    """Fill in a template of this package, which extends ``base.html``, and write the page, complete or not at all.

    The page needs no network, no script and no other file; all text is escaped. The same content gives the same file.
    The folder of `path` must exist. Facts of `source`, if the page is about one series, are shown, and what was done,
    `run`, line by line in this order; `figures` are PNG by name, and `content` is what else the template needs.
    """
    encoded = {name: _base64(png) for name, png in figures.items()}
    stated = {name: str(value) for name, value in run.items()}
    facts = {} if source is None else _facts_of(source)
    page = environment().get_template(template).render(series=facts, figures=encoded, run=stated, **content)
    write_text(path, page)
    return path


def _base64(png: bytes) -> str:
    return base64.b64encode(png).decode("ascii")


def _facts_of(series: PETSeries) -> dict[str, str]:
    """Return what SUV depends on, as the source states it; what it does not state is left out."""
    header, factor = series.header, series.suvbw_factor
    tracer = " ".join(part for part in (header.radiopharmaceutical, header.radionuclide) if part)
    scanner = " ".join(part for part in (header.manufacturer, header.model_name) if part)
    x, y, z = series.suv.shape
    spacing = " × ".join(f"{side:.2f}" for side in series.voxel_size)
    facts = {
        "Tracer": tracer,
        "Injected activity": _quantity(header.injected_dose, "MBq", scale=1e-6),
        "Body weight": _quantity(header.patient_weight, "kg"),
        "Uptake time": _quantity(header.uptake_time, "min", scale=1 / 60),
        "Stored units": " ".join(part for part in (header.units, header.suv_type) if part),
        "Decay correction": header.decay_correction,
        "SUVbw factor": "" if factor is None else f"{factor:.5e} (g/mL) per stored unit",
        "Scanner": scanner,
        "Reconstruction": header.reconstruction_method,
        "Grid": f"{x} × {y} × {z} voxels of {spacing} mm",
    }
    return {name: text for name, text in facts.items() if text}


def _quantity(value: float | None, unit: str, *, scale: float = 1.0) -> str:
    return "" if value is None else f"{value * scale:.1f} {unit}"


def environment() -> Environment:
    made = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["number"] = _number
    made.filters["change"] = _change
    return made


def _template(name: str) -> str:
    return resources.files("pipeline.report").joinpath(name).read_text(encoding="utf-8")


def _number(value: float, digits: int = 2) -> str:
    """Return fixed decimals with a true minus sign, which zero has none of; a dash for what is undefined."""
    return "–" if not np.isfinite(value) else f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def _change(value: float) -> str:
    """Return a percentage with its sign; no sign for what rounds to zero."""
    if not np.isfinite(value):
        return "–"
    rounded = round(value, 1) + 0.0
    return f"{rounded:+.1f} %".replace("-", "−") if rounded else "0.0 %"
