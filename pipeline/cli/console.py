"""What every command shares: the terminal, one line for an error, a progress bar, common options."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = [
    "Bundle",
    "Deidentify",
    "Device",
    "Jobs",
    "Method",
    "Private",
    "Reconstructor",
    "Scanner",
    "Scheduler",
    "Series",
    "Slurm",
    "Strength",
    "Units",
    "Weights",
    "console",
    "errors_in_one_line",
    "print_warnings",
    "progress_bar",
    "seconds_so_far",
]

_STARTED = time.perf_counter()  # before the slow imports, which a user waits for as well

# In a pipe or a log there is no width to ask for, and 80 columns would fold every table.
console = Console() if sys.stdout.isatty() else Console(width=160)

Bundle = Annotated[Path | None, typer.Option(help="Folder of the bundle; by default the one that comes along.")]
Device = Annotated[str | None, typer.Option(help="Such as cuda or cpu; by default a GPU when there is one.")]
Method = Annotated[str, typer.Option(help="File of configs/methods, such as unipet, or the path of such a file.")]
Weights = Annotated[
    Path | None, typer.Option(help="File of weights, such as model.pt of a training, in place of the method's own.")
]
Strength = Annotated[
    float | None, typer.Option(help="Part of the change that is made: 0 is the scan as it is. [default: 1]")
]
Units = Annotated[str, typer.Option(help="Stored in DICOM: BQML (Bq/mL) or GML (SUVbw).")]
Private = Annotated[bool, typer.Option(help="Keep the source's private DICOM attributes.")]
Deidentify = Annotated[
    bool, typer.Option("--deidentify", help="De-identify DICOM by PS3.15; dates are shifted together.")
]
Series = Annotated[
    str | None,
    typer.Option(help="Number, description or UID of the PET series, where a study holds several."),
]
Scanner = Annotated[str, typer.Option(help="Scanner preset, such as generic, biograph, mct, vision, dmi, gemini.")]
Reconstructor = Annotated[
    str | None, typer.Option(help="Where reconstructions run: cuda or cpu by torch; by default numpy, exact by seed.")
]


Jobs = Annotated[int, typer.Option(min=1, help="How many at once: processes on this machine, or jobs of SLURM.")]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Dask scheduler whose workers do it instead, such as tcp://node1:8786."),
]
Slurm = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Do it in jobs of SLURM instead: YAML of cores, memory, queue, walltime, ..."),
]


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """End a user's mistake in one line and exit code 1, an interruption in 130."""
    from pipeline.errors import line_for_user

    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise  # typer ends quietly where the reader of a pipe has gone
    except KeyboardInterrupt:
        print("unipet: interrupted, nothing half written is left", file=sys.stderr)
        raise typer.Exit(130) from None
    except Exception as error:
        line = line_for_user(error)
        if line is None:
            raise
        print(f"unipet: {line}", file=sys.stderr)
        raise typer.Exit(1) from None


def seconds_so_far() -> float:
    """Return how long the command has run [s], imports included."""
    return time.perf_counter() - _STARTED


def print_warnings(run: Mapping[str, Any]) -> None:
    """Print what a person must know of a run at once: warnings of its record, and why there is no DICOM."""
    for warning in run["warnings"]:
        print(f"warning: {warning}")
    if run["dicom"] != "written":
        print(f"DICOM {run['dicom']}")


def progress_bar() -> Progress:
    """Return a bar that counts, with the time spent and left; it disappears in the end."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
