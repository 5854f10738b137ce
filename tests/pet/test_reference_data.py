"""Published values: a real whole-body scan and IBSI's digital reference objects for SUV."""

import nibabel as nib
import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Polygon

from pipeline.evaluation import region_quantities
from pipeline.images import THRESHOLDS, Regions, delineated_regions
from pipeline.pet import DicomOptions, read_dicom_series, read_pet, write_dicom_series, write_nifti


@pytest.fixture(scope="module")
def ge_folder(reference_data):
    return reference_data / "ge_discovery_st_whole_body" / "FDG_PET"


@pytest.fixture(scope="module")
def ge(ge_folder):
    return read_dicom_series(ge_folder / "image")


@pytest.fixture(scope="module")
def ge_derived(ge, tmp_path_factory):
    return write_dicom_series(ge, tmp_path_factory.mktemp("ge") / "derived", description="Identity")


def inside_contours(structures, number, affine, shape):
    """Voxels whose centres lie inside the contours of one region of an RTSTRUCT."""
    mask = np.zeros(shape, bool)
    to_index = np.linalg.inv(affine)
    x, y = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    centres = np.column_stack([x.ravel(), y.ravel()])
    (region,) = [r for r in structures.ROIContourSequence if r.ReferencedROINumber == number]
    for contour in region.ContourSequence:
        points = np.array(contour.ContourData, float).reshape(-1, 3) * [-1, -1, 1]
        indices = points @ to_index[:3, :3].T + to_index[:3, 3]
        z = round(indices[:, 2].mean())
        mask[:, :, z] ^= Polygon(indices[:, :2]).contains_points(centres).reshape(shape[:2])
    return mask


def test_ge_whole_body_scan(ge, ge_folder):
    assert ge.suv.shape == (128, 128, 267)
    assert ge.suvbw_factor == pytest.approx(2.42903e-4, rel=1e-5)
    assert ge.voxel_size == pytest.approx((4.6875, 4.6875, 3.27), abs=1e-3)
    assert ge.header.uptake_time == 2711
    structures = pydicom.dcmread(next((ge_folder / "mask").iterdir()))
    names = {roi.ROIName: roi.ROINumber for roi in structures.StructureSetROISequence}
    tumour = inside_contours(structures, names["GTV_Mass"], ge.affine, ge.suv.shape)
    assert ge.suv[tumour].max() == pytest.approx(7.911, abs=5e-4)
    outlined = delineated_regions(
        ge.suv, THRESHOLDS["50%"], voxel_size=ge.voxel_size, volumes_of_interest=tumour.astype(np.int32)
    )
    for regions in (Regions(tumour.astype(np.int32), "RTSTRUCT"), outlined):
        (suv_max,) = region_quantities(ge.suv, regions, voxel_size=ge.voxel_size, affine=ge.affine).suv_max
        assert suv_max == pytest.approx(7.911, abs=5e-4)


def test_ge_identity_round_trip(ge, ge_derived):
    again = read_dicom_series(ge_derived)
    assert len(list(ge_derived.iterdir())) == 267
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in again.source_files]
    limit = np.array([0.5 * float(header.RescaleSlope) for header in headers]) * ge.suvbw_factor
    assert (np.abs(again.suv.astype(float) - ge.suv).max(axis=(0, 1)) <= limit * 1.001).all()
    np.testing.assert_array_equal(again.affine, ge.affine)
    assert again.header == ge.header
    for header in headers:
        assert "PatientPosition" not in header
        assert "NumberOfTimeSlices" not in header
        assert header.Laterality == ""


def test_ge_positions_are_the_sources(ge, ge_derived):
    again = read_dicom_series(ge_derived)
    for source, derived in zip(ge.source_files, again.source_files, strict=True):
        before = pydicom.dcmread(source, stop_before_pixels=True)
        after = pydicom.dcmread(derived, stop_before_pixels=True)
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "AcquisitionTime"):
            assert after[keyword].value == before[keyword].value
        assert after.SourceImageSequence[0].ReferencedSOPInstanceUID == before.SOPInstanceUID


def test_simpleitk_reads_the_same_voxels_from_both_formats(ge, ge_derived, tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    dicom = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(ge_derived)))
    nifti = sitk.ReadImage(str(write_nifti(ge, tmp_path / "ge.nii.gz")))
    from_dicom = sitk.GetArrayFromImage(dicom).transpose(2, 1, 0)[::-1, ::-1] * ge.suvbw_factor
    np.testing.assert_allclose(from_dicom, ge.suv, atol=ge.suv.max() / 32767)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(nifti).transpose(2, 1, 0), ge.suv)
    for index in [(0, 0, 0), (127, 127, 266), (60, 10, 100)]:
        expected = (ge.affine @ [*index, 1])[:3] * [-1, -1, 1]
        np.testing.assert_allclose(nifti.TransformIndexToPhysicalPoint(index), expected, atol=1e-3)
        turned = (127 - index[0], 127 - index[1], index[2])
        # The scanner's own slice positions are up to 0.04 mm off an even grid.
        np.testing.assert_allclose(dicom.TransformIndexToPhysicalPoint(turned), expected, atol=0.05)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        *((f"DRO_{number}", 0.005) for number in ("0_0", "2_0", "2_1", "2_4", "3_0", "3_1", "3_3", "4_0", "4_1")),
        # The object's values are rounded to a hundredth of an SUV by body surface area.
        ("DRO_2_3", 0.025),
    ],
)
def test_ibsi_reference_objects(reference_data, name, tolerance):
    folder = reference_data / "ibsi_suv_dro" / name
    read = read_pet(folder / "PT")
    image = nib.as_closest_canonical(nib.load(folder / "mask" / "DRO_mask.nii.gz"))
    np.testing.assert_allclose(image.affine, read.affine, atol=1e-3)
    inside = read.suv[np.asarray(image.dataobj) > 0]
    found = [float(value) for value in (inside.min(), np.median(inside), inside.max())]
    assert found == pytest.approx([0.20, 1.00, 4.00], abs=tolerance)


@pytest.mark.parametrize("name", ["DRO_2_0", "DRO_2_1", "DRO_2_3", "DRO_2_4", "DRO_3_0", "DRO_3_3", "DRO_4_1"])
def test_what_is_derived_from_a_reference_object_is_plain_activity(reference_data, tmp_path, name):
    # The formula of a text book, on the attributes that every viewer uses, now gives the reference object's SUV.
    source = read_pet(reference_data / "ibsi_suv_dro" / name / "PT")
    options = DicomOptions(keep_private=False)
    folder = write_dicom_series(source, tmp_path / "derived", description="Identity", options=options)
    highest = 0.0
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        assert (dataset.Units, dataset.DecayCorrection) == ("BQML", "START")
        item = dataset.RadiopharmaceuticalInformationSequence[0]
        hour = float(dataset.SeriesTime[:2]) - float(item.RadiopharmaceuticalStartTime[:2])
        dose = float(item.RadionuclideTotalDose) * 2 ** (-3600 * hour / float(item.RadionuclideHalfLife))
        activity = dataset.pixel_array.max() * float(dataset.RescaleSlope)
        highest = max(highest, activity * 1000 * float(dataset.PatientWeight) / dose)
    assert highest == pytest.approx(source.suv.max(), rel=1e-4)
