"""What commands print and write: tables in the terminal, and files that are checked before the work begins."""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from pipeline.cli.console import console

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check_output", "print_frame", "print_table"]


def check_output(path: Path, *, suffixes: Sequence[str] = (), holds: str | None = None) -> None:
    """Refuse a file that cannot be written, whose name ends otherwise, or that is no earlier result with a key `holds`.

    Raises
    ------
    PETError
        If it is such a file. Nothing was done yet.
    """
    from pipeline.errors import PETError
    from pipeline.files import read_yaml

    if suffixes and path.suffix.lower() not in suffixes:
        raise PETError(f"{path}: expected a name ending in {' or '.join(suffixes)}")
    folder = path.absolute().parent
    if path.is_dir():
        raise PETError(f"{path}: is a folder, expected the name of a file")
    if not folder.is_dir():
        raise PETError(f"{path}: folder {folder} does not exist")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise PETError(f"{path}: cannot be written ({error.strerror})") from error
    if holds is not None and path.exists():
        content = read_yaml(path)  # JSON is YAML
        if not isinstance(content, dict) or holds not in content:
            raise PETError(f"{path}: exists and is no earlier result of this command, expected a new name")


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, n_text_columns: int = 1) -> None:
    """Print a table whose first columns hold words, at the left, and the others figures, at the right."""
    # Escaped, for rich takes a unit in brackets for markup.
    table = Table(title=escape(title), title_justify="left")
    for i, name in enumerate(header):
        table.add_column(escape(name), justify="left" if i < n_text_columns else "right")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)


def print_frame(frame: "pd.DataFrame", title: str, *, index: bool = True) -> None:
    """Print a table of pandas, three significant digits a figure; a missing one is a dash."""
    frame = frame.reset_index(names="") if index else frame
    n_text_columns = next((i for i, name in enumerate(frame.columns) if frame[name].dtype.kind in "if"), frame.shape[1])
    rows = (
        [("–" if v != v else f"{v:.3g}") if isinstance(v, float) else str(v) for v in row]
        for row in frame.itertuples(index=False)
    )
    print_table(title, [str(name) for name in frame.columns], rows, n_text_columns=n_text_columns)
