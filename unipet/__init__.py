"""A second name for the package `pipeline`: `from unipet import read_pet`.

A user's own file `pipeline.py` in the working directory or on PYTHONPATH hides the package. This module then says so
and names the file.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline import *  # noqa: F403 - this module offers the same names

_OWN = Path(__file__).resolve().parents[1] / "pipeline" / "__init__.py"


def _package() -> ModuleType:
    spec = find_spec("pipeline")
    found = Path(spec.origin).resolve() if spec and spec.origin else None
    if found != _OWN:
        raise ImportError(f"{found} hides the package 'pipeline' of unipet_3d, expected {_OWN}: rename the former")
    return import_module("pipeline")


def __getattr__(name: str) -> Any:
    return getattr(_package(), name)


def main() -> None:
    """Run the command `unipet`."""
    try:
        _package()
    except ImportError as error:
        sys.exit(f"unipet: {error}")
    import_module("pipeline.cli").main()
