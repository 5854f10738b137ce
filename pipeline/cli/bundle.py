"""Commands `unipet bundle ...`."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import errors_in_one_line

__all__ = ["bundle"]

bundle = typer.Typer(no_args_is_help=True, help="Find or copy the bundle that comes along: configurations and weights.")


@bundle.command()
def path() -> None:
    """Print the folder of the bundle, whose configs MONAI runs.

    Example: `python -m monai.bundle run --config_file "$(unipet bundle path)/configs/inference.yaml"`
    """
    with errors_in_one_line():
        from pipeline.shipped import own_bundle

        print(own_bundle())


@bundle.command()
def copy(output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to create.")]) -> None:
    """Copy the bundle to a folder of your own, to change its configurations; --bundle then names that folder.

    Example: `unipet bundle copy mine/`
    """
    with errors_in_one_line():
        from pipeline.files import new_folder
        from pipeline.shipped import copy_bundle, own_bundle

        with new_folder(output) as folder:
            copy_bundle(own_bundle(), folder)
        print(f"{output} written, run it with --bundle {output}")
