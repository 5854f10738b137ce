"""Reading a folder: the geometry, and every broken series that other readers let pass."""

import io
import os
import random
import re
import shutil
import tracemalloc

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian, EnhancedPETImageStorage, JPEG2000Lossless, generate_uid

from pipeline.pet import PETError, PETSeries, explain_suv, read_dicom_series, read_pet, write_dicom_series
from pipeline.pet.dicom import slices

HALF_STEP = 10.0 / 32767 / 2


def refuses(folder, *words: str) -> None:
    with pytest.raises(PETError) as caught:
        read_dicom_series(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    for word in words:
        assert word in message, message


def item_of(dataset):
    return dataset.RadiopharmaceuticalInformationSequence[0]


# ---------------------------------------------------------------------------------------------- geometry


def test_a_series_reads_back(series, dicom_folder):
    read = read_dicom_series(dicom_folder)
    assert read.header == series.header
    np.testing.assert_allclose(read.affine, series.affine, atol=1e-9)
    np.testing.assert_allclose(read.suv, series.suv, atol=1.01 * HALF_STEP)
    assert read.suv.dtype == np.float32
    assert read.suv.flags.c_contiguous
    assert read.voxel_size == (4.0, 5.0, 3.0)


def test_source_files_follow_the_z_axis(dicom_folder):
    read = read_dicom_series(dicom_folder)
    heights = [pydicom.dcmread(path).ImagePositionPatient[2] for path in read.source_files]
    assert heights == sorted(heights)
    assert heights[0] == read.affine[2, 3]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**16))
def test_order_on_disk_does_not_matter(dicom_folder, tmp_path, seed):
    shuffled = tmp_path / f"shuffled_{seed}"
    shutil.rmtree(shuffled, ignore_errors=True)
    names = [f"{k:02d}.dcm" for k in range(12)]
    random.Random(seed).shuffle(names)
    shuffled.mkdir()
    for path, name in zip(sorted(dicom_folder.iterdir()), names, strict=True):
        shutil.copy(path, shuffled / name)
    np.testing.assert_array_equal(read_dicom_series(shuffled).suv, read_dicom_series(dicom_folder).suv)


def test_instance_numbers_do_not_matter(edit, dicom_folder):
    before = read_dicom_series(dicom_folder).suv

    def reverse(dataset):
        dataset.InstanceNumber = 13 - dataset.InstanceNumber
        dataset.SliceLocation = "0"

    np.testing.assert_array_equal(read_dicom_series(edit(reverse)).suv, before)


@pytest.mark.parametrize(
    "orientation",
    [
        [1, 0, 0, 0, 1, 0],  # axial
        [-1, 0, 0, 0, -1, 0],  # axial, turned by 180 degrees
        [1, 0, 0, 0, -1, 0],  # axial, slices stacked towards the feet
        [0, 1, 0, 0, 0, -1],  # sagittal
        [1, 0, 0, 0, 0, -1],  # coronal
        [0.8, 0.6, 0, -0.6, 0.8, 0],  # turned by 37 degrees
        [0.96, 0, 0.28, 0, 1, 0],  # tilted by 16 degrees
    ],
)
@pytest.mark.parametrize("direction", [1, -1])
def test_every_voxel_keeps_its_place_in_the_patient(edit, orientation, direction):
    """Columns, rows and slices are placed by hand with the equation of DICOM PS3.3 C.7.6.2.1.1."""
    row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    normal = direction * np.cross(row, column)
    origin = np.array([10.0, -20.0, 30.0])
    stored = {}

    def turn(dataset):
        dataset.ImageOrientationPatient = [float(c) for c in orientation]
        position = origin + normal * 3.0 * (dataset.InstanceNumber - 1)
        dataset.ImagePositionPatient = [f"{c:.6f}" for c in position]
        stored[dataset.InstanceNumber] = (position, dataset.pixel_array * float(dataset.RescaleSlope))

    read = read_dicom_series(edit(turn))
    assert pydicom.dcmread(read.source_files[0]).PixelSpacing == [5.0, 4.0]
    axes = np.abs(read.affine[:3, :3])
    assert (np.argmax(axes, axis=0) == [0, 1, 2]).all()
    assert (np.diag(read.affine) > 0).all()
    to_index = np.linalg.inv(read.affine)
    for position, values in stored.values():
        for j, i in [(0, 0), (9, 0), (0, 7), (4, 3)]:
            lps = position + row * 4.0 * i + column * 5.0 * j
            index = to_index @ [-lps[0], -lps[1], lps[2], 1.0]
            np.testing.assert_allclose(index, np.rint(index), atol=1e-4)
            x, y, z = np.rint(index[:3]).astype(int)
            assert read.suv[x, y, z] == pytest.approx(values[j, i] * read.suvbw_factor, rel=1e-6)


