"""Label maps: volumes of whole numbers with a lookup table of BIDS beside them.

The label maps of autoPET and LION are masks of 0 and 1, whose connected parts become regions; those of MOOSE have a
number for each organ, which stays.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from pipeline.errors import PETError, naming, reason_of
from pipeline.files import image_stream, replaced_file
from pipeline.images import Regions, numbered_lesions
from pipeline.pet.grid import Grid, same_grid
from pipeline.pet.series import PETSeries
from pipeline.pet.volumes import NIFTI, read_labels, sidecar_path_of
from pipeline.regions.names import chosen, inert, name_of
from pipeline.regions.placing import labels_on
from pipeline.tables import write_table

__all__ = ["read_label_map", "write_label_map"]

_ENDS = tuple(f"_dseg{end}" for end in NIFTI)
_LOOKUP_COLUMNS = {"index": "number of the region in the label map", "name": "what the region is called"}


def read_label_map(path: Path, series: PETSeries, *, names: Sequence[str] | None = None) -> Regions:
    """Read a label map as regions of a scan; see `pipeline.regions.read_regions`."""
    labels, grid = read_labels(path)
    called = _lookup_table(path)
    is_mask = not called and labels.size > 0 and labels.max() <= 1
    if names is not None:
        there = {int(number): called.get(int(number), "") for number in np.unique(labels) if number}
        labels = np.where(np.isin(labels, chosen(there | called, names)), labels, 0)
    labels = numbered_lesions(labels) if is_mask else labels
    labels, done = labels_on(labels, grid, series.grid)
    kind = "mask, its 26-connected parts" if is_mask else "label map"
    method = ", ".join(text for text in (f"given {kind}", done) if text)
    found = Regions(np.ascontiguousarray(labels, dtype=np.int32), method)
    present = {number: called[number] for number in found.numbers if number in called}
    return Regions(found.labels, method, names=present)


def _table_path_of(path: Path) -> Path:
    return sidecar_path_of(path).with_suffix(".tsv")


def _lookup_table(path: Path) -> dict[int, str]:
    """Return the names that the lookup table beside a label map gives, by number; none where there is no table."""
    table = _table_path_of(path)
    # Beside any other name there may be a table of something else.
    if not path.name.lower().endswith(_ENDS) or not table.is_file():
        return {}
    with naming(table.name):
        try:
            with table.open(newline="", encoding="utf-8-sig") as file:
                rows = list(csv.DictReader(file, delimiter="\t"))
            named = {int(row["index"]): inert(row["name"]) for row in rows}
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            reason = reason_of(error)
            raise PETError(f"not a lookup table ({reason}), expected the columns index and name") from error
    return {number: name for number, name in named.items() if number > 0}


def write_label_map(regions: Regions, path: str | Path, *, grid: Grid) -> Path:
    """Write regions as ``NAME_dseg.nii.gz``, its lookup table ``NAME_dseg.tsv``, and ``NAME_dseg.json``.

    The JSON file says by which method they were drawn, and what the columns of the table mean. Existing files are
    replaced.

    Parameters
    ----------
    regions
        Of any number, also none.
    path
        File whose name ends in _dseg.nii.gz or _dseg.nii, in an existing folder.
    grid
        Of the labels.

    Raises
    ------
    PETError
        If the name or the folder is not usable, or what was written reads back differently.
    """
    path = Path(path)
    with naming(path):
        if not path.name.lower().endswith(_ENDS):
            raise PETError("expected a name ending in _dseg.nii.gz or _dseg.nii")
        if regions.labels.shape != tuple(grid.shape):
            raise PETError(f"labels of shape {regions.labels.shape}, expected {grid}")
        kind = np.promote_types(np.uint8, np.min_scalar_type(int(regions.labels.max(initial=0))))
        image = nib.Nifti1Image(regions.labels.astype(kind), grid.affine)
        image.header.set_xyzt_units("mm", "sec")
        image.header.set_intent("label")
        image.set_sform(grid.affine, code="scanner")
        # A quaternion has no shear: of a sheared grid only the sform tells.
        image.set_qform(grid.affine, code="scanner")
        if not same_grid(Grid(grid.shape, image.get_qform()), grid):
            image.set_qform(None, code="unknown")
        rows = [(number, name_of(number, regions.names)) for number in regions.numbers]
        table = pd.DataFrame(rows, columns=list(_LOOKUP_COLUMNS))
        # The JSON file beside both is the sidecar of the one and the dictionary of the other.
        about = {"Description": f"Regions: {regions.method}"}
        write_table(table, _table_path_of(path), columns=_LOOKUP_COLUMNS, about=about)
        with replaced_file(path) as temporary:
            with image_stream(temporary) as stream:
                image.to_stream(stream)
            labels, written = read_labels(temporary)
            if not (np.array_equal(labels, regions.labels) and same_grid(written, grid)):
                raise PETError("file reads back differently from what was written")
    return path
