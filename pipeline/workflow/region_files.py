"""The regions of a scan as files: label map, quantities, burden and, beside a DICOM series, SEG and report."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from pipeline.evaluation import REGION_QUANTITIES, region_quantities, suvbw_per_sul
from pipeline.images import Regions
from pipeline.pet import DicomOptions, PETSeries
from pipeline.regions import Kind, write_label_map, write_measurement_report, write_segmentation
from pipeline.tables import write_scan_table
from pipeline.trust import BURDEN_COLUMNS, Repeats, ScanTrust, burden_table
from pipeline.workflow.places import ResultFiles
from pipeline.workflow.region_rule import RegionRule

__all__ = ["MOST_REGIONS", "write_burden", "write_region_files"]

MOST_REGIONS = 200
"""Regions that a rule drew, up to which they are written as DICOM objects; each takes 30 ms."""


def write_region_files(
    found: Regions,
    lesions: pd.DataFrame,
    files: ResultFiles,
    before: PETSeries,
    regions: RegionRule,
    dicom: DicomOptions | None,
    objection: str | None,
) -> str | None:
    """Write the regions as a label map and, beside a DICOM series, as SEG with a report; return why not these."""
    write_label_map(found, files.folder / f"{files.name}_dseg.nii.gz", grid=before.grid)
    if objection is not None:
        return objection
    if regions.given is None and found.n_regions > MOST_REGIONS:
        return f"{found.n_regions} regions were drawn, most of them noise, expected at most {MOST_REGIONS}"
    folder = files.file("dicom_regions")
    folder.mkdir()
    series, grid = files.file("dicom"), before.grid
    kind: Kind = "uptake" if regions.given is None else "lesion"
    named = dicom is None or not dicom.deidentify
    why_not = write_segmentation(
        found, folder / "seg.dcm", series_folder=series, grid=grid, kind=kind, with_names=named
    )
    if why_not is not None:
        folder.rmdir()
        return why_not
    write_measurement_report(
        lesions, folder / "sr.dcm", segmentation=folder / "seg.dcm", series_folder=series, grid=grid
    )
    return None


def write_burden(
    images: Mapping[str, PETSeries],
    common: Regions,
    files: ResultFiles,
    *,
    own: Mapping[str, Regions],
    trust: ScanTrust,
    repeats: Repeats | None,
) -> pd.DataFrame:
    """Write ``quantities.tsv``, a row per region and image, and ``burden.tsv``, what they amount to; return that.

    `images` are the series "before" and "after", and perhaps others, by name; `trust` is what is said of the `common`
    regions, and `own` are those that a rule drew in each image alone.
    """
    voxel_size, affine = images["before"].voxel_size, images["before"].affine
    per_sul = suvbw_per_sul(images["before"].header)
    quantities = []
    for name, series in images.items():
        of_image = region_quantities(series.suv, common, voxel_size=voxel_size, affine=affine, suvbw_per_sul=per_sul)
        of_image.insert(1, "image", name)
        quantities.append(of_image)
    table = pd.concat(quantities).sort_values("region", kind="stable")
    columns = REGION_QUANTITIES | {"image": BURDEN_COLUMNS["image"]}
    write_scan_table(table, files.file("quantities.tsv"), scan=files.scan, columns=columns)

    counting = np.sqrt((trust.regions["tlg_measured_sd"] ** 2).sum(skipna=False))
    burden = burden_table(
        {name: series.suv for name, series in images.items()},
        common,
        voxel_size=voxel_size,
        own=own,
        tlg_sd=float(counting) if np.isfinite(counting) else None,
        repeats=repeats,
    )
    write_scan_table(burden, files.file("burden.tsv"), scan=files.scan, columns=BURDEN_COLUMNS)
    return burden
