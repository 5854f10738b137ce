"""Enhanced and legacy converted enhanced PET: frames of one image, read as slices and written as slices."""

import re

import numpy as np
import pydicom
import pytest
from pydicom.uid import PositronEmissionTomographyImageStorage

from pipeline.pet import DicomOptions, PETError, explain_suv, read_pet, write_dicom_series
from tests.pet.scans import BQML, FAITH, SHAPE, SUV, WEIGHT, mapping, write_multi_frame
from tests.pet.test_branches import BEDS, uncorrected

IMAGES = {
    "Bq/ml": {},
    "frames in any order": {"order": (3, 0, 5, 1, 4, 2)},
    "kBq/ml": {"units": {"kBq/ml": BQML / 1000}},
    "SUVbw": {"units": {"g/ml{SUVbw}": 1.0}},
    "SUVbw, annotated in front": {"units": {"{SUVbw}g/ml": 1.0}},
    "James 128, sex other": {"units": {"g/ml{SUVlbm(James128)}": 53.87 / WEIGHT}},
    "surface": {"units": {"cm2/ml{SUVbsa}": 18481.43 / 70000}},
    "not corrected for decay": {
        "decay_corrected": "NO",
        "stored": [uncorrected(start) for start in BEDS],
        "acquired": tuple(BEDS),
    },
    "legacy converted": {"legacy": True},
}


@pytest.mark.parametrize("name", IMAGES)
def test_true_suv_comes_out(name, tmp_path):
    read = read_pet(write_multi_frame(tmp_path / "image.dcm", **IMAGES[name]))
    np.testing.assert_allclose(read.suv, SUV, atol=FAITH + 1e-5)
    assert read.voxel_size == pytest.approx((4.0, 4.0, 3.0))
    # From feet to head; columns to the left and rows to the back are turned.
    np.testing.assert_allclose(read.affine[:3, 3], [10.0 - 4 * (SHAPE[0] - 1), 20.0 - 4 * (SHAPE[1] - 1), 0.0])


def test_a_folder_of_one_image_is_that_image(tmp_path):
    path = write_multi_frame(tmp_path / "image.dcm")
    np.testing.assert_array_equal(read_pet(tmp_path).suv, read_pet(path).suv)


@pytest.mark.parametrize("name", IMAGES)
def test_a_derived_series_has_single_slices(name, tmp_path):
    source = read_pet(write_multi_frame(tmp_path / "image.dcm", **IMAGES[name]))
    folder = write_dicom_series(source, tmp_path / "derived", description="Denoised")
    again = read_pet(folder)
    np.testing.assert_allclose(again.suv, source.suv, atol=4.0 / 32767 * 0.51)
    np.testing.assert_allclose(again.affine, source.affine, atol=1e-6)
    uid = pydicom.dcmread(tmp_path / "image.dcm").SOPInstanceUID
    frames = set()
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        assert dataset.SOPClassUID == PositronEmissionTomographyImageStorage
        assert (dataset.Units, dataset.DecayCorrection) == ("BQML", "START")
        assert dataset.PatientID == "ID4711"
        assert dataset.SourceImageSequence[0].ReferencedSOPInstanceUID == uid
        frames.add(dataset.SourceImageSequence[0].ReferencedFrameNumber)
        for keyword in ("ImageIndex", "CollimatorType", "PatientOrientationCodeSequence", "SeriesTime", "DecayFactor"):
            assert keyword in dataset
        for keyword in ("PerFrameFunctionalGroupsSequence", "NumberOfFrames", "RealWorldValueMappingSequence"):
            assert keyword not in dataset
    assert frames == set(range(1, SHAPE[2] + 1))


def test_a_derived_series_of_one_image_can_be_deidentified(tmp_path):
    source = read_pet(write_multi_frame(tmp_path / "image.dcm"))
    options = DicomOptions(deidentify=True)
    folder = write_dicom_series(source, tmp_path / "derived", description="Denoised", options=options)
    np.testing.assert_allclose(read_pet(folder).suv, source.suv, atol=4.0 / 32767 * 0.51)
    assert b"ID4711" not in b"".join(path.read_bytes() for path in folder.iterdir())


