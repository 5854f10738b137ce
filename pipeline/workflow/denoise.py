"""The main job: one scan in; denoised volume, DICOM series, lesion table, report and run record out."""

import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import __version__
from pipeline.errors import PETError
from pipeline.evaluation import PEAK_SUV, lesion_table, psnr, write_table
from pipeline.files import new_folder
from pipeline.images import regions_in_either
from pipeline.inference import Denoiser
from pipeline.pet import DicomOptions, PETSeries, read_pet
from pipeline.pet.derived_files import scan_name, write_denoised
from pipeline.pet.grid import check_same_grid
from pipeline.report import write_report

__all__ = ["ScanResult", "denoise_scan"]


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
    denoiser: Denoiser,
    *,
    threshold: float = 4.0,
    min_volume: float = 1.0,
    reference: PETSeries | None = None,
    dicom: DicomOptions | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> ScanResult:
    """Denoise one scan and write everything about it into a new folder, complete or not at all.

    The folder then holds ``NAME_desc-denoised_pet.nii.gz`` with its sidecar, ``dicom/`` (where the source has what
    DICOM needs: dose, weight and times), ``lesions.tsv``, ``report.html`` and ``run.json``.

    Parameters
    ----------
    source
        What :func:`pipeline.read_pet` reads.
    output
        Folder to create; absent or empty.
    denoiser
        The method.
    threshold
        SUV [g/mL] from which voxels form regions.
    min_volume
        Smaller regions are left out [mL].
    reference
        Full-dose series on the same grid: the run record then holds the PSNR of input and output against it.
    dicom
        Units, private attributes and de-identification of the DICOM series.
    on_step
        Is told the name of each step as it starts.

    Raises
    ------
    PETError
        If the source cannot be read as SUV or is flat, the reference lies on another grid, a threshold is out of
        range, or the folder cannot be written, holds something already, or lies inside the source.
    """
    if not (threshold > 0 and min_volume >= 0):
        raise PETError(f"threshold {threshold:g} g/mL, min_volume {min_volume:g} mL: expected above 0, and 0 or more")
    if Path(source).is_dir() and Path(output).resolve().is_relative_to(Path(source).resolve()):
        # The folder of one series would become a folder of two, which nothing reads any more.
        raise PETError(f"{output}: lies inside the series {source}, expected a folder elsewhere")
    with new_folder(Path(output)) as folder:
        seconds: dict[str, float] = {}
        steps = _Steps(on_step, seconds)
        with steps("reading"):
            before = read_pet(source)
            if min(before.suv.shape) < 2:
                raise PETError(f"{source}: volume has shape {before.suv.shape}, expected at least 2 voxels each way")
            if reference is not None:
                check_same_grid({"the reference": reference.grid, str(source): before.grid})
        with steps("denoising"):
            after = denoiser(before)
        name = scan_name(before)
        with steps("writing"):
            objection = write_denoised(
                after,
                folder,
                name=name,
                method=denoiser.method,
                weights_sha256=denoiser.weights_sha256,
                options=dicom,
            )
        with steps("measuring"):
            regions = regions_in_either(
                before.suv, after.suv, voxel_size=before.voxel_size, threshold=threshold, min_volume=min_volume
            )
            lesions = lesion_table(before.suv, after.suv, regions, voxel_size=before.voxel_size, affine=before.affine)
            write_table(lesions, folder / "lesions.tsv")
        run = _run_record(before, denoiser, regions.method, seconds)
        run["dicom"] = "written" if objection is None else f"not written, {objection}"
        if reference is not None:
            for key, series in (("psnr_input_db", before), ("psnr_output_db", after)):
                decibel = psnr(series.suv, reference.suv, data_range=PEAK_SUV)
                # JSON has no infinity, which is the PSNR of equal images.
                run[key] = round(decibel, 3) if math.isfinite(decibel) else None
        with steps("reporting"):
            shown = {key: value for key, value in run.items() if isinstance(value, str | int | float)}
            write_report(folder / "report.html", title=name, before=before, after=after, lesions=lesions, run=shown)
        (folder / "run.json").write_text(
            json.dumps(run, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )
    return ScanResult(name=name, before=before, after=after, lesions=lesions, run=run)


class _Steps:
    """Announces steps and takes their time."""

    def __init__(self, announce: Callable[[str], None], seconds: dict[str, float]) -> None:
        self.announce = announce
        self.seconds = seconds

    def __call__(self, name: str) -> "_Steps":
        self.name = name
        return self

    def __enter__(self) -> None:
        self.announce(self.name)
        self.started = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self.seconds[self.name] = round(time.perf_counter() - self.started, 3)


def _run_record(before: PETSeries, denoiser: Denoiser, regions: str, seconds: dict[str, float]) -> dict[str, Any]:
    """What was done, by what, on what; nothing of the patient and no path, which may name one."""
    packages = ("torch", "monai", "numpy", "pydicom", "nibabel")
    return {
        "unipet_3d": __version__,
        "method": denoiser.method,
        "weights_sha256": denoiser.weights_sha256,
        "device": str(denoiser.device),
        "suvbw_factor": before.suvbw_factor,
        "suv_provenance": list(before.provenance),
        "regions": regions,
        "shape": list(before.suv.shape),
        "voxel_size_mm": [round(size, 5) for size in before.voxel_size],
        "n_source_files": len(before.source_files),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "seconds": seconds,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }
