"""The page of a benchmark: claims, one table, curves, quality against cost, images, and what it does not show."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.report.page import write_page

__all__ = ["PageFigure", "write_benchmark_page"]


@dataclass(frozen=True, kw_only=True)
class PageFigure:
    """A figure with its words."""

    name: str
    title: str
    caption: str
    png: bytes


def write_benchmark_page(
    path: str | os.PathLike[str],
    *,
    title: str,
    summary: str,
    limits: Sequence[str],
    rule: str,
    claims: Mapping[str, Any],
    main_table: Mapping[str, Any],
    curves: Sequence[PageFigure],
    images: Sequence[PageFigure],
    tables: Sequence[Mapping[str, Any]],
    budgets: Mapping[str, Any],
    run: Mapping[str, object],
) -> Path:
    """Write one self-contained HTML page on a benchmark; all text is escaped.

    `summary` says what was measured, `rule` how claims are answered, `limits` what the figures cannot show. `claims`,
    `main_table`, `budgets` and each of `tables` have title, header, rows and n_text_columns. `run` says line by line
    with what it was measured. The folder of `path` must exist.
    """
    return write_page(
        Path(path),
        "benchmark.html",
        source=None,
        figures={figure.name: figure.png for figure in (*curves, *images)},
        run=run,
        kind="Benchmark",
        title=title,
        provenance=(),
        summary=summary,
        limits=limits,
        rule=rule,
        claims=claims,
        main_table=main_table,
        curves=curves,
        images=images,
        tables=tables,
        budgets=budgets,
    )
