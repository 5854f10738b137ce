"""Command on simulated cohorts: simulate."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import errors_in_one_line, progress_bar

__all__ = ["simulate"]


def simulate(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the subjects; an unfinished one goes on.")],
    subjects: Annotated[int, typer.Option(min=1, help="Number of subjects.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    drf: Annotated[list[float] | None, typer.Option(help="Dose reduction factor, repeatable [4 10 20 50 100].")] = None,
    scanner: Annotated[str, typer.Option(help="Scanner preset.")] = "generic",
    lesions: Annotated[int | None, typer.Option(min=0, help="Lesions per subject; by default drawn.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Subjects simulated at once.")] = 1,
) -> None:
    """Simulate whole-body FDG scans at full and reduced dose.

    Example: [bold]unipet simulate data/ --subjects 3 --drf 4 --drf 20[/bold]
    """
    with errors_in_one_line():
        from pipeline.simulation import DEFAULT_DOSE_REDUCTION_FACTORS, scanner_preset, simulate_cohort

        with progress_bar() as progress:
            task = progress.add_task("simulating", total=subjects)
            simulate_cohort(
                output,
                n_subjects=subjects,
                seed=seed,
                scanner=scanner_preset(scanner),
                dose_reduction_factors=drf or DEFAULT_DOSE_REDUCTION_FACTORS,
                n_lesions=lesions,
                jobs=jobs,
                progress=lambda *_: progress.advance(task),
            )
        print(f"{subjects} subjects in {output}")
