"""Command `unipet module`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.console import (
    Bundle,
    Deidentify,
    Device,
    Method,
    Private,
    Series,
    Strength,
    Units,
    Weights,
    console,
    errors_in_one_line,
    print_warnings,
    seconds_so_far,
)

if TYPE_CHECKING:
    from pipeline.workflow import ScanResult

__all__ = ["module"]


def module(
    source: Annotated[
        Path, typer.Argument(metavar="IN", envvar="MERCURE_IN_DIR", help="Folder of one DICOM series of PET.")
    ],
    output: Annotated[
        Path,
        typer.Argument(metavar="OUT", envvar="MERCURE_OUT_DIR", help="Empty folder for the derived series."),
    ],
    method: Method = "unipet",
    weights: Weights = None,
    bundle: Bundle = None,
    device: Device = None,
    strength: Strength = None,
    send_regions: Annotated[
        bool, typer.Option("--send-regions", help="Put DICOM SEG and report of the regions beside the slices, too.")
    ] = False,
    series: Series = None,
    units: Units = "BQML",
    private: Private = True,
    deidentify: Deidentify = False,
) -> None:
    """Denoise the series in a folder into another, as DICOM routers run modules.

    OUT then holds the slices of the derived series, report.html and result.json; after a failure result.json alone,
    with the reason in one line, and the exit code is not 0.

    Example: `unipet module incoming/ outgoing/`
    """
    with errors_in_one_line(), console.status("starting"):
        from pipeline.doors import run_module

        def denoise(folder: Path) -> "ScanResult":
            from pipeline.inference import Denoiser
            from pipeline.pet import DicomOptions
            from pipeline.workflow import denoise_scan

            options = DicomOptions(units=units.upper(), keep_private=private, deidentify=deidentify)
            denoiser = Denoiser.from_bundle(bundle, method=method, device=device, weights=weights, strength=strength)
            return denoise_scan(source, folder, denoiser, series=series, dicom=options)

        told = run_module(source, output, denoise, send_regions=send_regions)
    print_warnings(told["run"])
    n_images = sum(len(found["files"]) for found in told["series"])
    print(f"{n_images} DICOM files written to {output} in {seconds_so_far():.0f} s")
