"""Command line: the `unipet` command. Heavy imports wait inside the commands."""

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline import __version__
from pipeline.cli.adapt import adapt
from pipeline.cli.benchmark import benchmark
from pipeline.cli.bundle import bundle
from pipeline.cli.cohort.command import cohort
from pipeline.cli.denoise import denoise
from pipeline.cli.doors.bids_app import BIDSAppCommand, bids_app
from pipeline.cli.doors.module import module
from pipeline.cli.evaluate import evaluate
from pipeline.cli.insert_noise import insert_noise
from pipeline.cli.manifest import manifest
from pipeline.cli.prepare import prepare
from pipeline.cli.simulate import simulate
from pipeline.cli.suv import suv
from pipeline.cli.train import train
from pipeline.ending import end_by_signals

__all__ = ["app", "main"]

app = typer.Typer(
    help="Universal denoising of low-dose whole-body PET that keeps SUV right.",
    no_args_is_help=True,
    add_completion=False,  # it would edit the files of the user's shell
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # in which a unit such as [g/mL] is no markup
)
for command in (denoise, suv, simulate, insert_noise, prepare, train, adapt, evaluate, benchmark):
    app.command()(command)
app.command(cls=BIDSAppCommand)(bids_app)
app.command()(module)
app.add_typer(cohort, name="cohort")
app.add_typer(manifest, name="manifest")
app.add_typer(bundle, name="bundle")


def main() -> None:
    """Entry point of the console script."""
    end_by_signals()
    # Shells expand `--output ~/runs`, and leave `--output=~/runs` as it is.
    app([re.sub(r"^(--[\w-]+=)~(?=/|$)", lambda match: f"{match[1]}{Path.home()}", word) for word in sys.argv[1:]])


def _show_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
