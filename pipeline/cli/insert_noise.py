"""Command `unipet insert-noise`."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import (
    Deidentify,
    Private,
    Reconstructor,
    Scanner,
    Series,
    Units,
    console,
    errors_in_one_line,
    print_warnings,
    seconds_so_far,
)

__all__ = ["insert_noise"]


def insert_noise(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="Full-dose scan: DICOM folder, zip, DICOMDIR; or NIfTI and JSON.")
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to create.")],
    drf: Annotated[list[float] | None, typer.Option(help="Dose reduction factor, repeatable; else 4, 10, 20.")] = (
        None
    ),
    seed: Annotated[int, typer.Option(min=0, help="The same seed and scan give the same images.")] = 0,
    ct: Annotated[Path | None, typer.Option(help="CT of the examination; without it the body counts as water.")] = None,
    scanner: Scanner = "generic",
    post_filter: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Gaussian after reconstruction, FWHM in plane and along Z [mm]; else fitted to the scan."),
    ] = None,
    liver_center: Annotated[
        tuple[float, float, float] | None,
        typer.Option(metavar="X Y Z", help="Centre of a 30 mm sphere in the liver, three numbers, RAS+ [mm]."),
    ] = None,
    liver_cov: Annotated[float | None, typer.Option(help="Noise of the liver at full dose, such as 0.1.")] = None,
    series: Series = None,
    units: Units = "BQML",
    private: Private = True,
    deidentify: Deidentify = False,
    device: Reconstructor = None,
) -> None:
    """Make low-dose scans of a full-dose scan: reprojection, Poisson noise of fewer counts, reconstruction.

    Example: `unipet insert-noise scan_folder/ low/ --drf 4 --drf 20 --ct ct_folder/`
    """
    with errors_in_one_line(), console.status("starting") as status:
        from pipeline.pet import DicomOptions
        from pipeline.simulation import scanner_preset
        from pipeline.workflow import insert_noise_into_scan

        result = insert_noise_into_scan(
            source,
            output,
            drf or (4.0, 10.0, 20.0),
            seed=seed,
            series=series,
            ct=ct,
            scanner=scanner_preset(scanner),
            post_filter=post_filter,
            liver_center=liver_center,
            liver_cov=liver_cov,
            device=device,
            dicom=DicomOptions(units=units.upper(), keep_private=private, deidentify=deidentify),
            on_step=status.update,
        )
        status.stop()
        for row in result.noise.itertuples():
            measured = f"liver SUV {row.liver_suv_mean:.2f}, CoV {row.liver_cov:.3f} (expected {row.expected_cov:.3f})"
            print(f"DRF {row.dose_reduction_factor:g}: {measured}")
        print(result.texture)
        print_warnings(result.run)
        print(f"{output / 'report.html'} written in {seconds_so_far():.0f} s")
