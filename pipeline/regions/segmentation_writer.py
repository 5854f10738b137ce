"""Regions as DICOM SEG, by highdicom: binary, one segment a region, on the slices of the derived PET series."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from pipeline import __version__
from pipeline.errors import PETError, naming
from pipeline.images import Regions
from pipeline.pet.dicom.writing.equipment import PRODUCT
from pipeline.pet.grid import Grid
from pipeline.pet.series import PETHeader, PETSeries
from pipeline.regions.dicom_objects import read_object
from pipeline.regions.names import inert, name_of
from pipeline.regions.referenced import MAKER, ReferencedSeries, private_code, quiet_about_names, saved_object
from pipeline.regions.segmentations import read_segmentation

__all__ = ["KINDS", "Kind", "RegionKind", "write_segmentation"]

Kind = Literal["lesion", "uptake"]

MOST_SEGMENTS = 65535
"""SegmentNumber (0062,0004) has 16 bits."""


@dataclass(frozen=True)
class RegionKind:
    """What regions are said to be, as (code value, coding scheme, meaning), and how they came about."""

    category: tuple[str, str, str]
    """SegmentedPropertyCategoryCodeSequence, CID 7150."""
    type: tuple[str, str, str]
    """SegmentedPropertyTypeCodeSequence."""
    algorithm_type: str
    """SegmentAlgorithmType (0062,0008)."""


KINDS: dict[Kind, RegionKind] = {
    "lesion": RegionKind(
        ("49755003", "SCT", "Morphologically Abnormal Structure"), ("52988006", "SCT", "Lesion"), "MANUAL"
    ),
    "uptake": RegionKind(
        ("309825002", "SCT", "Spatial and Relational Concept"),
        ("C85402", "NCIt", "Imaging Region of Interest"),
        "AUTOMATIC",
    ),
}
"""Regions that a person gave as lesions, and regions of high uptake that a rule drew and nobody has judged."""


def write_segmentation(
    regions: Regions, path: str | Path, *, series_folder: str | Path, grid: Grid, kind: Kind, with_names: bool
) -> str | None:
    """Write regions as a DICOM SEG that refers to a DICOM PET series; return why none was written, None if one was.

    Segments count from 1 in the order of the regions' numbers; their TrackingID is "Region" with the number, and their
    SegmentLabel the name. Patient, study and frame of reference are those of the series.

    Parameters
    ----------
    regions
        Labels on the grid of the series.
    path
        File to write; an existing one is replaced.
    series_folder
        Series of single slices, such as `pipeline.pet.write_dicom_series` writes.
    grid
        Of the labels.
    kind
        ``"lesion"`` for regions that a person gave, ``"uptake"`` for those that a rule drew.
    with_names
        Whether regions keep their names. They are free text, and may tell whose scan it is: leave them out beside a
        series that is de-identified.

    Raises
    ------
    PETError
        If the series lies on another grid, there are more than 65535 regions, or what was written reads back
        differently.
    """
    path = Path(path)
    numbers = regions.numbers
    if not numbers:
        return "there is no region, and a DICOM SEG has at least one segment"
    with naming(path):
        if len(numbers) > MOST_SEGMENTS:
            raise PETError(f"{len(numbers)} regions, expected at most {MOST_SEGMENTS}")
        if regions.labels.shape != tuple(grid.shape):
            raise PETError(f"labels of shape {regions.labels.shape}, expected {grid}")
        series = ReferencedSeries.read(Path(series_folder), grid=grid)
        number_of_segment = np.zeros(int(regions.labels.max()) + 1, dtype=np.uint16)
        number_of_segment[numbers] = np.arange(1, len(numbers) + 1)
        labels = number_of_segment[regions.labels]
        described = _descriptions(regions, regions.names if with_names else {}, series, KINDS[kind])
        made = _segmentation(series.planes_of(labels), described, series, regions.method)
        with saved_object(made, path) as written:
            _check(written, labels, grid)
    return None


def _descriptions(regions: Regions, names: Mapping[int, str], series: ReferencedSeries, kind: RegionKind) -> list[Any]:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentDescription
    from highdicom.sr import CodedConcept

    drawn = kind.algorithm_type == "AUTOMATIC"
    algorithm = AlgorithmIdentificationSequence(PRODUCT, private_code("THRESHOLD", "Thresholding"), __version__)
    described = []
    for segment, number in enumerate(regions.numbers, start=1):
        description = SegmentDescription(
            segment_number=segment,
            # A backslash separates values.
            segment_label=name_of(number, names).replace("\\", "/"),
            segmented_property_category=CodedConcept(*kind.category),
            segmented_property_type=CodedConcept(*kind.type),
            algorithm_type=kind.algorithm_type,
            algorithm_identification=algorithm if drawn else None,
            tracking_uid=series.uid_of_region(number),
            tracking_id=f"Region {number}",
        )
        description.SegmentDescription = regions.method[:1024]
        described.append(description)
    return described


def _segmentation(
    planes: NDArray[np.uint16], descriptions: list[Any], series: ReferencedSeries, method: str
) -> Dataset:
    # Imported here, since it takes more than a second.
    from highdicom import PixelMeasuresSequence
    from highdicom.seg import Segmentation

    column, row, step = series.spacing
    with quiet_about_names():
        made = Segmentation(
            source_images=list(series.headers),
            pixel_array=planes,
            segmentation_type="BINARY",
            segment_descriptions=descriptions,
            series_instance_uid=generate_uid(),
            series_number=series.series_number(1),
            sop_instance_uid=generate_uid(),
            instance_number=1,
            # A region on one slice has no other slice to tell its distance.
            pixel_measures=PixelMeasuresSequence((row, column), slice_thickness=step, spacing_between_slices=step),
            content_label="REGIONS",
            content_description=inert(method),
            series_description="Regions",
            **MAKER,
        )
    series.identify(made)
    return made


def _check(written: Path, labels: NDArray[np.uint16], grid: Grid) -> None:
    """Refuse a file whose labels are not those that it was made of."""
    empty = PETSeries(suv=np.zeros(grid.shape, np.float32), affine=grid.affine, header=PETHeader(units="GML"))
    made = read_object(written)
    names = [item.SegmentLabel for item in made.SegmentSequence]
    if not np.array_equal(read_segmentation(made, empty, names=names).labels, labels):
        raise PETError("labels read back differently from what was written")
