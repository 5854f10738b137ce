"""RTSTRUCT: contours become the voxels whose centres they enclose."""

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import generate_uid

from pipeline.errors import PETError
from pipeline.pet import read_dicom_series
from pipeline.regions import read_regions
from tests.series import save_dataset

CLASS = "1.2.840.10008.5.1.4.1.1.481.3"


def contour(points, kind="CLOSED_PLANAR"):
    """A contour through RAS+ points [mm]."""
    item = Dataset()
    item.ContourGeometricType, item.NumberOfContourPoints = kind, len(points)
    item.ContourData = [f"{value:.4f}" for point in points for value in np.array(point) * [-1, -1, 1]]
    return item


def structure_set(path, frame, **regions):
    """Write an RTSTRUCT of regions, each a list of contours, in a frame of reference."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = CLASS, generate_uid(), "RTSTRUCT"
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(regions.items(), start=5):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, frame
        drawn.ReferencedROINumber, drawn.ContourSequence = number, contours
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(drawn)
    save_dataset(dataset, path)
    return path


def rectangle(series, x, y, z):
    """Corners of voxels x[0] to x[1], y[0] to y[1] of plane z, which may lie between two; RAS+ [mm]."""
    corners = [(x[0] - 0.5, y[0] - 0.5), (x[1] + 0.5, y[0] - 0.5), (x[1] + 0.5, y[1] + 0.5), (x[0] - 0.5, y[1] + 0.5)]
    return [(series.affine @ [*corner, z, 1])[:3] for corner in corners]


@pytest.fixture(scope="module")
def frame(scan):
    return dcmread(scan[0].source_files[0], stop_before_pixels=True).FrameOfReferenceUID


def test_a_box_with_a_hole(scan, frame, tmp_path):
    series, _ = scan
    outer = [contour(rectangle(series, (1, 6), (1, 5), z)) for z in (2, 3)]
    hole = contour(rectangle(series, (3, 4), (2, 3), 3))
    path = structure_set(tmp_path / "rs.dcm", frame, box=[*outer, hole])
    expected = np.zeros(series.suv.shape, int)
    expected[1:7, 1:6, 2:4] = 1
    expected[3:5, 2:4, 3] = 0
    regions = read_regions(path, series)
    np.testing.assert_array_equal(regions.labels, expected)
    assert regions.names == {1: "box"}
    assert regions.method == "given DICOM RTSTRUCT, voxels whose centres lie inside the contours"


def test_contours_of_a_ct_with_thinner_and_thicker_slices(scan, frame, tmp_path):
    series, _ = scan
    expected = np.zeros(series.suv.shape, int)
    expected[2:5, 2:5, 1:5] = 1
    # 1 mm slices beside the 3 mm of the scan: a plane every third of a slice, from the first to the last voxel centre.
    thin = [contour(rectangle(series, (2, 4), (2, 4), z)) for z in np.arange(0.9, 4.3, 1 / 3)]
    np.testing.assert_array_equal(
        read_regions(structure_set(tmp_path / "1.dcm", frame, a=thin), series).labels, expected
    )
    # 6 mm slices: every plane stands for two slices of the scan.
    thick = [contour(rectangle(series, (2, 4), (2, 4), z)) for z in (1.5, 3.5)]
    np.testing.assert_array_equal(
        read_regions(structure_set(tmp_path / "2.dcm", frame, a=thick), series).labels, expected
    )


def test_two_parts_of_a_region_stay_apart(scan, frame, tmp_path):
    series, _ = scan
    parts = [contour(rectangle(series, (2, 4), (2, 4), z)) for z in (0, 1, 5, 6)]
    labels = read_regions(structure_set(tmp_path / "rs.dcm", frame, a=parts), series).labels
    assert np.flatnonzero(labels.any(axis=(0, 1))).tolist() == [0, 1, 5, 6]


def test_sagittal_contours_and_a_point(scan, frame, tmp_path):
    series, _ = scan
    corners = [(3, 1.5, 0.5), (3, 4.5, 0.5), (3, 4.5, 5.5), (3, 1.5, 5.5)]
    sagittal = contour([(series.affine @ [*corner, 1])[:3] for corner in corners])
    point = contour([(series.affine @ [1, 1, 1, 1])[:3]], kind="POINT")
    regions = read_regions(structure_set(tmp_path / "rs.dcm", frame, point=[point], cut=[sagittal]), series)
    expected = np.zeros(series.suv.shape, int)
    expected[3, 2:5, 1:6] = 1
    np.testing.assert_array_equal(regions.labels, expected)
    assert regions.names == {1: "cut"}


def test_regions_that_share_voxels_are_read_one_by_one(scan, frame, tmp_path):
    series, _ = scan
    one, two = ([contour(rectangle(series, x, (2, 4), 3))] for x in ((1, 3), (3, 6)))
    path = structure_set(tmp_path / "rs.dcm", frame, tumour=one, edema=two)
    with pytest.raises(
        PETError, match=r"rs.dcm: region 'edema': shares 3 voxels with 'tumour'.* choose one by its name"
    ):
        read_regions(path, series)
    assert np.count_nonzero(read_regions(path, series, names=["edema"]).labels) == 12
    with pytest.raises(PETError, match="holds no region 'liver', expected one of: 'edema', 'tumour'"):
        read_regions(path, series, names=["liver"])


@pytest.mark.filterwarnings("ignore:The value length", "ignore:Found unknown escape")
def test_names_are_inert(scan, frame, tmp_path):
    series, _ = scan
    name = "<b>\x1b[31mGTV\u202e" + "x" * 80
    path = structure_set(tmp_path / "rs.dcm", frame, a=[contour(rectangle(series, (1, 3), (2, 4), 3))])
    dataset = dcmread(path)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.StructureSetROISequence[0].ROIName = name
    dataset.save_as(path)
    (read,) = read_regions(path, series).names.values()
    assert read == ("<b> [31mGTV " + "x" * 80)[:64]


def _tilted(series):
    return [(series.affine @ [*corner, 1])[:3] for corner in ((1, 1, 1), (5, 1, 3), (5, 5, 3), (1, 5, 1))]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (lambda s: rectangle(s, (1, 3), (2, 4), 40), "contours lie further from the scan than its own size"),
        (lambda s: rectangle(s, (-6, 3), (2, 4), 3), "18 of 30 labelled voxels lie outside of the scan: labels on"),
        (_tilted, "contours leave the planes of the scan by up to 6.0 mm"),
    ],
)
def test_contours_that_cannot_be_filled(scan, frame, tmp_path, points, message):
    series, _ = scan
    path = structure_set(tmp_path / "rs.dcm", frame, a=[contour(points(series))])
    with pytest.raises(PETError, match=message):
        read_regions(path, series)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"1\\2\\3\\4", "does not hold three numbers for each point"),
        (b"one\\2\\3 ", "does not hold three"),
        (b"inf\\2\\3 ", "is not finite"),
    ],
)
def test_damaged_contour_data(scan, frame, tmp_path, text, message):
    series, _ = scan
    path = structure_set(tmp_path / "rs.dcm", frame, a=[contour(rectangle(series, (1, 3), (2, 4), 3))])
    dataset = dcmread(path)
    item = dataset.ROIContourSequence[0].ContourSequence[0]
    item[0x30060050] = RawDataElement(Tag(0x30060050), "DS", len(text), text, 0, False, True)
    dataset.save_as(path)
    with pytest.raises(PETError, match=f"region 'a': ContourData {message}"):
        read_regions(path, series)


def test_another_frame_of_reference(scan, tmp_path):
    series, _ = scan
    path = structure_set(tmp_path / "rs.dcm", generate_uid(), a=[contour(rectangle(series, (1, 3), (2, 4), 3))])
    with pytest.raises(PETError, match="lies in another FrameOfReferenceUID"):
        read_regions(path, series)


def test_no_closed_contour(scan, frame, tmp_path):
    series, _ = scan
    point = contour([(series.affine @ [1, 1, 1, 1])[:3]], kind="POINT")
    with pytest.raises(PETError, match="none of 1 regions has a closed contour"):
        read_regions(structure_set(tmp_path / "rs.dcm", frame, a=[point]), series)


def test_a_number_that_stands_twice(scan, frame, tmp_path):
    series, _ = scan
    box = [contour(rectangle(series, (1, 3), (2, 4), 3))]
    path = structure_set(tmp_path / "rs.dcm", frame, a=box, b=box)
    dataset = dcmread(path)
    dataset.StructureSetROISequence[1].ROINumber = 5
    dataset.save_as(path)
    with pytest.raises(PETError, match="ROINumber stands twice"):
        read_regions(path, series)


def test_a_number_that_is_missing(scan, frame, tmp_path):
    series, _ = scan
    path = structure_set(tmp_path / "rs.dcm", frame, a=[contour(rectangle(series, (1, 3), (2, 4), 3))])
    dataset = dcmread(path)
    del dataset.ROIContourSequence[0].ReferencedROINumber
    dataset.save_as(path)
    with pytest.raises(PETError, match="ReferencedROINumber is missing, expected one for every region"):
        read_regions(path, series)


def test_the_tumour_of_a_real_scan(reference_data):
    folder = reference_data / "ge_discovery_st_whole_body" / "FDG_PET"
    series = read_dicom_series(folder / "image")
    regions = read_regions(folder / "mask", series, names=["GTV_Mass"])
    assert regions.names == {1: "GTV_Mass"}
    assert series.suv[regions.labels == 1].max() == pytest.approx(7.911, abs=5e-4)
    # Filled by another program text, contour by contour: tests/pet/test_reference_data.py.
    assert np.count_nonzero(regions.labels) == 5095
