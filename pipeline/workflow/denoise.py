"""The main job: one scan in; denoised volume, DICOM series, what it may be believed, report and run record out."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import PETError, naming
from pipeline.evaluation import (
    CONTRAST_COLUMNS,
    LESION_TABLE_COLUMNS,
    PEAK_SUV,
    REFERENCE_COLUMNS,
    body_change,
    lesion_table,
    psnr,
)
from pipeline.files import new_folder, write_json
from pipeline.images import Regions, body_mask
from pipeline.memory import free_memory
from pipeline.pet import DicomOptions, PETSeries
from pipeline.pet.derived_files import describe_results, scan_name, write_denoised
from pipeline.pet.grid import check_same_grid
from pipeline.report import write_report, write_viewer
from pipeline.tables import write_scan_table
from pipeline.trust import EVIDENCE_COLUMNS, SPOT_COLUMNS, TRUST_COLUMNS, Repeats, ScanTrust, scan_trust
from pipeline.workflow.matched import matches_in_record, quantities_beside, write_matches
from pipeline.workflow.places import ResultFiles
from pipeline.workflow.region_files import write_burden, write_region_files
from pipeline.workflow.region_rule import RegionRule, ScanRegions
from pipeline.workflow.repeat import RepeatRule, repeats_of, write_repeats
from pipeline.workflow.scan_run import ScanRun, check_elsewhere, shown, source_sha256

if TYPE_CHECKING:
    from pipeline.inference import Denoiser

__all__ = ["ScanResult", "denoise_into", "denoise_scan"]

VOLUMES = 16
"""Memory that a scan needs beside its own, in volumes of float32: measured while it is judged what noise explains."""


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
    """Regions with their SUV before and after, and what they are worth, as in ``lesions.tsv``."""
    burden: pd.DataFrame
    """What all regions amount to before and after, as in ``burden.tsv``."""
    trust: ScanTrust
    """How far the result may be believed."""
    run: dict[str, Any]
    """The run record, as in ``run.json``."""


def denoise_scan(
    source: str | Path,
    output: str | Path,
    denoiser: "Denoiser",
    *,
    series: str | int | None = None,
    regions: RegionRule | None = None,
    repeats: RepeatRule | None = None,
    reference: PETSeries | None = None,
    dicom: DicomOptions | None = None,
    viewer: bool = False,
    turning: bool = False,
    on_step: Callable[[str], None] = lambda step: None,
) -> ScanResult:
    """Denoise one scan and write everything about it into a new folder, complete or not at all.

    The folder then holds ``NAME_desc-denoised_pet.nii.gz`` with its sidecar, ``NAME_desc-uncertainty_pet.nii.gz``, the
    standard deviation of every voxel [g/mL], of a method that knows it, ``dicom/`` (where the source has what DICOM
    needs: dose, weight and times), the regions as ``NAME_dseg.nii.gz`` and, beside a DICOM series, in
    ``dicom_regions/`` as a SEG with a report of their measurements, ``lesions.tsv``, ``quantities.tsv`` (every
    quantity of every region in each image), ``burden.tsv`` (TMTV, TLG and how they change), ``matches.tsv`` (which
    lesions are kept, lost and new), ``changes.tsv`` (where signal was removed or added), ``spots.tsv`` (local maxima,
    and whether noise alone makes such), ``report.html``, ``viewer.html`` if it is asked for, and ``run.json``; of a
    scan that is repeated also ``repeats.tsv``, and volumes if they are asked for, see `write_repeats`. Beside every
    table lies what its columns mean, ``lesions.json`` and so on.

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
    repeats
        How often, and as on which scanner, the scan is repeated by simulation; by default not at all.
    reference
        Full-dose series on the same grid: the run record then holds the PSNR of input and output against it, and the
        report shows its regions beside theirs.
    dicom
        Units, private attributes and de-identification of the DICOM series.
    viewer
        Whether ``viewer.html`` is written, too: both images and the regions in a viewer, several megabytes.
    turning
        Whether the report has projections that turn.
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
        name = scan_name(before)
        files = ResultFiles(folder=folder, name=name, scan=name)
        describe_results(folder)
        return denoise_into(
            files,
            run,
            before,
            denoiser,
            regions=regions,
            repeats=repeats,
            reference=reference,
            dicom=dicom,
            viewer=viewer,
            turning=turning,
        )


