"""Command `unipet simulate`."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import (
    Jobs,
    Reconstructor,
    Scanner,
    Scheduler,
    Slurm,
    console,
    errors_in_one_line,
    progress_bar,
)

__all__ = ["simulate"]


def simulate(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the subjects; an unfinished one goes on.")],
    subjects: Annotated[int, typer.Option(min=1, help="Number of subjects.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    drf: Annotated[list[float] | None, typer.Option(help="Dose reduction factor, repeatable [4 10 20 50 100].")] = None,
    scanner: Scanner = "generic",
    tracer: Annotated[str, typer.Option(help="FDG, PSMA-11, DOTATATE, FAPI, FLT or NaF.")] = "FDG",
    less_activity: Annotated[
        bool, typer.Option("--less-activity", help="Less dose is less activity: randoms fall with its square.")
    ] = False,
    lesions: Annotated[int | None, typer.Option(min=0, help="Lesions per subject; by default drawn.")] = None,
    axial_extent: Annotated[
        float | None, typer.Option(min=1, help="Part of the body, around the liver [mm]; by default all of it.")
    ] = None,
    dicom: Annotated[bool, typer.Option("--dicom", help="Also write every image as a DICOM series.")] = False,
    jobs: Jobs = 1,
    scheduler: Scheduler = None,
    slurm: Slurm = None,
    device: Reconstructor = None,
) -> None:
    """Simulate whole-body scans at full and reduced dose, with a manifest and a picture of them.

    Example: `unipet simulate data/ --subjects 3 --drf 4 --drf 20`
    """
    with errors_in_one_line():
        from pipeline.engine import Workers
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
                axial_extent=axial_extent,
                dicom=dicom,
                jobs=Workers(jobs=jobs, scheduler=scheduler, slurm=slurm),
                device=device,
                progress=lambda *_: progress.advance(task),
            )
        with console.status("describing"):
            describe_cohort(output)
        print(f"{subjects} subjects in {output}, described by manifest.yaml, shown in montage.png")
