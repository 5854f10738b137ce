"""The regions of a scan as files: a label map and, beside a DICOM series, a SEG with a report of their measurements."""

import pandas as pd

from pipeline.images import Regions
from pipeline.pet import DicomOptions, PETSeries
from pipeline.regions import Kind, write_label_map, write_measurement_report, write_segmentation
from pipeline.workflow.places import ResultFiles
from pipeline.workflow.region_rule import RegionRule

__all__ = ["MOST_REGIONS", "write_region_files"]

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
