"""The main job: one scan in; denoised volume, DICOM series, lesion table, report and run record out.

:class:`ScanRun` is what every run on one scan shares: its checks, its steps and their times, and its record.
"""

import hashlib
import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipeline import __version__
from pipeline.errors import PETError, naming
from pipeline.evaluation import PEAK_SUV, lesion_table, psnr
from pipeline.files import new_folder, write_json, write_table
from pipeline.images import regions_in_either
from pipeline.pet import DicomOptions, PETSeries, read_pet
from pipeline.pet.derived_files import scan_name, write_denoised
from pipeline.pet.grid import check_same_grid
from pipeline.pet.suv.nuclides import is_positron_emitter
from pipeline.report import write_report

if TYPE_CHECKING:
    from pipeline.inference import Denoiser

__all__ = [
    "RegionRule",
    "ScanResult",
    "ScanRun",
    "check_elsewhere",
    "denoise_into",
    "denoise_scan",
    "shown",
    "source_sha256",
]

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
    source, series
        What :func:`pipeline.read_pet` reads.
    on_step
        Is told the name of each step as it starts.
    """

    def __init__(
        self,
        source: str | Path,
        on_step: Callable[[str], None] = lambda step: None,
        *,
        series: str | int | None = None,
    ) -> None:
        self.source = Path(source)
        self.series = series
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
            series = read_pet(self.source, series=self.series)
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


_VOLUMES = 8
"""Memory that a scan needs beside its own, in volumes of float32: measured while regions are drawn."""


@dataclass(frozen=True, kw_only=True)
class RegionRule:
    """How the regions of the lesion table are drawn.

    Raises
    ------
    PETError
        If a value is out of range.
    """

    threshold: float = 4.0
    """SUV from which voxels form regions [g/mL]."""
    min_volume: float = 1.0
    """Smaller regions are left out [mL]."""
    fwhm: float = 8.0
    """Width of the Gaussian [mm] on both images before the outline is drawn, which keeps it from following the noise.
    0 is the published rule of a fixed SUV, on the images as they are."""

    def __post_init__(self) -> None:
        if not (0 < self.threshold < math.inf and 0 <= self.min_volume < math.inf and 0 <= self.fwhm < math.inf):
            raise PETError(
                f"threshold {self.threshold:g} g/mL, min_volume {self.min_volume:g} mL, fwhm {self.fwhm:g} mm: "
                "expected finite numbers, the first above 0, the others 0 or more"
            )


@dataclass(frozen=True, kw_only=True)
class ScanResult:
    """What :func:`denoise_scan` made."""

    name: str
    """Name of the scan in file names."""
    before: PETSeries
    """As read."""
    after: PETSeries
    """Denoised."""
    lesions: pd.DataFrame
    """Regions with their SUV before and after."""
    run: dict[str, Any]
    """The run record, as in ``run.json``."""


def denoise_scan(
    source: str | Path,
    output: str | Path,
    denoiser: "Denoiser",
    *,
    series: str | int | None = None,
    regions: RegionRule | None = None,
    reference: PETSeries | None = None,
    dicom: DicomOptions | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> ScanResult:
    """Denoise one scan and write everything about it into a new folder, complete or not at all.

    The folder then holds ``NAME_desc-denoised_pet.nii.gz`` with its sidecar, ``NAME_desc-uncertainty_pet.nii.gz``, the
    standard deviation of every voxel [g/mL], of a method that knows it, ``dicom/`` (where the source has what
    DICOM needs: dose, weight and times), ``lesions.tsv``, ``report.html`` and ``run.json``.

    Parameters
    ----------
    source, series
        What :func:`pipeline.read_pet` reads.
    output
        Folder to create; absent or empty.
    denoiser
        The method.
    regions
        How the regions of the lesion table are drawn.
    reference
        Full-dose series on the same grid: the run record then holds the PSNR of input and output against it.
    dicom
        Units, private attributes and de-identification of the DICOM series.
    on_step
        Is told the name of each step as it starts.

    Raises
    ------
    PETError
        If the source cannot be read as SUV or is flat, the reference lies on another grid, memory does not suffice, or
        the folder cannot be written, holds something already, or lies inside the source.
    """
    run = ScanRun(source, on_step, series=series)
    check_elsewhere(Path(output), run.source)
    with new_folder(Path(output)) as folder:
        before = run.read()
        return denoise_into(folder, run, before, denoiser, regions=regions, reference=reference, dicom=dicom)


def denoise_into(
    folder: Path,
    run: ScanRun,
    before: PETSeries,
    denoiser: "Denoiser",
    *,
    regions: RegionRule | None = None,
    reference: PETSeries | None = None,
    dicom: DicomOptions | None = None,
) -> ScanResult:
    """Denoise a scan that was read, and write everything about it into an empty folder; see `denoise_scan`."""
    regions = regions or RegionRule()
    if reference is not None:
        check_same_grid({"the reference": reference.grid, str(run.source): before.grid})
    _check_memory(before, run.source)
    # Here, because it imports torch, and noise is inserted without.
    from pipeline.inference import style_rows, unfamiliar_noise

    with run.step("denoising"), naming(run.source):
        after, uncertainty = denoiser.with_uncertainty(before)
    name = scan_name(before)
    with run.step("writing"):
        objection = write_denoised(
            after,
            folder,
            name=name,
            method=denoiser.method,
            strength=denoiser.strength,
            weights_sha256=denoiser.weights_sha256,
            source_sha256=source_sha256(before),
            options=dicom,
            uncertainty=uncertainty,
        )
    with run.step("measuring"), naming(run.source):
        found = regions_in_either(
            before.suv,
            after.suv,
            voxel_size=before.voxel_size,
            threshold=regions.threshold,
            min_volume=regions.min_volume,
            fwhm=regions.fwhm,
        )
        lesions = lesion_table(before.suv, after.suv, found, voxel_size=before.voxel_size, affine=before.affine)
        quality = {} if reference is None else _quality(before, after, reference)
        deviations = denoiser.style_deviation(before)
        dose = denoiser.dose_of(before)
    unfamiliar = unfamiliar_noise(deviations)
    doses = {} if dose is None else {"dose_reduction_factor": round(dose[0], 2), "dose_reduction_factor_is": dose[1]}
    write_table(lesions, folder / "lesions.tsv")
    record = run.record(
        before,
        objection=objection,
        warnings=[] if unfamiliar is None else [unfamiliar],
        method=denoiser.method,
        strength=denoiser.strength,
        weights_sha256=denoiser.weights_sha256,
        **doses,
        **denoiser.sampling,
        device=str(denoiser.device),
        regions=found.method,
        style_deviation_sd={name: round(deviation, 2) for name, deviation in deviations.items()},
        **quality,
    )
    with run.step("reporting"), naming(folder / "report.html"):
        write_report(
            folder / "report.html",
            title=name,
            before=before,
            after=after,
            lesions=lesions,
            run=shown(record),
            noise=style_rows(deviations),
        )
    write_json(folder / "run.json", record)
    return ScanResult(name=name, before=before, after=after, lesions=lesions, run=record)


def _check_memory(series: PETSeries, source: Path) -> None:
    """Refuse a scan, before minutes of work, that could not be written and measured after them."""
    # Here, because it imports torch, and noise is inserted without.
    from pipeline.inference.streaming.plan import available_memory

    needed, free = _VOLUMES * series.suv.nbytes, available_memory("cpu")
    if free is not None and needed > free:
        shape = " x ".join(map(str, series.suv.shape))
        gib = f"about {needed / 2**30:.2g} GiB of memory, {free / 2**30:.2g} GiB are free"
        raise PETError(f"{source}: {shape} voxels need {gib}")


def _quality(before: PETSeries, after: PETSeries, reference: PETSeries) -> dict[str, Any]:
    """PSNR [dB] of input and output; None for equal images, whose infinite PSNR JSON cannot hold."""
    decibels = {
        key: psnr(series.suv, reference.suv, data_range=PEAK_SUV)
        for key, series in (("psnr_input_db", before), ("psnr_output_db", after))
    }
    return {key: round(value, 3) if math.isfinite(value) else None for key, value in decibels.items()}