def test_simpleitk_sees_the_same_geometry_and_values(edit, dicom_folder):
    sitk = pytest.importorskip("SimpleITK")
    edit(lambda dataset: setattr(dataset, "RescaleSlope", "2.5"))
    read = read_dicom_series(dicom_folder)
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(dicom_folder)))
    for index in [(0, 0, 0), (7, 9, 11), (2, 5, 7)]:
        point = np.array(image.TransformIndexToPhysicalPoint(index))
        x, y, z = np.rint(np.linalg.inv(read.affine) @ [-point[0], -point[1], point[2], 1])[:3].astype(int)
        assert read.suv[x, y, z] == pytest.approx(image[index] * read.suvbw_factor, rel=1e-6)
        np.testing.assert_allclose(read.affine @ [x, y, z, 1], [-point[0], -point[1], point[2], 1], atol=1e-4)


# ------------------------------------------------------------------------------------- what is left alone


def test_files_in_subfolders_and_other_files(dicom_folder):
    before = read_dicom_series(dicom_folder).suv
    (dicom_folder / "README").write_text("scanned on a Tuesday")
    (dicom_folder / "empty").touch()
    (dicom_folder / "sub").mkdir()
    for path in sorted(dicom_folder.glob("*.dcm"))[:5]:
        path.rename(dicom_folder / "sub" / path.name)
    read = read_dicom_series(dicom_folder)
    np.testing.assert_array_equal(read.suv, before)
    assert any("2 files that are not DICOM" in note for note in read.provenance)


def test_what_a_mac_leaves_beside_each_file_is_left_out(dicom_folder):
    for path in list(dicom_folder.glob("*.dcm")):
        (dicom_folder / f"._{path.name}").write_bytes(bytes(120))
    assert any("12 files that are not DICOM" in note for note in read_dicom_series(dicom_folder).provenance)


@pytest.mark.timeout(20)
def test_a_pipe_is_not_waited_for(dicom_folder):
    os.mkfifo(dicom_folder / "pipe")
    assert read_dicom_series(dicom_folder).suv.shape == (8, 10, 12)


def test_a_dicomdir_is_left_out(dicom_folder):
    dataset = pydicom.dcmread(next(dicom_folder.glob("*.dcm")))
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    dataset.save_as(dicom_folder / "DICOMDIR")
    assert read_dicom_series(dicom_folder).suv.shape == (8, 10, 12)


def test_number_of_time_slices_of_a_static_series_is_not_believed(edit):
    read = read_dicom_series(edit(lambda dataset: setattr(dataset, "NumberOfTimeSlices", 6)))
    assert any("6 frames" in note for note in read.provenance)


def test_table_positions_rounded_between_beds_are_accepted_and_told(edit):
    def move(dataset):
        if dataset.InstanceNumber > 6:
            x, y, z = dataset.ImagePositionPatient
            dataset.ImagePositionPatient = [x, y, z - 0.08]

    read = read_dicom_series(edit(move))
    assert any("off an even grid" in note for note in read.provenance)


def test_a_missing_intercept_is_zero_by_definition(edit):
    assert read_dicom_series(edit(lambda dataset: dataset.pop("RescaleIntercept"))).suv.max() > 9


