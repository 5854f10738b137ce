"""Command `unipet suv`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import Series, errors_in_one_line

__all__ = ["suv"]


def suv(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT", help="DICOM series or study: folder, zip, DICOMDIR; or NIfTI and JSON sidecar."
        ),
    ],
    series: Series = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say which rule gives the SUV of a scan, what was repaired and what disagrees; convert nothing.

    Example: `unipet suv scan_folder/`
    """
    with errors_in_one_line():
        from pipeline.pet import explain_suv

        explanation = explain_suv(source, series=series)
        print(json.dumps(explanation.as_dict(), indent=2) if as_json else explanation.as_text())
