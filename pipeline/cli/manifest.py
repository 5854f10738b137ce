"""Commands `unipet manifest build`, `check` and `datalist`."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.console import errors_in_one_line, progress_bar
from pipeline.cli.output import check_output, print_frame

if TYPE_CHECKING:
    from pipeline.data import Manifest

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
    jobs: Annotated[int, typer.Option(min=1, help="Sessions whose headers are read at once.")] = 1,
    source: Annotated[str | None, typer.Option(help="Who made the data, with a DOI or an address.")] = None,
    how_to_get: Annotated[str | None, typer.Option(help="How somebody else gets the data.")] = None,
    licence: Annotated[str | None, typer.Option(help="Name of the licence, such as CC-BY-4.0.")] = None,
    allows: Annotated[str | None, typer.Option(help="What the licence allows, in words.")] = None,
) -> None:
    """Find the subjects of a data set, with doses, grids and a split by patient.

    Example: `unipet manifest build data_manifests/udpet.yaml /data/udpet udpet_here.yaml`
    """
    with errors_in_one_line():
        from pipeline.data import build_manifest, exclusion_table, read_exclusions, summary_table
        from pipeline.errors import PETError

        check_output(output, suffixes=(".yaml", ".yml"), holds="subjects")
        layout, description = _described(recipe)
        with progress_bar() as progress:
            task = progress.add_task("reading headers", total=None)
            found = build_manifest(
                layout,  # type: ignore[arg-type]
                root,
                recipe=description,
                fractions=fractions,
                seed=seed,
                exclusions=() if exclusions is None else read_exclusions(exclusions),
                units=units,
                checksums=checksums,
                jobs=jobs,
                progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
        terms = found.licence.model_copy(update=_stated(name=licence, allows=allows))
        found = found.model_copy(update=_stated(source=source, how_to_get=how_to_get) | {"licence": terms})
        print_frame(summary_table(found), "Subjects and images")
        if found.exclusions:
            print_frame(exclusion_table(found), "Left out", index=False)
        if not found.subjects:
            left_out = {exclusion.subject: exclusion.reason for exclusion in found.exclusions}
            first = next((f"; {subject}: {reason}" for subject, reason in left_out.items()), "")
            n_sessions = f"{len(left_out)} session{'s' if len(left_out) > 1 else ''}"
            raise PETError(f"{root}: no usable subject among {n_sessions}, nothing written{first}")
        found.write(output)
        print(f"{output} written: {len(found.subjects)} subjects")
        fields = (found.source, found.how_to_get, found.licence.name, found.licence.allows)
        options = ("--source", "--how-to-get", "--licence", "--allows")
        if missing := [option for option, value in zip(options, fields, strict=True) if not value]:
            print(
                f"`manifest check` asks where the data is from: state {', '.join(missing)}, or write it into the file"
            )


def _stated(**values: str | None) -> dict[str, str]:
    return {key: value for key, value in values.items() if value is not None}


def _described(recipe: str) -> "tuple[str, Manifest | None]":
    """Layout, and description if there is one, from a YAML file or the name of a layout."""
    from difflib import get_close_matches

    from pipeline.data import Manifest
    from pipeline.data.layouts import LAYOUTS
    from pipeline.errors import PETError

    if recipe in LAYOUTS:
        return recipe, None
    if Path(recipe).exists() or Path(recipe).suffix.lower() in (".yaml", ".yml"):
        described = Manifest.from_file(recipe)
        return described.layout, described
    near = get_close_matches(recipe, LAYOUTS, n=1)
    meant = f"; did you mean {near[0]}?" if near else "."
    raise PETError(f"{recipe}: neither a YAML file nor a layout{meant} Layouts are {', '.join(LAYOUTS)}")


@manifest.command()
def check(
    source: ManifestFile,
    root: Root,
    level: Annotated[Level, typer.Option(help="files: at once; headers: seconds; voxels: reads every image.")] = (
        Level.headers
    ),
) -> None:
    """Find leaks between splits, missing files, unlike grids and wrong doses; exit code 1 where there is one.

    Example: `unipet manifest check udpet_here.yaml /data/udpet --level voxels`
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
            print_frame(noise_table(described, root), title)
        if problems:
            print_frame(problem_table(problems), f"{len(problems)} problems", index=False)
            first = " ".join(part for part in (problems[0].subject, problems[0].path, problems[0].detail) if part)
            print(f"unipet: {source}: problems: {len(problems)}, the first: {first}", file=sys.stderr)
            raise typer.Exit(1)
        print(f"{source}: {len(described.subjects)} subjects, no problem found at level {level.value}")


@manifest.command()
def datalist(
    source: ManifestFile, root: Root, output: Annotated[Path, typer.Argument(metavar="OUT", help="JSON to write.")]
) -> None:
    """Write the pairs as a data list that MONAI's load_decathlon_datalist reads.

    Example: `unipet manifest datalist udpet_here.yaml /data/udpet udpet.json`
    """
    with errors_in_one_line():
        from pipeline.data import Manifest, decathlon_datalist
        from pipeline.files import write_json

        check_output(output, suffixes=(".json",), holds="numTraining")
        write_json(output, decathlon_datalist(Manifest.from_file(source), root))
        print(f"{output} written")
