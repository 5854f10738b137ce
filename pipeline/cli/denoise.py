"""Command `unipet denoise`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import (
    Bundle,
    Deidentify,
    Device,
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

__all__ = ["denoise"]


class Regions(StrEnum):
    """Images that the regions are drawn on."""

    smoothed = "smoothed"
    fixed = "fixed"


def denoise(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="DICOM series or study: folder, zip, DICOMDIR; or NIfTI and JSON.")
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to create.")],
    method: Annotated[
        str,
        typer.Option(help="File of configs/methods, such as unipet, or the path of such a file."),
    ] = ("unipet"),
    weights: Annotated[
        Path | None, typer.Option(help="File of weights, such as model.pt of a training, in place of the method's own.")
    ] = None,
    drf: Annotated[
        float | None,
        typer.Option(help="Dose reduction factor, for a method that must know it; by default read from the noise."),
    ] = None,
    bundle: Bundle = None,
    device: Device = None,
    strength: Annotated[
        float | None, typer.Option(help="Part of the change that is made: 0 is the scan as it is. [default: 1]")
    ] = None,
    threshold: Annotated[float, typer.Option(help="SUV from which voxels form regions [g/mL].")] = 4.0,
    min_volume: Annotated[float, typer.Option(help="Smaller regions are left out [mL].")] = 1.0,
    regions: Annotated[
        Regions,
        typer.Option(
            help="smoothed draws regions on both images after a Gaussian of 8 mm, so that noise forms none: volumes "
            "differ from those of fixed, the published rule of a fixed SUV on the images as they are."
        ),
    ] = Regions.smoothed,
    repeats: Annotated[
        int,
        typer.Option(
            help="Repeat the scan so often by simulation, denoise each, and state the bias and the spread that show; "
            "0 or at least 2."
        ),
    ] = 0,
    repeat_maps: Annotated[
        bool, typer.Option("--repeat-maps", help="Write what repeats say of every voxel, too: four NIfTI volumes.")
    ] = False,
    scanner: Scanner = "generic",
    ct: Annotated[Path | None, typer.Option(help="CT of the examination, for --repeats; else the body is water.")] = (
        None
    ),
    seed: Annotated[int, typer.Option(min=0, help="Of --repeats: the same seed and scan give the same.")] = 0,
    reconstructor: Reconstructor = None,
    reference: Annotated[Path | None, typer.Option(help="Full-dose scan of the same grid: print PSNR, too.")] = None,
    series: Series = None,
    units: Units = "BQML",
    private: Private = True,
    deidentify: Deidentify = False,
) -> None:
    """Denoise one whole-body scan; write NIfTI, DICOM, lesion table, report and run record.

    Example: `unipet denoise scan_folder/ result/`
    """
    with errors_in_one_line(), console.status("starting") as status:
        from pipeline.errors import PETError
        from pipeline.inference import Denoiser
        from pipeline.pet import DicomOptions, read_pet
        from pipeline.simulation import scanner_preset
        from pipeline.workflow import RegionRule, RepeatRule, denoise_scan

        dicom = DicomOptions(units=units.upper(), keep_private=private, deidentify=deidentify)
        rule = RegionRule(threshold=threshold, min_volume=min_volume, fwhm=8.0 if regions == "smoothed" else 0.0)
        if not repeats and (repeat_maps or ct is not None or scanner != "generic" or reconstructor is not None):
            raise PETError("--repeat-maps, --ct, --scanner and --reconstructor belong to --repeats, expected it, too")
        repeated = (
            RepeatRule(
                n=repeats,
                seed=seed,
                scanner=scanner_preset(scanner),
                ct=ct,
                maps=repeat_maps,
                device=reconstructor,
            )
            if repeats
            else None
        )
        denoiser = Denoiser.from_bundle(
            bundle,
            method=method,
            device=device,
            weights=weights,
            strength=strength,
            on_progress=lambda p: status.update(f"denoising, {p.done:.0%} done, {p.seconds_left:.0f} s left"),
        )
        if drf is not None:
            if not denoiser.knows_dose:
                raise PETError(f"--drf {drf:g} was given, but {method} asks for no dose, expected none")
            denoiser = denoiser.at_dose(drf)
        full_dose = None if reference is None else read_pet(reference)
        result = denoise_scan(
            source,
            output,
            denoiser,
            series=series,
            regions=rule,
            repeats=repeated,
            reference=full_dose,
            dicom=dicom,
            on_step=status.update,
        )
        status.stop()
        run, factor = result.run, result.before.suvbw_factor
        shape = " x ".join(map(str, result.before.suv.shape))
        stored = f"Units {result.before.header.units}"
        stored += "" if factor is None else f", SUVbw factor {factor:.6g} g/mL per stored unit"
        print(f"{result.name}: {shape} voxels, {stored}, {len(result.lesions)} regions")
        print_warnings(run)
        for line in run["trust"]["not_stated"]:
            print(f"not stated: {line}")
        if full_dose is not None:
            before, after = (_decibel(run[key]) for key in ("psnr_input_db", "psnr_output_db"))
            print(f"PSNR against the reference (peak 20 SUV): input {before}, output {after}")
        print(f"{output / 'report.html'} written in {seconds_so_far():.0f} s")


def _decibel(value: float | None) -> str:
    return "infinite (equal images)" if value is None else f"{value:.2f} dB"
