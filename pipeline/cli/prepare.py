"""Command `unipet prepare`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import Jobs, Reconstructor, Scheduler, Slurm, errors_in_one_line, progress_bar

__all__ = ["prepare"]


def prepare(
    source: Annotated[Path, typer.Argument(metavar="MANIFEST", help="Manifest with subjects, or a simulated recipe.")],
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Folder to make or to bring up to date.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the data; by default that of the manifest.")] = None,
    jobs: Jobs = 1,
    scheduler: Scheduler = None,
    slurm: Slurm = None,
    device: Reconstructor = None,
    rehash: Annotated[bool, typer.Option("--rehash", help="Read every input again to see what changed.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Remove subjects that the manifest no longer has.")] = False,
    insert_drf: Annotated[
        list[float] | None,
        typer.Option(help="Insert noise of this dose reduction factor where there is full dose only, repeatable."),
    ] = None,
    scanner: Annotated[str, typer.Option(help="Scanner preset for inserted noise.")] = "generic",
    liver_cov: Annotated[
        float | None, typer.Option(help="Noise of the liver at full dose; by default measured.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of inserted noise.")] = 0,
) -> None:
    """Convert a data set to SUV once, into chunked volumes that training reads patches from.

    A killed run goes on where it stopped; changed inputs, settings and damaged chunks are made anew.

    Example: `unipet prepare data/manifest.yaml data/store --jobs 2`
    """
    with errors_in_one_line():
        from pipeline.data import NoiseInsertion, described_data, prepare_store
        from pipeline.engine import Workers, workers_kept
        from pipeline.simulation import scanner_preset

        workers = Workers(jobs=jobs, scheduler=scheduler, slurm=slurm)

        insertion = None
        if insert_drf:
            insertion = NoiseInsertion(
                dose_reduction_factors=tuple(insert_drf),
                scanner=scanner_preset(scanner),
                seed=seed,
                liver_cov=liver_cov,
            )
        with workers_kept(), progress_bar() as progress:
            task = progress.add_task("simulating", total=None)

            def advance(n_done: int, total: int) -> None:
                progress.update(task, completed=n_done, total=total)

            described, folder = described_data(source, root=root, jobs=workers, device=device, progress=advance)
            progress.update(task, description="preparing", completed=0, total=None)
            done = prepare_store(
                described,
                store,
                root=folder,
                jobs=workers,
                insertion=insertion,
                rehash=rehash,
                prune=prune,
                progress=advance,
            )
        print(done)
        if failed := done.of_status("failed"):
            print(f"unipet: {len(failed)} of {len(done.outcomes)} subjects failed", file=sys.stderr)
            raise typer.Exit(1)
