"""DICOM SEG written and read: the same voxels in every geometry, and one line for what cannot be read."""

import re
import shutil

import numpy as np
import pytest
from pydicom import dcmread

from pipeline.errors import PETError
from pipeline.images import Regions
from pipeline.pet import DicomOptions, PETSeries, read_pet, write_dicom_series
from pipeline.regions import read_regions, write_segmentation
from tests.fdg import FDG
from tests.regions.drawn_scans import drawn, labels_by_frames, series_on

STEEP = [[3.2, -2.1, 0.4, -40], [2.3, 3.4, -0.6, 11], [-0.05, 0.9, 2.7, -300.5], [0, 0, 0, 1]]


def oblique():
    """Anisotropic voxels on axes at right angles, 25 to 30 degrees off those of the patient."""
    axes, _ = np.linalg.qr(np.array(STEEP)[:3, :3])
    affine = np.eye(4)
    affine[:3, :3] = axes * np.sign(np.diag(axes)) * [4.0, 5.0, 3.0]
    affine[:3, 3] = [-40.0, 11.0, -300.5]
    return affine


def turned(folder, orientation):
    """Give every slice another orientation, and slices positions 3 mm apart along their new normal."""
    along = np.cross(orientation[:3], orientation[3:])
    for number, path in enumerate(sorted(folder.iterdir())):
        dataset = dcmread(path)
        dataset.ImageOrientationPatient = list(orientation)
        dataset.ImagePositionPatient = [float(value) for value in np.array([20.0, -30.0, 55.0]) + 3.0 * number * along]
        dataset.save_as(path)
    return folder


def uneven(folder):
    """Move slices by hundredths of a millimetre, as scanners do where beds meet."""
    for path, step in zip(sorted(folder.iterdir()), (0.0, 0.05, -0.04, 0.03, 0.05, -0.05, 0.0), strict=True):
        dataset = dcmread(path)
        dataset.ImagePositionPatient[2] += step
        dataset.save_as(path)
    return folder


@pytest.fixture(params=["axial", "uneven", "oblique", "feet first", "sagittal", "coronal"])
def placed(request, scan, tmp_path):
    """A series in one of several geometries, and its folder."""
    _, folder = scan
    if request.param == "oblique":
        folder = write_dicom_series(series_on(oblique()), tmp_path / "pet", description="Oblique")
    elif request.param == "uneven":
        folder = uneven(shutil.copytree(folder, tmp_path / "pet"))
    elif request.param != "axial":
        orientations = {
            "feet first": [-1, 0, 0, 0, 1, 0],
            "sagittal": [0, 1, 0, 0, 0, -1],
            "coronal": [1, 0, 0, 0, 0, -1],
        }
        folder = turned(shutil.copytree(folder, tmp_path / "pet"), orientations[request.param])
    return read_pet(folder), folder


def test_the_same_voxels_in_every_geometry(placed, tmp_path):
    series, folder = placed
    regions, path = drawn(series.suv.shape), tmp_path / "seg.dcm"
    assert (
        write_segmentation(regions, path, series_folder=folder, grid=series.grid, kind="lesion", with_names=True)
        is None
    )
    expected = np.select([regions.labels == n for n in (1, 3, 4)], [1, 2, 3])
    np.testing.assert_array_equal(labels_by_frames(dcmread(path), series.grid), expected)
    read = read_regions(path, series)
    np.testing.assert_array_equal(read.labels, expected)
    assert read.names == {1: "Liver met", 2: "Region 3", 3: "Node"}
    assert read.method == "given DICOM SEG"


def test_frames_at_the_uneven_places_of_the_slices(scan, tmp_path):
    folder = uneven(shutil.copytree(scan[1], tmp_path / "pet"))
    series, path = read_pet(folder), tmp_path / "seg.dcm"
    write_segmentation(drawn(), path, series_folder=folder, grid=series.grid, kind="lesion", with_names=True)
    places = [float(dcmread(file).ImagePositionPatient[2]) for file in series.source_files]
    dataset = dcmread(path)
    for item in dataset.PerFrameFunctionalGroupsSequence:
        position = item.PlanePositionSequence[0].ImagePositionPatient
        position[2] = min(places, key=lambda place, found=position[2]: abs(place - found))
    dataset.save_as(path)
    np.testing.assert_array_equal(read_regions(path, series).labels > 0, drawn().labels > 0)


