"""A full-dose scan in, the scans that lower doses would have given out: NIfTI, DICOM, page and run record."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import __version__
from pipeline.data import dose_key
from pipeline.errors import PETError, naming
from pipeline.files import new_folder, write_json
from pipeline.images.liver import measured_liver_cov
from pipeline.pet import DicomOptions, PETSeries
from pipeline.pet.derived_files import describe_results, scan_name, write_derived
from pipeline.pet.nifti import check_is_full_dose
from pipeline.report import LIVER_NOISE_COLUMNS, liver_noise_table, write_noise_page
from pipeline.simulation import GENERIC, Scanner, check_dose_reduction_factors
from pipeline.simulation.ct import attenuation_of_series
from pipeline.simulation.noise_texture import NoiseTexture
from pipeline.simulation.series_scan import low_dose_of
from pipeline.tables import write_scan_table
from pipeline.workflow.scan_run import ScanRun, check_elsewhere, shown, source_sha256

__all__ = ["NoisyScan", "insert_noise_into_scan"]


@dataclass(frozen=True, kw_only=True)
class NoisyScan:
    """What :func:`insert_noise_into_scan` made."""

    name: str
    """Name of the scan in file names."""
    full_dose: PETSeries
    """As read."""
    low_dose: dict[float, PETSeries]
    """By dose reduction factor."""
    texture: NoiseTexture
    """Correlation of the scan's own noise and of what was inserted, and the post-filter."""
    noise: pd.DataFrame
    """Noise of the liver by dose reduction factor, see `liver_noise_table`."""
    run: dict[str, Any]
    """The run record, as in ``run.json``."""


def insert_noise_into_scan(
    source: str | Path,
    output: str | Path,
    factors: Sequence[float],
    *,
    series: str | int | None = None,
    seed: int = 0,
    ct: str | Path | None = None,
    scanner: Scanner = GENERIC,
    post_filter: tuple[float, float] | None = None,
    liver_center: Sequence[float] | None = None,
    liver_cov: float | None = None,
    device: str | None = None,
    dicom: DicomOptions | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> NoisyScan:
    """Make low-dose scans of a full-dose scan and write them into a new folder, complete or not at all.

    The folder then holds, for each dose reduction factor, ``NAME_rec-drfNNN_pet.nii.gz`` with its sidecar and, where
    the source has what DICOM needs, ``dicom_drfNNN/``; ``noise.tsv``, ``report.html`` and ``run.json``.

    Parameters
    ----------
    source, series
        What :func:`pipeline.read_pet` reads.
    output
        Folder to create; absent or empty.
    factors
        Different dose reduction factors above 1.
    seed
        The same seed and scan give the same images.
    ct
        CT of the same examination, for the attenuation; without it the body is taken for water.
    scanner
        What the scan was made with, or what is nearest.
    post_filter
        Gaussian after reconstruction, full width at half maximum in plane and along Z [mm]; by default it is fitted to
        the texture of the scan's own noise, whatever the scanner's is.
    liver_center
        Centre of a 30 mm sphere in the liver, RAS+ [mm]; by default it is found.
    liver_cov
        Coefficient of variation of the noise in the liver at full dose; by default it is measured.
    device
        Where the reconstructions run: None is numpy, otherwise a torch device.
    dicom
        Units, private attributes and de-identification of the DICOM series.
    on_step
        Is told the name of each step as it starts.

    Raises
    ------
    PETError
        If the source cannot be read as SUV, a factor is out of range, no liver is found, the CT does not fit, or the
        folder cannot be written, holds something already, or lies inside the source.
    """
    ordered = check_dose_reduction_factors(factors)
    if not ordered:
        raise PETError("no dose reduction factor was given, expected at least one above 1")
    if liver_cov is not None and not 0 < liver_cov < 1:
        raise PETError(f"liver_cov is {liver_cov:g}, expected a fraction above 0 and below 1")
    run = ScanRun(source, on_step, series=series)
    check_elsewhere(Path(output), run.source)
    with naming(run.source):
        check_is_full_dose(run.source)
    with new_folder(Path(output)) as folder:
        full_dose = run.read()
        with run.step("finding the liver"):
            attenuation = None if ct is None else attenuation_of_series(ct, full_dose)
            liver = measured_liver_cov(full_dose, center=liver_center)
            noise_cov = liver.noise_cov if liver_cov is None else liver_cov
        with run.step("reconstructing"):
            made = low_dose_of(
                full_dose,
                ordered,
                liver=liver.region,
                liver_cov=noise_cov,
                seed=seed,
                preset=scanner,
                post_filter=post_filter,
                attenuation=attenuation,
                device=device,
            )
        low_dose, texture = made.series, made.texture
        name = scan_name(full_dose)
        with run.step("writing"):
            objection = _write(low_dose, folder, name, source_sha256=source_sha256(full_dose), dicom=dicom)
            describe_results(folder)
            noise = liver_noise_table(full_dose, low_dose, region=liver.region, noise_cov=noise_cov)
            write_scan_table(noise, folder / "noise.tsv", scan=name, columns=LIVER_NOISE_COLUMNS)
        record = run.record(
            full_dose,
            objection=objection,
            warnings=[texture.warning] if texture.warning else [],
            dose_reduction_factors=list(low_dose),
            seed=seed,
            scanner=scanner.name,
            attenuation="water in the body" if ct is None else "CT",
            liver_center_mm=[round(c, 1) for c in liver.center],
            liver_noise_cov=round(noise_cov, 5),
            liver_noise_cov_is="measured" if liver_cov is None else "stated",
            post_filter_mm=[round(width, 2) for width in texture.post_filter],
            post_filter_is="fitted" if texture.is_fitted else "stated",
            modelled_resolution_mm=list(made.modelled_resolution),
            noise_correlation_of_the_scan=_recorded(texture.own),
            noise_correlation_inserted=_recorded(texture.inserted),
            noise_correlation_standard_error=_recorded(texture.error),
        )
        with run.step("reporting"):
            write_noise_page(
                folder / "report.html",
                title=name,
                full=full_dose,
                low=low_dose,
                region=liver.region,
                noise_cov=noise_cov,
                texture=str(texture),
                run=shown(record),
            )
        write_json(folder / "run.json", record)
    return NoisyScan(name=name, full_dose=full_dose, low_dose=low_dose, texture=texture, noise=noise, run=record)


def _recorded(correlation: Sequence[float]) -> list[float | None]:
    """Return correlations as a record has them; null where there is none."""
    return [None if math.isnan(value) else round(value, 3) for value in correlation]


def _write(
    low_dose: Mapping[float, PETSeries], folder: Path, name: str, *, source_sha256: str, dicom: DicomOptions | None
) -> str | None:
    """Write every dose as NIfTI and DICOM; return why there is no DICOM, None if there is."""
    objection = None
    for factor, series in low_dose.items():
        objection = write_derived(
            series,
            folder / f"{name}_rec-{dose_key(factor)}_pet.nii.gz",
            folder / f"dicom_{dose_key(factor)}",
            description=f"Simulated low dose, DRF {factor:g}",
            derivation=f"Noise of dose reduction factor {factor:g} inserted by unipet_3d {__version__}",
            extra={"DoseReductionFactor": factor, "FullDoseSHA256": source_sha256},
            options=dicom,
        )
    return objection
