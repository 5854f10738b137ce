"""The images of one scan beside each other: their lesions matched, and of each region contrast and errors."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline.evaluation import (
    MATCH_COLUMNS,
    compared_images,
    match_counts,
    matches_of_images,
    reference_errors,
    region_contrast,
    seen_regions,
)
from pipeline.images import Regions, body_mask
from pipeline.pet import PETSeries
from pipeline.tables import write_scan_table
from pipeline.workflow.places import ResultFiles

__all__ = ["matches_in_record", "quantities_beside", "write_matches"]


def write_matches(
    images: Mapping[str, PETSeries],
    common: Regions,
    files: ResultFiles,
    *,
    own: Mapping[str, Regions],
) -> pd.DataFrame:
    """Write ``matches.tsv``, which lesions are kept, lost and new between the images of a scan, and return it.

    `images` are "before", "after" and perhaps "reference"; `common` are the regions of the lesion table. `own` has
    the regions that the same rule draws in each image, and none where somebody drew `common`: then those are an image's
    own that are seen in it, see `pipeline.evaluation.seen_regions`.
    """
    before = images["before"]
    regions = {
        name: own.get(name) or seen_regions(series.suv, common, voxel_size=series.voxel_size)
        for name, series in images.items()
    }
    matches = matches_of_images(
        {name: series.suv for name, series in images.items()},
        regions,
        voxel_size=before.voxel_size,
        affine=before.affine,
        common=common,
    )
    write_scan_table(matches, files.file("matches.tsv"), scan=files.scan, columns=MATCH_COLUMNS)
    return matches


def quantities_beside(lesions: pd.DataFrame, images: Mapping[str, PETSeries], regions: Regions) -> pd.DataFrame:
    """Return the columns of `region_contrast` and, of a reference, of `reference_errors`; arguments as above.

    `lesions` are the rows of `lesion_table` of the regions.
    """
    volumes = {name: series.suv for name, series in images.items()}
    voxel_size = images["after"].voxel_size
    body = body_mask(volumes["after"], voxel_size=voxel_size)
    found = [region_contrast(volumes, regions, body=body, voxel_size=voxel_size)]
    if "reference" in volumes:
        found.append(reference_errors(lesions, volumes["reference"], regions, voxel_size=voxel_size))
    return pd.concat(found, axis=1)


def matches_in_record(matches: pd.DataFrame, *, has_reference: bool) -> dict[str, Any]:
    """Return what a run record keeps: how many are kept, lost and new, by the images that are compared."""
    found = {}
    for image, against in compared_images(has_reference=has_reference):
        counts = match_counts(matches[(matches["image"] == image) & (matches["against"] == against)])
        found[f"{image} with {against}"] = {"kept": counts.n_kept, "lost": counts.n_lost, "new": counts.n_new}
    return found