def denoise_into(
    files: ResultFiles,
    run: ScanRun,
    before: PETSeries,
    denoiser: "Denoiser",
    *,
    regions: RegionRule | None = None,
    repeats: RepeatRule | None = None,
    reference: PETSeries | None = None,
    dicom: DicomOptions | None = None,
    report: bool = True,
    viewer: bool = False,
    turning: bool = False,
) -> ScanResult:
    """Denoise a scan that was read, and write everything about it, but no description of a data set: `denoise_scan`."""
    regions = regions or RegionRule()
    if repeats is not None and denoiser.strength < 1:
        raise PETError(f"repeats at strength {denoiser.strength:g}, expected strength 1: less leaves noise")
    if reference is not None:
        check_same_grid({"the reference": reference.grid, str(run.source): before.grid})
    _check_memory(before, run.source)
    rule = regions.read(before, source=run.source)
    attenuation = None if repeats is None else repeats.attenuation_of(before)
    with run.step("denoising"), naming(run.source):
        after, uncertainty = denoiser.with_uncertainty(before)
    with run.step("writing"):
        objection = write_denoised(
            after,
            files.folder,
            name=files.name,
            method=denoiser.method,
            strength=denoiser.strength,
            weights_sha256=denoiser.weights_sha256,
            source_sha256=source_sha256(before),
            dicom_folder=files.file("dicom").name,
            options=dicom,
            uncertainty=uncertainty,
        )
    with run.step("measuring"), naming(run.source):
        drawn = rule.on(before, after)
        found = drawn.regions
        quality = {} if reference is None else _quality(before, after, reference)
        deviations = denoiser.style_deviation(before)
        dose = denoiser.dose_of(before)
        body = body_change(before.suv, after.suv, body=body_mask(before.suv, voxel_size=before.voxel_size))[0]
    repeated, why_not = _repeated(files, run, before, after, denoiser, drawn, repeats, attenuation)
    with run.step("judging"), naming(run.source):
        trust = scan_trust(
            before,
            after,
            found,
            threshold=drawn.outline[0] if drawn.noise_may_draw else None,
            drawn=drawn.drawn_in(after.suv),
            style_deviation=deviations,
            repeats=None if repeated is None else repeated.regions,
            not_stated=why_not,
        )
        images = {"before": before, "after": after} | ({} if reference is None else {"reference": reference})
        lesions = _lesions(images, found, trust)
        for kind, table, columns in (
            ("lesions", lesions, LESION_TABLE_COLUMNS | TRUST_COLUMNS | CONTRAST_COLUMNS | REFERENCE_COLUMNS),
            ("changes", trust.evidence.regions, EVIDENCE_COLUMNS),
            ("spots", trust.spots.spots, SPOT_COLUMNS),
        ):
            write_scan_table(table, files.file(f"{kind}.tsv"), scan=files.scan, columns=columns)
        own = drawn.own({name: series.suv for name, series in images.items()})
        matches = write_matches(images, found, files, own=own)
        burden = write_burden(images, found, files, own=own, trust=trust, repeats=repeated)
        no_objects = write_region_files(found, lesions, files, before, regions, dicom, objection)
    doses = {} if dose is None else {"dose_reduction_factor": round(dose[0], 2), "dose_reduction_factor_is": dose[1]}
    record = run.record(
        before,
        objection=objection,
        warnings=[*drawn.warnings, *trust.warnings],
        **denoiser.identity,
        **doses,
        device=str(denoiser.device),
        **drawn.record(before.voxel_size),
        dicom_regions="written" if no_objects is None else f"not written, {no_objects}",
        style_deviation_sd={name: round(deviation, 2) for name, deviation in deviations.items()},
        **quality,
        matches=matches_in_record(matches, has_reference=reference is not None),
        body={name: float(f"{value:.6g}") if math.isfinite(value) else None for name, value in body.items()},
        n_regions=len(lesions),
        trust=trust.record,
        **({} if repeats is None else repeats.record(repeated=repeated is not None)),
    )
    with run.step("reporting"), naming(files.file("report.html")):
        if report:
            write_report(
                files.file("report.html"),
                title=files.scan,
                before=before,
                after=after,
                lesions=lesions,
                regions=found,
                reference=reference,
                matches=matches,
                burden=burden,
                percist=drawn.references,
                trust=trust,
                warnings=record["warnings"],
                run=shown(record),
                turning=turning,
            )
        if viewer:
            path = files.file("viewer.html")
            write_viewer(path, title=files.scan, before=before, after=after, regions=found, lesions=lesions)
    record["files"] = files.listing()
    write_json(files.file("run.json"), record)
    return ScanResult(
        name=files.scan, before=before, after=after, lesions=lesions, burden=burden, trust=trust, run=record
    )


def _repeated(
    files: ResultFiles,
    run: ScanRun,
    before: PETSeries,
    after: PETSeries,
    denoiser: "Denoiser",
    drawn: ScanRegions,
    rule: RepeatRule | None,
    attenuation: NDArray[np.floating] | None,
) -> tuple[Repeats | None, list[str]]:
    """Return the repeats of a scan, which are written, or None and why there are none if some were asked for."""
    if rule is None:
        return None, []
    with run.step("repeating"), naming(run.source):
        repeats, why_not = repeats_of(
            before, after, denoiser, rule, drawn, attenuation=attenuation, on_step=run.on_step
        )
        if repeats is None:
            return None, [why_not]
        write_repeats(repeats, files, after=after, maps=rule.maps)
    return repeats, []


def _lesions(images: Mapping[str, PETSeries], found: Regions, trust: ScanTrust) -> pd.DataFrame:
    """Return the lesion table, with what its values are worth and mean before the column that names the method."""
    before, after = images["before"], images["after"]
    table = lesion_table(before.suv, after.suv, found, voxel_size=before.voxel_size, affine=before.affine)
    *columns, method = table.columns
    beside = quantities_beside(table, images, found)
    lesions = pd.concat([table[columns], trust.regions, beside, table[[method]]], axis=1)
    lesions.attrs = table.attrs
    return lesions


def _check_memory(series: PETSeries, source: Path) -> None:
    """Refuse a scan, before minutes of work, that could not be written and measured after them."""
    needed, free = VOLUMES * series.suv.nbytes, free_memory()
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