def test_a_stated_suv_is_a_candidate(tmp_path):
    path = write_multi_frame(tmp_path / "image.dcm", units={"Bq/ml": BQML, "g/ml{SUVbw}": 1.02})
    read = read_pet(path)
    np.testing.assert_allclose(read.suv, SUV, atol=FAITH + 1e-5)
    assert any("RealWorldValueMapping to SUVbw" in note and "+2.00 % from it" in note for note in read.provenance)


def test_explaining_needs_no_pixels(tmp_path):
    path = write_multi_frame(tmp_path / "image.dcm")
    assert explain_suv(path).factors[0] == read_pet(path).suvbw_factor


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"DecayCorrectionDateTime": None}, "DecayCorrected is YES and DecayCorrectionDateTime is missing"),
        ({"DecayCorrected": None}, "DecayCorrected is missing, expected YES or NO"),
        ({"AttenuationCorrected": "NO"}, "not corrected for attenuation"),
        ({"units": {"{propcounts}": 1.0}}, "Units is PROPCNTS"),
        ({"units": {"{counts}/s": 1.0}}, "Units is CPS"),
        ({"units": {"ml/min/ml": 1.0}}, "RealWorldValueMapping is to ml/min/ml, expected Bq/ml"),
        ({"NumberOfFrames": 7}, "NumberOfFrames is 7.0, the functional groups are of 6 frames"),
        ({"PerFrameFunctionalGroupsSequence": None}, "the functional groups are of 0 frames"),
        ({"Rows": 60000}, "PixelData has 240 bytes, expected 2880000; the file is cut short"),
        (
            {"frame_changes": {k: {"TemporalPositionIndex": 1 + k % 2} for k in range(6)}},
            "6 frames of 2 times (TemporalPositionIndex), expected one static stack",
        ),
        ({"frame_changes": {5: {"StackID": "2"}}}, "6 frames of 2 stacks (StackID)"),
        ({"order": (0, 1, 2, 4, 5)}, "1 slice(s) missing between 6.000 and 12.000 mm"),
        ({"order": (0, 1, 2, 3, 4, 5, 5)}, "two slices at 15.000 mm"),
    ],
)
def test_what_is_refused(changes, message, tmp_path):
    path = write_multi_frame(tmp_path / "image.dcm", **changes)
    with pytest.raises(PETError, match=re.escape(message)) as caught:
        read_pet(path)
    assert str(caught.value).startswith(f"{path}: ")
    with pytest.raises(PETError, match=r"\S"):
        explain_suv(path)


@pytest.mark.parametrize(
    ("mappings", "message"),
    [
        ([mapping("Bq/ml", 2.0, intercept=1.0)], "RealWorldValueMapping to Bq/ml is not by a positive slope alone"),
        ([mapping("Bq/ml", -2.0)], "is not by a positive slope alone"),
        ([mapping("Bq/ml", 2.0), mapping("Bq/ml", 3.0)], "is there twice with different slopes"),
        ([], "neither Units nor a RealWorldValueMapping"),
    ],
)
def test_mappings_that_are_refused(mappings, message, tmp_path):
    path = write_multi_frame(tmp_path / "image.dcm")
    dataset = pydicom.dcmread(path)
    dataset.PerFrameFunctionalGroupsSequence[2].RealWorldValueMappingSequence = mappings
    dataset.save_as(path)
    with pytest.raises(PETError, match=f"frame 3: .*{message}"):
        read_pet(path)


def test_an_image_beside_other_files(tmp_path):
    write_multi_frame(tmp_path / "one.dcm")
    dataset = pydicom.dcmread(tmp_path / "one.dcm")
    dataset.SOPInstanceUID = pydicom.uid.generate_uid()
    dataset.save_as(tmp_path / "two.dcm")
    with pytest.raises(PETError, match="beside 1 other files, expected it alone"):
        read_pet(tmp_path)
