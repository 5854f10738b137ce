"""What every run on one scan shares: its checks, its steps and their times, and its record."""

import hashlib
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import __version__
from pipeline.errors import PETError, naming
from pipeline.pet import PETSeries, read_pet
from pipeline.pet.suv.nuclides import is_positron_emitter

__all__ = ["ScanRun", "check_elsewhere", "shown", "source_sha256"]

_PACKAGES = ("torch", "monai", "numpy", "scipy", "pydicom", "nibabel")


def check_elsewhere(output: Path, source: Path) -> None:
    """Refuse an output inside the folder of a series, which nothing would read as one series any more.

    Raises
    ------
    PETError
        If the output lies inside the source.
    """
    if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
        raise PETError(f"{output}: lies inside the series {source}, expected a folder elsewhere")


def source_sha256(series: PETSeries) -> str:
    """Return the SHA-256 of the voxels and the affine of a series, by which a result tells what it was made from."""
    digest = hashlib.sha256(series.suv.tobytes())
    digest.update(np.ascontiguousarray(series.affine, dtype=np.float64).tobytes())
    return digest.hexdigest()


def shown(run: dict[str, Any]) -> dict[str, str]:
    """Return what a page shows of a run record: texts, numbers and short lists that are not empty."""
    texts = {
        key: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for key, value in run.items()
        if isinstance(value, str | int | float) or (isinstance(value, list) and key != "suv_provenance")
    }
    return {key: text for key, text in texts.items() if text}


class ScanRun:
    """One scan on its way through a workflow.

    Parameters
    ----------
    source, series, sidecar
        What :func:`pipeline.read_pet` reads.
    on_step
        Is told the name of each step as it starts.
    options
        What the record has to say of the choices that were made, where they differ from the usual ones.
    """

    def __init__(
        self,
        source: str | Path,
        on_step: Callable[[str], None] = lambda step: None,
        *,
        series: str | int | None = None,
        sidecar: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.source = Path(source)
        self.options = dict(options or {})
        self.series = series
        self.sidecar = sidecar
        self.on_step = on_step
        self.started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Announce a step, and take its time [s]."""
        self.on_step(name)
        begun = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - begun, 3)

    def read(self) -> PETSeries:
        """Read the scan, and refuse what no workflow can use.

        The series has a warning where voxels exceed :data:`~pipeline.pet.series.HIGHEST_SUV`.

        Raises
        ------
        PETError
            If the source cannot be read as SUV, is flat, or its radionuclide emits no positrons.
        """
        with self.step("reading"), naming(self.source):
            series = read_pet(self.source, series=self.series, sidecar=self.sidecar)
            if min(series.suv.shape) < 2:
                raise PETError(f"volume has shape {series.suv.shape}, expected at least 2 voxels each way")
            if is_positron_emitter(series.header.radionuclide) is False:
                nuclide = series.header.radionuclide
                raise PETError(f"radionuclide {nuclide} emits no positrons, expected a PET scan, not SPECT")
        return series.with_implausible_voxels_noted()

    def record(
        self, series: PETSeries, *, objection: str | None, warnings: Sequence[str] = (), **specific: Any
    ) -> dict[str, Any]:
        """Return what was done, by what and on what; nothing of the patient, and no path, which may name one.

        Parameters
        ----------
        series
            The scan as read.
        objection
            Why no DICOM was written; None if it was.
        warnings
            What a person should know at once, beside the warnings of the series.
        specific
            What this workflow has to say, placed first.
        """
        return {
            "unipet_3d": __version__,
            **specific,
            **({"options": self.options} if self.options else {}),
            "dicom": "written" if objection is None else f"not written, {objection}",
            "warnings": [*series.warnings, *warnings],
            "suvbw_factor": series.suvbw_factor,
            "suv_provenance": list(series.provenance),
            "source_sha256": source_sha256(series),
            "shape": list(series.suv.shape),
            "voxel_size_mm": [round(size, 5) for size in series.voxel_size],
            "n_source_files": len(series.source_files),
            "started": self.started,
            "seconds": self.seconds,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        }
