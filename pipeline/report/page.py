"""What every page shares: one HTML file made from a template, the facts of a series, number formats."""

import base64
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined

from pipeline.files import write_text
from pipeline.pet import PETSeries

__all__ = ["environment", "in_base64", "write_page"]


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
    encoded = {name: in_base64(png) for name, png in figures.items()}
    stated = {name: str(value) for name, value in run.items()}
    facts = {} if source is None else _facts_of(source)
    page = environment().get_template(template).render(series=facts, figures=encoded, run=stated, **content)
    write_text(path, page)
    return path


def in_base64(png: bytes) -> str:
    """Return a file as the text that a page holds it by."""
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


@cache
def environment() -> Environment:
    """Return what fills in the templates of this package: all text is escaped, a missing value is an error."""
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