def test_provenance_names_nobody(edit):
    def name(dataset):
        dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Doe^Jane", "ID4711", "19600102"

    read = read_dicom_series(edit(name))
    text = " ".join(read.provenance) + repr(read.header)
    assert not re.search(r"Doe|Jane|ID4711|1960|20000101", text)


# ------------------------------------------------------------------------------------- what is refused


def test_empty_folder(tmp_path):
    refuses(tmp_path, "no DICOM file among 0 files")


def test_not_there_and_not_dicom(tmp_path):
    with pytest.raises(PETError, match="no such file or folder"):
        read_pet(tmp_path / "nowhere")
    text = tmp_path / "scan.txt"
    text.write_text("hello")
    with pytest.raises(PETError, match="not a DICOM file"):
        read_pet(text)
    with pytest.raises(PETError, match="nowhere: No such file"):
        read_dicom_series(tmp_path / "nowhere")


def test_a_single_slice_is_not_a_series(dicom_folder):
    with pytest.raises(PETError, match="expected the folder"):
        read_pet(dicom_folder / "PET_0001.dcm")
    for path in sorted(dicom_folder.glob("*.dcm"))[1:]:
        path.unlink()
    refuses(dicom_folder, "1 slices, expected 12")


def test_two_series_in_one_folder(dicom_folder, series):
    before = read_dicom_series(dicom_folder)
    write_dicom_series(series.with_suv(series.suv / 2), dicom_folder / "other", description="Late")
    for path in (dicom_folder / "other").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.SeriesNumber = 7
        dataset.save_as(path)
    number = pydicom.dcmread(next(dicom_folder.glob("*.dcm"))).SeriesNumber
    refuses(
        dicom_folder,
        "2 PET series, expected one; choose it by number, description or UID",
        f"from: number {number}, PT, ",
        "; number 7, PT, ",
    )
    np.testing.assert_array_equal(read_pet(dicom_folder, series=str(number)).suv, before.suv)
    uid = str(dataset.SeriesInstanceUID)
    late = read_pet(dicom_folder, series=uid)
    np.testing.assert_allclose(late.suv, series.suv / 2, atol=1.01 * HALF_STEP)
    assert any("Another PET series (12 files) was left aside" in note for note in late.provenance)
    assert explain_suv(dicom_folder, series=7).provenance == late.provenance
    with pytest.raises(PETError, match="no PET series 8"):
        read_pet(dicom_folder, series="8")
    with pytest.raises(PETError, match="2 PET series"):
        explain_suv(dicom_folder)


def _set(keyword: str, value: object):
    return lambda dataset: setattr(dataset, keyword, value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set("Modality", "CT"), ["Modality is CT", "expected PT"]),
        (_set("SOPClassUID", EnhancedPETImageStorage), ["Enhanced PET", "beside 11 other files"]),
        (_set("Units", "CNTS"), ["Units is CNTS without the vendor's SUV or activity factor"]),
        (_set("Units", "CPS"), ["Units is CPS", "not calibrated"]),
        (_set("Units", "PROPCPS"), ["Units is PROPCPS", "not calibrated"]),
        (_set("Units", "PROPCNTS"), ["Units is PROPCNTS"]),
        (_set("DecayCorrection", "PART"), ["DecayCorrection is PART, expected START or NONE or ADMIN"]),
        (_set("SeriesType", ["STATIC", "REPROJECTION"]), ["SeriesType is REPROJECTION"]),
        (_set("CorrectedImage", ["DECY", "SCAT"]), ["not corrected for attenuation"]),
        (_set("CorrectedImage", "DECY"), ["not corrected for attenuation"]),
        (_set("PatientWeight", "0"), ["PatientWeight is 0"]),
        (_set("PatientWeight", None), ["PatientWeight is missing"]),
        (_set("PatientWeight", "-3"), ["PatientWeight is -3 kg"]),
        (lambda d: item_of(d).pop("RadionuclideTotalDose"), ["RadionuclideTotalDose is missing"]),
        (lambda d: setattr(item_of(d), "RadionuclideTotalDose", "0"), ["RadionuclideTotalDose is 0"]),
        (lambda d: d.pop("RadiopharmaceuticalInformationSequence"), ["has 0 items, expected 1"]),
        (_set("ImageOrientationPatient", [1, 0, 0, 0.5, 0.9, 0]), ["not orthonormal"]),
        (_set("ImageOrientationPatient", [2, 0, 0, 0, 1, 0]), ["not orthonormal"]),
        (_set("PixelSpacing", [0, 4]), ["PixelSpacing", "expected 0.001 to 1000 mm"]),
        (_set("NumberOfSlices", 20), ["12 slices, expected 20"]),
    ],
)
def test_what_is_wrong_with_the_whole_series(edit, change, words):
    refuses(edit(change), *words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set("PatientID", "SECRET7"), ["another PatientID"]),
        (_set("FrameOfReferenceUID", generate_uid()), ["another FrameOfReferenceUID"]),
        (_set("Units", "CNTS"), ["Units is 'CNTS', expected 'BQML' as in 11 of 12"]),
        (_set("DecayCorrection", "ADMIN"), ["DecayCorrection is 'ADMIN', expected 'START'"]),
        (_set("PatientWeight", "71"), ["PatientWeight is '71.0', expected '70.0'"]),
        (lambda d: setattr(item_of(d), "RadionuclideTotalDose", "1e8"), ["RadionuclideTotalDose"]),
        (lambda d: d.pop("RescaleSlope"), ["RescaleSlope is missing"]),
        (_set("RescaleSlope", "-1"), ["RescaleSlope is -1"]),
        (_set("RescaleIntercept", "-1024"), ["RescaleIntercept is -1024, expected 0"]),
        (_set("ImageOrientationPatient", [-1, 0, 0, 0, 1, 0]), ["ImageOrientationPatient", "as in PET_0001"]),
        (_set("PixelSpacing", [5, 4.1]), ["PixelSpacing is [5.0, 4.1], expected [5.0, 4.0]"]),
        (lambda d: d.pop("ImagePositionPatient"), ["ImagePositionPatient has 0 values, expected 3"]),
        (_set("Rows", 9), ["matrix is 8 x 9, expected 8 x 10"]),
        (_set("Rows", 60000), ["PixelData has 160 bytes, expected 960000"]),
        (_set("DecayCorrectionDateTime", "20000101110000"), ["another DecayCorrectionDateTime"]),
        (lambda d: d.pop("PixelData"), ["PixelData is missing"]),
        (_set("PixelData", b"\0" * 100), ["PixelData has 100 bytes, expected 160"]),
    ],
)
def test_what_is_wrong_with_one_slice(edit, change, words):
    folder = edit(change, number=5)
    refuses(folder, "PET_0005.dcm", *words)
    with pytest.raises(PETError) as caught:
        read_dicom_series(folder)
    assert "SECRET7" not in str(caught.value)


def test_attributes_that_are_no_numbers(edit):
    def damage(dataset):
        dataset.pop("RescaleSlope")
        dataset.add_new("RescaleSlope", "UN", b"1.0\\2.0")

    refuses(edit(damage, number=5), "PET_0005.dcm", "RescaleSlope is not a number")


def test_missing_transfer_syntax(edit):
    folder = edit(lambda dataset: None)
    path = folder / "PET_0005.dcm"
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.99999.1.2.1\0"))
    refuses(folder, "PET_0005.dcm", "TransferSyntaxUID is 1.2.840.99999.1.2.1")


def test_missing_slice(edit, dicom_folder):
    edit(lambda dataset: dataset.pop("NumberOfSlices"))
    (dicom_folder / "PET_0005.dcm").unlink()
    refuses(dicom_folder, "1 slice(s) missing", "between -291.500 and -285.500 mm", "expected at -288.500 mm")


def test_duplicate_slice(edit, dicom_folder):
    shutil.copy(dicom_folder / "PET_0005.dcm", dicom_folder / "again.dcm")
    refuses(dicom_folder, "two slices at -288.500 mm", "PET_0005.dcm", "again.dcm")


def test_unequal_spacing(edit):
    def move(dataset):
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, z + 0.5]

    refuses(edit(move, number=12), "spacing of slices is 3.500 mm", "expected 3.000 mm")


def test_slice_shifted_sideways(edit):
    def move(dataset):
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x + 2, y, z]

    refuses(edit(move, number=4), "PET_0004.dcm", "shifted 2.000 mm sideways")


@pytest.mark.parametrize(("kind", "keyword"), [("DYNAMIC", "FrameReferenceTime"), ("GATED", "TriggerTime")])
def test_one_frame_of_a_dynamic_or_gated_series_is_chosen_by_hand(edit, dicom_folder, kind, keyword):
    before = read_dicom_series(dicom_folder).suv
    edit(lambda dataset: dataset.update({"NumberOfTimeSlices": 2}))
    edit(lambda dataset: setattr(dataset, "SeriesType", [kind, "IMAGE"]))
    first = sorted(dicom_folder.glob("*.dcm"))
    for path in first:
        dataset = pydicom.dcmread(path)
        setattr(dataset, keyword, "600000")
        dataset.SOPInstanceUID = generate_uid()
        dataset.save_as(path.with_name("frame2_" + path.name))
        if keyword == "TriggerTime":
            edit(lambda dataset: dataset.update({"TriggerTime": "0"}), number=int(path.stem[-4:]))
    refuses(
        dicom_folder,
        f"2 slices at each of 12 positions (SeriesType {kind}): 2 frames of a dynamic or gated series, expected one",
        f"put the files of one frame (one {keyword}) into a folder of their own",
    )
    for path in dicom_folder.glob("frame2_*"):
        path.unlink()
    read = read_dicom_series(dicom_folder)
    np.testing.assert_array_equal(read.suv, before)
    assert any(f"One of the 2 frames of a series of SeriesType {kind}." in note for note in read.provenance)


def test_a_folder_that_was_copied_into_itself(dicom_folder):
    for path in sorted(dicom_folder.glob("*.dcm")):
        shutil.copy(path, path.with_name("copy_" + path.name))
    refuses(dicom_folder, "2 slices at each of 12 positions", "the same slices 2 times")


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.97])
def test_a_file_cut_short(dicom_folder, keep):
    path = dicom_folder / "PET_0007.dcm"
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    refuses(dicom_folder)


def test_a_file_that_lost_its_content(dicom_folder):
    (dicom_folder / "PET_0007.dcm").write_bytes(b"")
    refuses(dicom_folder, "PET_0007.dcm", "not DICOM")


def test_pixels_that_cannot_be_decoded(dicom_folder):
    path = dicom_folder / "PET_0003.dcm"
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = pydicom.encaps.encapsulate([b"\0" * 64])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    refuses(dicom_folder, "PET_0003.dcm", "JPEG 2000", "cannot be decoded")


def test_the_result_is_a_pet_series(dicom_folder):
    assert isinstance(read_pet(str(dicom_folder)), PETSeries)


def test_an_instance_uid_twice(edit, dicom_folder):
    uid = pydicom.dcmread(dicom_folder / "PET_0002.dcm").SOPInstanceUID
    folder = edit(lambda d: setattr(d, "SOPInstanceUID", uid), number=5)
    refuses(folder, "PET_0005.dcm", "SOPInstanceUID is that of PET_0002.dcm")


def test_a_missing_instance_uid(edit):
    refuses(edit(lambda d: d.pop("SOPInstanceUID"), number=5), "PET_0005.dcm", "SOPInstanceUID is missing")


def test_bits_that_contradict_each_other(edit):
    refuses(edit(lambda d: setattr(d, "BitsStored", 12), number=5), "PET_0005.dcm", "HighBit is 15, expected 11")


def test_a_file_cut_short_within_a_sequence_is_named(dicom_folder):
    path = dicom_folder / "PET_0005.dcm"
    dataset = pydicom.dcmread(path)
    # Without a length of its own a sequence ends where its delimiter is found.
    dataset["RadiopharmaceuticalInformationSequence"].is_undefined_length = True
    item_of(dataset).is_undefined_length_sequence_item = True
    dataset.save_as(path)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"\xfe\xff\x0d\xe0") + 8])
    refuses(dicom_folder, "PET_0005.dcm: damaged DICOM file", "No tag to read")


def test_a_folder_is_named_even_if_the_message_begins_alike(dicom_folder, tmp_path, monkeypatch):
    dataset = pydicom.dcmread(dicom_folder / "PET_0005.dcm")
    dataset.SeriesInstanceUID = generate_uid()
    dataset.save_as(dicom_folder / "PET_0005.dcm")
    dicom_folder.rename(tmp_path / "2")
    monkeypatch.chdir(tmp_path)
    refuses("2", "2: 2 PET series")


# ------------------------------------------------------------------------- what others reported of real folders


def other_object(dicom_folder, name, modality, sop_class):
    dataset = pydicom.dcmread(next(dicom_folder.glob("PET*.dcm")))
    dataset.Modality, dataset.SOPClassUID, dataset.SOPInstanceUID = modality, sop_class, generate_uid()
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[modality])
    dataset.save_as(dicom_folder / name)
    return dicom_folder / name


def test_n9_other_objects_of_a_study_are_left_aside(dicom_folder):
    before = read_dicom_series(dicom_folder)
    for k in range(3):
        other_object(dicom_folder, f"CT{k}.dcm", "CT", "1.2.840.10008.5.1.4.1.1.2")
    other_object(dicom_folder, "structures.dcm", "RTSTRUCT", "1.2.840.10008.5.1.4.1.1.481.3")
    read = read_dicom_series(dicom_folder)
    np.testing.assert_array_equal(read.suv, before.suv)
    assert len(read.source_files) == 12
    assert "Objects that are no PET images were left aside: 3 CT, 1 RTSTRUCT." in read.provenance
    assert explain_suv(dicom_folder).provenance == read.provenance
    for path in dicom_folder.glob("PET*.dcm"):
        path.unlink()
    refuses(dicom_folder, "no PET image among 4 DICOM files (3 CT, 1 RTSTRUCT)")


@pytest.mark.parametrize(("representation", "value"), [(1, -32768), (1, -1), (0, 65535)])
def test_p3_padding_is_not_a_measurement(edit, dicom_folder, representation, value):
    before = read_dicom_series(dicom_folder).suv
    kind = "<i2" if representation else "<u2"

    def pad(dataset):
        stored = np.frombuffer(dataset.PixelData, "<i2").reshape(10, 8).astype(int)
        stored[:, 0] = value
        dataset.PixelRepresentation = representation
        dataset.add_new("PixelPaddingValue", "SS" if representation else "US", value)
        dataset.PixelData = stored.astype(kind).tobytes()

    read = read_dicom_series(edit(pad))
    # Columns run to the left, so that the first of them is the last voxel along X.
    outside = np.zeros(before.shape, bool)
    outside[-1] = True
    np.testing.assert_array_equal(read.padding, outside)
    np.testing.assert_array_equal(read.suv, np.where(outside, 0, before))
    assert any("120 voxels hold PixelPaddingValue" in note for note in read.provenance)


@pytest.mark.parametrize(("limit", "value"), [(-100, -32768), (-32768, -100)])
def test_p3_a_range_of_padding(edit, dicom_folder, limit, value):
    def pad(dataset):
        stored = np.frombuffer(dataset.PixelData, "<i2").reshape(10, 8).copy()
        stored[:, 0], stored[:, 1] = -200, -100
        dataset.PixelPaddingValue, dataset.PixelPaddingRangeLimit = value, limit
        dataset["PixelPaddingValue"].VR = dataset["PixelPaddingRangeLimit"].VR = "SS"
        dataset.PixelData = stored.tobytes()

    read = read_dicom_series(edit(pad))
    assert read.padding[-2:].all()
    assert read.padding.sum() == 240
    assert read.suv.min() == 0


@pytest.mark.parametrize("value", [0, -5])
def test_p3_padding_that_is_zero_or_nowhere_says_nothing(edit, dicom_folder, value):
    before = read_dicom_series(dicom_folder)

    def pad(dataset):
        dataset.add_new("PixelPaddingValue", "SS", value)

    read = read_dicom_series(edit(pad))
    assert read.padding is None
    np.testing.assert_array_equal(read.suv, before.suv)
    assert read.provenance == before.provenance


def test_p4_linked_folders_are_read_and_loops_end(dicom_folder, tmp_path, edit):
    edit(lambda dataset: dataset.pop("NumberOfSlices"))
    before = read_dicom_series(dicom_folder).suv
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in sorted(dicom_folder.glob("*.dcm"))[:6]:
        path.rename(elsewhere / path.name)
    (dicom_folder / "upper").symlink_to(elsewhere)
    (elsewhere / "loop").symlink_to(dicom_folder)
    np.testing.assert_array_equal(read_dicom_series(dicom_folder).suv, before)


def test_p4_a_link_to_nothing(dicom_folder, edit):
    (dicom_folder / "old").symlink_to(dicom_folder / "nowhere")
    assert read_dicom_series(dicom_folder).suv.shape == (8, 10, 12)
    edit(lambda dataset: dataset.pop("NumberOfSlices"))
    refuses(dicom_folder, "old: link to a file that does not exist")


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("preamble", [b"", bytes(128) + b"DICM"])
@pytest.mark.parametrize("suffix", [".dcm", ""])
def test_p6_files_without_preamble_or_meta_information(dicom_folder, implicit, preamble, suffix):
    before = read_dicom_series(dicom_folder)
    for path in sorted(dicom_folder.glob("*.dcm")):
        dataset = pydicom.dcmread(path)
        del dataset.file_meta
        dataset.preamble = None
        content = io.BytesIO()
        pydicom.dcmwrite(content, dataset, implicit_vr=implicit, little_endian=True)
        path.unlink()
        path.with_suffix(suffix).write_bytes(preamble + content.getvalue())
    read = read_dicom_series(dicom_folder)
    np.testing.assert_array_equal(read.suv, before.suv)
    assert read.header == before.header
    assert "12 files have no file meta information (DICOM PS3.10)." in read.provenance


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("PatientWeight", "70.00"), ("PatientSize", "1.750"), ("SeriesTime", None), ("RadionuclideTotalDose", "3.50E+8")],
)
def test_p8_one_value_in_other_characters(edit, keyword, value):
    def change(dataset):
        target = item_of(dataset) if keyword.startswith("Radio") else dataset
        setattr(target, keyword, value or str(target[keyword].value).partition(".")[0] + ".0")

    folder = edit(change, number=5)
    assert read_dicom_series(folder).suv.shape == (8, 10, 12)


@pytest.mark.parametrize(
    ("images", "method", "is_corrected"),
    [
        ("", "CT", True),
        (None, "measured,AC_CT", True),
        ("", "NONE", False),
        ("", "No attenuation correction", False),
        ("", "NAC", False),
        ("", "CT, no scatter correction", True),
        ("", "without", False),
        ("", "", False),
        ("DECY", "CT", False),
        (["decy", "attn"], "", True),
    ],
)
def test_p14_an_empty_corrected_image_says_nothing(edit, images, method, is_corrected):
    def change(dataset):
        if images is None:
            dataset.pop("CorrectedImage")
        else:
            dataset["CorrectedImage"].value = images
        dataset.AttenuationCorrectionMethod = method

    folder = edit(change)
    if is_corrected:
        assert read_dicom_series(folder).header.attenuation_corrected
    else:
        refuses(folder, "not corrected for attenuation")


