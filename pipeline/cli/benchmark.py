"""Command `unipet benchmark`."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import Bundle, Device, Jobs, Scheduler, Slurm, errors_in_one_line, progress_bar

__all__ = ["benchmark"]


def benchmark(
    definition: Annotated[
        Path | None,
        typer.Argument(
            metavar="DEFINITION|MANIFEST",
            help="YAML file of a benchmark, by default the one that comes along, or subjects to measure it on.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="RUNS", help="Folder of trainings, RUNS/NAME/model.pt; what lacks is left out."),
    ] = None,
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of results, table and page; an earlier run goes on.")
    ] = Path("benchmark"),
    method: Annotated[list[str] | None, typer.Option(help="Only this method or filter, repeatable.")] = None,
    part: Annotated[
        list[str] | None, typer.Option(help="Only this part, repeatable: images, unseen, cost, ...")
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="Folder of the subjects; by default that of the manifest, DIR/data for a recipe."),
    ] = None,
    scans: Annotated[Path | None, typer.Option(help="Folder of real scans.")] = None,
    jobs: Jobs = 1,
    scheduler: Scheduler = None,
    slurm: Slurm = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Measure nothing: table and page of the results that are there.")
    ] = False,
    bundle: Bundle = None,
    device: Device = None,
) -> None:
    """Measure every method on the same data, store the results, and write one table and one page of them.

    A run that was killed goes on where it was. A method without weights is named and left out.

    Example: `unipet benchmark data/manifest.yaml --weights runs --output benchmark --jobs 2`
    """
    with errors_in_one_line():
        from pipeline.benchmark import own_definition, read_definition
        from pipeline.benchmark.reporting.report import write_reports
        from pipeline.benchmark.run import measure_benchmark
        from pipeline.engine import Workers, workers_kept

        found = read_definition(own_definition() if definition is None else definition)
        if not report_only:
            with workers_kept(), progress_bar() as progress:
                task = progress.add_task("measuring", total=None)
                measure_benchmark(
                    found,
                    output,
                    weights=weights,
                    root=root,
                    scans=scans,
                    bundle=bundle,
                    methods=list(dict.fromkeys(method or ())),
                    parts=list(dict.fromkeys(part or ())),
                    device=device,
                    jobs=Workers(jobs=jobs, scheduler=scheduler, slurm=slurm),
                    say=lambda line: progress.console.print(line, markup=False, highlight=False),
                    on_step=lambda row, name: progress.update(task, description=f"{row}, {name}"),
                )
        for path in write_reports(found, output):
            print(f"unipet: {path} written")
