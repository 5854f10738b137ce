"""The entry for every form in which regions are given."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import PETError, naming
from pipeline.images import Regions
from pipeline.pet.dicom.values import text_of
from pipeline.pet.series import PETSeries
from pipeline.pet.volumes import is_volume_name
from pipeline.regions.dicom_objects import read_object
from pipeline.regions.label_maps import read_label_map
from pipeline.regions.segmentations import SEGMENTATION_CLASSES, read_segmentation
from pipeline.regions.structure_sets import RTSTRUCT_CLASS, read_structure_set

__all__ = ["read_regions"]


def read_regions(path: str | Path, series: PETSeries, *, names: Sequence[str] | None = None) -> Regions:
    """Read regions that somebody drew, on the grid of a scan.

    Two are masks of all lesions, whose connected parts become regions: a label map whose only number is 1, unless a
    lookup table names it, and a DICOM SEG of one segment, unless it is asked for by its name. Labels on another grid
    are resampled by nearest neighbour, which `Regions.method` says. A mask without voxels gives no regions.

    Parameters
    ----------
    path
        Label map (.nii, .nii.gz, .mha or .nrrd; beside ``NAME_dseg.nii.gz`` a table ``NAME_dseg.tsv`` with the columns
        index and name), DICOM SEG or RTSTRUCT, or a folder that holds one of these DICOM files.
    series
        The scan.
    names
        Names of the regions to read; by default all.

    Raises
    ------
    PETError
        If it cannot be read, lies in another frame of reference or outside of the scan, or regions share voxels. One
        line names the file, what was found and what was expected.
    """
    path = Path(path)
    with naming(path):
        if not path.exists():
            raise PETError("no such file")
        if is_volume_name(path) and path.is_file():
            return read_label_map(path, series, names=names)
        dataset = read_object(path)
        kind = text_of(dataset, "SOPClassUID")
        if kind in SEGMENTATION_CLASSES:
            return read_segmentation(dataset, series, names=names)
        if kind == RTSTRUCT_CLASS:
            return read_structure_set(dataset, series, names=names)
        raise PETError(f"DICOM of Modality {text_of(dataset, 'Modality') or 'unknown'}, expected SEG or RTSTRUCT")
