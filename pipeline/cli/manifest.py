"""Commands `unipet manifest build`, `check` and `datalist`."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from pipeline.cli.console import console, errors_in_one_line, progress_bar

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["manifest"]

manifest = typer.Typer(help="Describe a data set, check it, hand it on.", no_args_is_help=True)

ManifestFile = Annotated[Path, typer.Argument(metavar="MANIFEST", help="YAML file that `manifest build` wrote.")]
Root = Annotated[Path, typer.Argument(metavar="ROOT", help="Folder of the data.")]


class Level(StrEnum):
    """How deep a check goes."""

    files = "files"
    headers = "headers"
    voxels = "voxels"


@manifest.command()
def build(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="YAML file of data_manifests, or a layout such as bids_pet.")
    ],
    root: Root,
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Manifest to write.")],
    fractions: Annotated[
        tuple[float, float, float], typer.Option(help="Of train, validation and test among the patients.")
    ] = (0.8, 0.1, 0.1),
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another split.")] = 0,
    exclusions: Annotated[Path | None, typer.Option(help="YAML list of what must not be used, with reasons.")] = None,
    units: Annotated[str | None, typer.Option(help="Of the voxels, where the data set does not publish them.")] = None,
    checksums: Annotated[bool, typer.Option("--checksums", help="Record SHA-256: reads every byte.")] = False,
) -> None:
    """Find the subjects of a data set, with doses, grids and a split by patient.

    Example: [bold]unipet manifest build data_manifests/udpet.yaml /data/udpet udpet_here.yaml[/bold]
    """
    with errors_in_one_line():
        from pipeline.data import Manifest, build_manifest, exclusion_table, read_exclusions, summary_table
        from pipeline.data.layouts import LAYOUTS

        _check_output(output, suffixes=(".yaml", ".yml"), holds="subjects")
        description = None if recipe in LAYOUTS else Manifest.from_file(recipe)
        with progress_bar() as progress:
            task = progress.add_task("reading headers", total=None)
            found = build_manifest(
                recipe if description is None else description.layout,  # type: ignore[arg-type]
                root,
                recipe=description,
                fractions=fractions,
                seed=seed,
                exclusions=() if exclusions is None else read_exclusions(exclusions),
                units=units,
                checksums=checksums,
                progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
        found.write(output)
        console.print(_as_table(summary_table(found), "Subjects and images"))
        if found.exclusions:
            console.print(_as_table(exclusion_table(found), "Left out", index=False))
        print(f"{output} written: {len(found.subjects)} subjects")


@manifest.command()
def check(
    source: ManifestFile,
    root: Root,
    level: Annotated[Level, typer.Option(help="files: at once; headers: seconds; voxels: reads every image.")] = (
        Level.headers
    ),
) -> None:
    """Find leaks between splits, missing files, unlike grids and wrong doses; exit code 1 where there is one.

    Example: [bold]unipet manifest check udpet_here.yaml /data/udpet --level voxels[/bold]
    """
    with errors_in_one_line():
        from pipeline.data import Manifest, check_manifest, noise_table, problem_table

        described = Manifest.from_file(source)
        with progress_bar() as progress:
            task = progress.add_task("checking", total=max(1, len(described.subjects)))
            problems = check_manifest(
                described,
                root,
                level=level.value,
                progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
        # Its medians need every image.
        if level is Level.voxels and described.subjects and all(problem.kind == "noise" for problem in problems):
            title = "High-pass energy by dose reduction factor, median, beside published real scanners"
            console.print(_as_table(noise_table(described, root), title))
        if problems:
            console.print(_as_table(problem_table(problems), f"{len(problems)} problems", index=False))
            first = " ".join(part for part in (problems[0].subject, problems[0].path, problems[0].detail) if part)
            print(f"unipet: {source}: problems: {len(problems)}, the first: {first}", file=sys.stderr)
            raise typer.Exit(1)
        print(f"{source}: {len(described.subjects)} subjects, no problem found at level {level.value}")


@manifest.command()
def datalist(
    source: ManifestFile, root: Root, output: Annotated[Path, typer.Argument(metavar="OUT", help="JSON to write.")]
) -> None:
    """Write the pairs as a data list that MONAI's load_decathlon_datalist reads.

    Example: [bold]unipet manifest datalist udpet_here.yaml /data/udpet udpet.json[/bold]
    """
    with errors_in_one_line():
        from pipeline.data import Manifest, write_datalist

        _check_output(output, suffixes=(".json",), holds="numTraining")
        print(f"{write_datalist(Manifest.from_file(source), root, output)} written")


def _check_output(path: Path, *, suffixes: tuple[str, ...], holds: str) -> None:
    """Refuse to write over anything but an earlier result, which has the key `holds`."""
    from pipeline.errors import PETError
    from pipeline.files import read_yaml

    if path.suffix.lower() not in suffixes:
        raise PETError(f"{path}: expected a name ending in {' or '.join(suffixes)}")
    if not path.absolute().parent.is_dir():
        raise PETError(f"{path}: folder {path.absolute().parent} does not exist")
    if path.exists():
        content = read_yaml(path)  # JSON is YAML
        if not isinstance(content, dict) or holds not in content:
            raise PETError(f"{path}: exists and is no earlier result of this command, expected a new name")


def _as_table(frame: "pd.DataFrame", title: str, *, index: bool = True) -> Table:
    table = Table(title=title, title_justify="left")
    frame = frame.reset_index(names="") if index else frame
    for name in frame.columns:
        is_number = frame[name].dtype.kind in "if"
        table.add_column(str(name), justify="right" if is_number else "left")
    for row in frame.itertuples(index=False):
        table.add_row(*(("–" if v != v else f"{v:.3g}") if isinstance(v, float) else str(v) for v in row))
    return table
