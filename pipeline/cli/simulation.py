"""Commands that make data by physics: simulate, insert-noise."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import console, errors_in_one_line, progress_bar

__all__ = ["insert_noise", "simulate"]

Scanner = Annotated[str, typer.Option(help="Scanner preset, such as generic, generic_tof, mct, dmi, quadra.")]
Reconstructor = Annotated[
    str | None, typer.Option(help="Where reconstructions run: cuda or cpu by torch; by default numpy, exact by seed.")
]


def simulate(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the subjects; an unfinished one goes on.")],
    subjects: Annotated[int, typer.Option(min=1, help="Number of subjects.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    drf: Annotated[list[float] | None, typer.Option(help="Dose reduction factor, repeatable [4 10 20 50 100].")] = None,
    scanner: Scanner = "generic",
    tracer: Annotated[str, typer.Option(help="FDG, PSMA-11, DOTATATE or FAPI.")] = "FDG",
    less_activity: Annotated[
        bool, typer.Option("--less-activity", help="Less dose is less activity: randoms fall with its square.")
    ] = False,
    lesions: Annotated[int | None, typer.Option(min=0, help="Lesions per subject; by default drawn.")] = None,
    dicom: Annotated[bool, typer.Option("--dicom", help="Also write every image as a DICOM series.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Subjects simulated at once.")] = 1,
    device: Reconstructor = None,
) -> None:
    """Simulate whole-body scans at full and reduced dose, with a manifest and a picture of them.

    Example: [bold]unipet simulate data/ --subjects 3 --drf 4 --drf 20[/bold]
    """
    with errors_in_one_line():
        from pipeline.simulation import DEFAULT_DOSE_REDUCTION_FACTORS, scanner_preset, simulate_cohort, tracer_named
        from pipeline.workflow import describe_cohort

        with progress_bar() as progress:
            task = progress.add_task("simulating", total=subjects)
            simulate_cohort(
                output,
                n_subjects=subjects,
                seed=seed,
                scanner=scanner_preset(scanner),
                tracer=tracer_named(tracer),
                dose_reduction_factors=drf or DEFAULT_DOSE_REDUCTION_FACTORS,
                dose_mode="less_activity" if less_activity else "shorter_scan",
                n_lesions=lesions,
                dicom=dicom,
                jobs=jobs,
                device=device,
                progress=lambda *_: progress.advance(task),
            )
        with console.status("describing"):
            describe_cohort(output)
        print(f"{subjects} subjects in {output}, described by manifest.yaml, shown in montage.png")


def insert_noise(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Full-dose scan: DICOM folder, or NIfTI and JSON.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to create.")],
    drf: Annotated[list[float] | None, typer.Option(help="Dose reduction factor, repeatable [4 10 20].")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and scan give the same images.")] = 0,
    ct: Annotated[Path | None, typer.Option(help="CT of the examination; without it the body counts as water.")] = None,
    scanner: Scanner = "generic",
    liver_center: Annotated[
        tuple[float, float, float] | None, typer.Option(help="Centre of a 30 mm sphere in the liver, RAS+ [mm].")
    ] = None,
    liver_cov: Annotated[float | None, typer.Option(help="Noise of the liver at full dose, such as 0.1.")] = None,
    units: Annotated[str, typer.Option(help="Stored in DICOM: BQML (Bq/mL) or GML (SUVbw).")] = "BQML",
    private: Annotated[bool, typer.Option(help="Keep the source's private DICOM attributes.")] = True,
    deidentify: Annotated[
        bool, typer.Option("--deidentify", help="De-identify DICOM by PS3.15; dates are shifted together.")
    ] = False,
    device: Reconstructor = None,
) -> None:
    """Make low-dose scans of a full-dose scan: reprojection, Poisson noise of fewer counts, reconstruction.

    Example: [bold]unipet insert-noise scan_folder/ low/ --drf 4 --drf 20 --ct ct_folder/[/bold]
    """
    with errors_in_one_line():
        from pipeline.pet import DicomOptions
        from pipeline.simulation import scanner_preset
        from pipeline.workflow import insert_noise_into_scan

        with console.status("starting") as status:
            result = insert_noise_into_scan(
                source,
                output,
                drf or (4.0, 10.0, 20.0),
                seed=seed,
                ct=ct,
                scanner=scanner_preset(scanner),
                liver_center=liver_center,
                liver_cov=liver_cov,
                device=device,
                dicom=DicomOptions(units=units.upper(), keep_private=private, deidentify=deidentify),
                on_step=status.update,
            )
        for row in result.noise.itertuples():
            measured = f"liver SUV {row.liver_suv_mean:.2f}, CoV {row.liver_cov:.3f} (expected {row.expected_cov:.3f})"
            print(f"DRF {row.dose_reduction_factor:g}: {measured}")
        if result.run["dicom"] != "written":
            print(f"DICOM {result.run['dicom']}")
        print(f"{output / 'report.html'} written")
