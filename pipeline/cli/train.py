"""Command `unipet train`."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import Bundle, errors_in_one_line

__all__ = ["train"]


def train(
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
) -> None:
    """Train both stages of a bundle; check configuration, data and output before the first minute is spent.

    By default data and results lie in the folders data and runs of the bundle, or of the working directory if the
    bundle is that of an installed package.

    Example: `unipet train --set dataset_dir=/data --set manifest=mine.yaml --output runs/mine`
    """
    with errors_in_one_line():
        from pipeline.shipped import own_bundle
        from pipeline.training import parse_setting, train_bundle

        stated = [parse_setting(text) for text in settings or ()]
        if output is not None:
            stated.append(("output_dir", str(output.absolute())))
        if time_limit is not None:
            stated.append(("time_limit", time_limit))
        done = train_bundle(own_bundle() if bundle is None else bundle, config or (), stated)
        print(f"unipet: {done}")
        print(f"{done.model} written" if done.is_finished else "run the same command again to go on")