@pytest.mark.parametrize("keyword", ["SeriesInstanceUID", "SOPClassUID"])
def test_p15_a_file_cut_within_its_header_is_named(dicom_folder, keyword):
    path = dicom_folder / "PET_0005.dcm"
    content = path.read_bytes()
    tag = pydicom.datadict.tag_for_keyword(keyword).to_bytes(4, "big")
    at = content.index(bytes([tag[1], tag[0], tag[3], tag[2]]) + b"UI")
    path.write_bytes(content[:at])
    refuses(dicom_folder, "PET_0005.dcm: ", f"{keyword} is missing")


@pytest.mark.parametrize(("owner", "name"), [(pydicom, "dcmread"), (pydicom.Dataset, "get"), (slices, "pixel_array")])
def test_r7_memory_that_is_short_is_not_damage(dicom_folder, monkeypatch, owner, name):
    def short(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(owner, name, short)
    with pytest.raises(MemoryError):
        read_dicom_series(dicom_folder)


@pytest.mark.parametrize("units", ["BQML", "GML"])
@pytest.mark.parametrize("date", ["20000103", "19600101"])
def test_r8_slices_acquired_days_apart_are_no_static_series(edit, units, date):
    edit(lambda dataset: setattr(dataset, "Units", units))
    folder = edit(lambda dataset: setattr(dataset, "AcquisitionDate", date), number=5)
    refuses(folder, "slices were acquired over", "expected one acquisition of at most 12 hours")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set("PixelSpacing", [10000, 10000]), ["10000", "expected 0.001 to 1000 mm"]),
        (_set("PixelSpacing", [1e-9, 1e-9]), ["1e-09", "expected 0.001 to 1000 mm"]),
        (
            lambda d: setattr(d, "ImagePositionPatient", [1e15, 0, d.ImagePositionPatient[2]]),
            ["1000000000000000.0", "expected at most 100000 mm"],
        ),
        (
            lambda d: setattr(d, "ImagePositionPatient", [0, 0, 2000 * d.InstanceNumber]),
            ["slices are 2000 mm apart, expected at most 1000 mm"],
        ),
    ],
)
def test_r10_absurd_geometries(edit, change, words):
    folder = edit(change)
    refuses(folder, *words)
    with pytest.raises(PETError, match="expected"):
        explain_suv(folder)


def test_r17_a_deflated_slice_is_measured_before_it_is_unpacked(dicom_folder):
    path = dicom_folder / "PET_0005.dcm"
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.PixelData = bytes(200 << 20)
    dataset.save_as(path)
    assert path.stat().st_size < 1 << 18
    tracemalloc.start()
    refuses(dicom_folder, "PET_0005.dcm", "takes more than", "expected")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 << 20


@pytest.mark.parametrize(
    ("slope", "alternates", "is_lost"), [("1", 1, True), ("1", 0, True), ("2.5", 1, True), ("2.5", 0, False)]
)
def test_d1_a_series_that_lost_its_slopes(edit, dicom_folder, slope, alternates, is_lost):
    generator = np.random.default_rng(2)

    def lose(dataset):
        dataset.RescaleSlope = slope
        stored = generator.integers(0, 20000, 80).astype("<i2")
        stored[generator.integers(80)] = 32767 - dataset.InstanceNumber % 2 * alternates
        dataset.PixelData = stored.tobytes()

    edit(lose)
    if is_lost:
        refuses(dicom_folder, f"RescaleSlope is {slope} on every slice", "12 slices")
    # A noiseless phantom of which every slice has the same maximum has one slope in truth.
    # One slice that is not scaled to full range: the slope can be that of the whole series.
    edit(lambda dataset: setattr(dataset, "PixelData", bytes(160)), number=5)
    assert read_dicom_series(dicom_folder).suv.shape == (8, 10, 12)
