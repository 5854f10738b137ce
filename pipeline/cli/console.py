"""What every command shares: the terminal, one line for an error, a progress bar, common options."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

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

__all__ = ["Bundle", "Device", "Reconstructor", "Scanner", "console", "errors_in_one_line", "progress_bar"]

# In a pipe or a log there is no width to ask for, and 80 columns would fold every table.
console = Console() if sys.stdout.isatty() else Console(width=160)

Bundle = Annotated[Path | None, typer.Option(help="Folder of the bundle; by default the one that comes along.")]
Device = Annotated[str | None, typer.Option(help="Such as cuda or cpu; by default a GPU when there is one.")]
Scanner = Annotated[str, typer.Option(help="Scanner preset, such as generic, generic_tof, mct, dmi, quadra.")]
Reconstructor = Annotated[
    str | None, typer.Option(help="Where reconstructions run: cuda or cpu by torch; by default numpy, exact by seed.")
]


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """A user's mistake ends in one line and exit code 1, an interruption in 130."""
    from pipeline.errors import PETError, one_line

    try:
        yield
    except (PETError, OSError) as error:
        said = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            said = f"{error.filename}: {(error.strerror or 'failed').lower()}"
        print(f"unipet: {one_line(said)}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print("unipet: interrupted, nothing half written is left", file=sys.stderr)
        raise typer.Exit(130) from None


def progress_bar() -> Progress:
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
