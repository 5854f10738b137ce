"""unipet_3d: universal denoising of low-dose whole-body PET that keeps SUV right."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.errors import PETError
    from pipeline.inference.denoiser import Denoiser
    from pipeline.pet import PETHeader, PETSeries, read_pet

__all__ = ["Denoiser", "PETError", "PETHeader", "PETSeries", "__version__", "read_pet"]

try:
    __version__ = version("unipet_3d")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"

# Imported on first use: `import pipeline` must stay instant, so no torch here.
_LAZY = {
    "Denoiser": "pipeline.inference",
    "PETError": "pipeline.pet",
    "PETHeader": "pipeline.pet",
    "PETSeries": "pipeline.pet",
    "read_pet": "pipeline.pet",
}


_SUBPACKAGES = {
    *("comparison", "data", "evaluation", "images", "inference", "losses", "networks", "pet"),
    *("ending", "engine", "report", "simulation", "training", "transforms", "workflow"),
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name in _SUBPACKAGES:
        return import_module(f"pipeline.{name}")
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