def test_what_a_segmentation_says(scan, tmp_path):
    series, folder = scan
    path = tmp_path / "seg.dcm"
    write_segmentation(drawn(), path, series_folder=folder, grid=series.grid, kind="uptake", with_names=True)
    made = dcmread(path)
    sources = [dcmread(file, stop_before_pixels=True) for file in series.source_files]
    assert made.SegmentationType == "BINARY"
    assert made.FrameOfReferenceUID == sources[0].FrameOfReferenceUID
    assert made.StudyInstanceUID == sources[0].StudyInstanceUID
    assert made.SeriesInstanceUID != sources[0].SeriesInstanceUID
    assert made.PatientID == sources[0].PatientID
    (referenced,) = made.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == sources[0].SeriesInstanceUID
    named = {item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence}
    assert named <= {source.SOPInstanceUID for source in sources}
    segment = made.SegmentSequence[1]
    assert (segment.SegmentNumber, segment.SegmentLabel, segment.TrackingID) == (2, "Region 3", "Region 3")
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    assert segment.SegmentAlgorithmName == "unipet_3d"
    (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
    (scheme,) = made.CodingSchemeIdentificationSequence
    assert algorithm.AlgorithmFamilyCodeSequence[0].CodingSchemeDesignator == scheme.CodingSchemeDesignator
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "309825002"
    assert segment.SegmentDescription == "drawn by hand"
    assert len({item.TrackingUID for item in made.SegmentSequence}) == 3


def test_a_single_segment_is_a_mask_of_all_lesions(scan, tmp_path):
    series, folder = scan
    one = Regions((drawn().labels > 0).astype(np.int32), "all in one", names={1: "FDG tumor"})
    path = tmp_path / "seg.dcm"
    write_segmentation(one, path, series_folder=folder, grid=series.grid, kind="lesion", with_names=True)
    read = read_regions(path, series)
    # Regions 1 and 3 touch; the last lies apart.
    np.testing.assert_array_equal(read.labels, np.select([drawn().labels == 4, drawn().labels > 0], [2, 1]))
    assert read.names == {1: "FDG tumor 1", 2: "FDG tumor 2"}
    assert read.method == "given DICOM SEG of one segment, its 26-connected parts"
    whole = read_regions(path, series, names=["FDG tumor"])
    np.testing.assert_array_equal(whole.labels, one.labels)
    assert whole.names == {1: "FDG tumor"}


def test_a_segmentation_on_the_grid_of_a_ct_is_resampled(scan, tmp_path):
    # The SEG lies on twice as fine a grid, and has the slices between its first and its last region.
    series, _ = scan
    fine = np.diag([0.5, 0.5, 0.5, 1.0])
    fine[:3, 3] = -0.25
    affine = series.affine @ fine
    ct = write_dicom_series(
        series_on(affine, tuple(2 * n for n in series.suv.shape)), tmp_path / "ct", description="As a CT"
    )
    labels = np.kron(drawn().labels, np.ones((2, 2, 2), np.int32))
    path, grid = tmp_path / "seg.dcm", read_pet(ct).grid
    write_segmentation(Regions(labels, "x"), path, series_folder=ct, grid=grid, kind="lesion", with_names=True)
    same = PETSeries(suv=series.suv, affine=series.affine, header=FDG)
    read = read_regions(path, same)
    np.testing.assert_array_equal(read.labels > 0, drawn().labels > 0)
    assert "nearest neighbour from 18 x 16 x 12 voxels of 2 x 2.5 x 1.5 mm to 9 x 8 x 7 voxels" in read.method


def test_beside_a_deidentified_series(scan, tmp_path):
    series, _ = scan
    options = DicomOptions(deidentify=True, deidentification_key="secret")
    folder = write_dicom_series(series, tmp_path / "pet", description="Denoised", subject_id="P1", options=options)
    write_segmentation(
        drawn(), tmp_path / "seg.dcm", series_folder=folder, grid=series.grid, kind="lesion", with_names=False
    )
    made, source = dcmread(tmp_path / "seg.dcm"), dcmread(next(folder.iterdir()))
    assert made.PatientID == "P1"
    assert made.PatientIdentityRemoved == "YES"
    assert made.DeidentificationMethodCodeSequence == source.DeidentificationMethodCodeSequence
    assert made.FrameOfReferenceUID == source.FrameOfReferenceUID
    dates = {str(element.value)[:8] for element in made.iterall() if element.VR in ("DA", "DT") and element.value}
    assert dates <= {source.StudyDate, source.SeriesDate}
    assert [item.SegmentLabel for item in made.SegmentSequence] == ["Region 1", "Region 3", "Region 4"]
    np.testing.assert_array_equal(read_regions(tmp_path / "seg.dcm", read_pet(folder)).labels > 0, drawn().labels > 0)
    with pytest.raises(PETError, match=r"seg.dcm: lies in another FrameOfReferenceUID"):
        read_regions(tmp_path / "seg.dcm", series)


def test_a_scan_that_is_not_dicom_has_no_frame_to_compare(scan, tmp_path):
    series, folder = scan
    write_segmentation(
        drawn(), tmp_path / "seg.dcm", series_folder=folder, grid=series.grid, kind="lesion", with_names=True
    )
    same = PETSeries(suv=series.suv, affine=series.affine, header=FDG)
    read = read_regions(tmp_path / "seg.dcm", same)
    assert read.method == "given DICOM SEG, frame of reference not compared with a scan that is not DICOM"


@pytest.mark.slow
def test_two_hundred_regions_and_an_empty_one(tmp_path):
    affine = np.diag([4.0, 4.0, 3.0, 1.0])
    folder = write_dicom_series(series_on(affine, (12, 10, 8)), tmp_path / "pet", description="Many")
    series = read_pet(folder)
    labels = np.zeros(12 * 10 * 8, np.int32)
    labels[np.random.default_rng(2).permutation(12 * 10 * 8)[:200]] = np.arange(200) + 101
    regions = Regions(labels.reshape(12, 10, 8), "200 at random")
    assert regions.n_regions == 200
    path = tmp_path / "seg.dcm"
    assert (
        write_segmentation(regions, path, series_folder=folder, grid=series.grid, kind="uptake", with_names=True)
        is None
    )
    expected = np.where(regions.labels > 0, regions.labels - 100, 0)
    np.testing.assert_array_equal(read_regions(path, series).labels, expected)
    none = Regions(np.zeros_like(regions.labels), "nothing")
    said = write_segmentation(
        none, tmp_path / "no.dcm", series_folder=folder, grid=series.grid, kind="uptake", with_names=True
    )
    assert said == "there is no region, and a DICOM SEG has at least one segment"
    assert not (tmp_path / "no.dcm").exists()


def test_regions_of_another_grid_are_not_written(scan, tmp_path):
    series, folder = scan
    moved = PETSeries(suv=series.suv, affine=series.affine + np.eye(4)[:, [3]] @ [[0, 0, 0, 0]], header=FDG)
    moved.affine[0, 3] += 4.0
    with pytest.raises(PETError, match=r"lies on another grid than .*corners up to 4.0 mm elsewhere"):
        write_segmentation(
            drawn(), tmp_path / "seg.dcm", series_folder=folder, grid=moved.grid, kind="lesion", with_names=True
        )
    assert not (tmp_path / "seg.dcm").exists()


def without_type(dataset):
    dataset.SegmentationType = "FRACTIONAL"


def without_frame(dataset):
    dataset.FrameOfReferenceUID = ""


def cut_short(dataset):
    dataset.PixelData = dataset.PixelData[:2]


def overlapping(dataset):
    dataset.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence = dataset.PerFrameFunctionalGroupsSequence[
        2
    ].PlanePositionSequence
    dataset.PixelData = b"\xff" * len(dataset.PixelData)


def without_segments(dataset):
    del dataset.SegmentSequence


def elsewhere(dataset):
    for item in dataset.PerFrameFunctionalGroupsSequence:
        item.PlanePositionSequence[0].ImagePositionPatient[0] += 1000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_type, "SegmentationType is FRACTIONAL, expected BINARY or LABELMAP"),
        (without_frame, "FrameOfReferenceUID is missing, expected that of the scan"),
        (cut_short, "PixelData has 2 bytes, expected"),
        (overlapping, "segments share voxels, expected regions apart; choose by name: 'Liver met'"),
        (without_segments, "DICOM SEG cannot be read (.*SegmentSequence"),
        (elsewhere, "17 of 17 labelled voxels lie outside of the scan: labels on"),
    ],
)
def test_segmentations_that_cannot_be_read(scan, tmp_path, change, message):
    series, folder = scan
    path = tmp_path / "seg.dcm"
    write_segmentation(drawn(), path, series_folder=folder, grid=series.grid, kind="lesion", with_names=True)
    dataset = dcmread(path)
    change(dataset)
    dataset.save_as(path)
    with pytest.raises(PETError, match=f"seg.dcm: {message.replace('(', re.escape('('))}") as caught:
        read_regions(path, series)
    assert "\n" not in str(caught.value)


def test_other_files(scan, tmp_path):
    series, folder = scan
    with pytest.raises(PETError, match=r"PET_0001.dcm: DICOM of Modality PT, expected SEG or RTSTRUCT"):
        read_regions(folder / "PET_0001.dcm", series)
    with pytest.raises(PETError, match="holds 7 files, expected one DICOM SEG or RTSTRUCT"):
        read_regions(folder, series)
    (tmp_path / "notes.txt").write_text("my regions")
    with pytest.raises(PETError, match=r"notes.txt: neither a label map .* nor DICOM"):
        read_regions(tmp_path / "notes.txt", series)
    with pytest.raises(PETError, match=r"missing.dcm: no such file"):
        read_regions(tmp_path / "missing.dcm", series)
