"""Command `unipet train`."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import Bundle, Method, errors_in_one_line

__all__ = ["train"]


def train(
    method: Method = "unipet",
    config: Annotated[
        list[Path] | None, typer.Option(metavar="OVERLAY", help="Configuration on top of the bundle's, repeatable.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One value, such as train#max_epochs=60.")
    ] = None,
    bundle: Bundle = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of checkpoints, curves, weights; an earlier run goes on.")
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option(help="Save and end after this many seconds; run again to go on.")
    ] = None,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where in the code an error was met.")] = False,
) -> None:
    """Train a method in all its stages; check configuration, data and output before the first minute is spent.

    By default data and results lie in the folders data and runs of the bundle, or of the working directory if the
    bundle is that of an installed package.

    Example: `unipet train --set dataset_dir=/data --set manifest=mine.yaml --output runs/mine`
    """
    with nullcontext() if traceback else errors_in_one_line():
        from pipeline.shipped import own_bundle
        from pipeline.training import parse_setting, train_bundle

        stated = [parse_setting(text) for text in settings or ()]
        if output is not None:
            stated.append(("output_dir", str(output.absolute())))
        if time_limit is not None:
            stated.append(("time_limit", time_limit))
        folder = own_bundle() if bundle is None else bundle
        print(f"unipet: {train_bundle(folder, config or (), stated, method=method)}")
