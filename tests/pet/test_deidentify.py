"""De-identification: nothing of the patient stays, no difference between times changes, and neither does SUV."""

from datetime import datetime

import numpy as np
import pydicom
import pytest
from pydicom.datadict import tag_for_keyword

from pipeline.pet import DicomOptions, PETError, read_dicom_series, write_dicom_series
from pipeline.pet.dicom.writing.deidentify import ACTIONS, Action
from tests.pet.scans import BQML, Scan, write_slices

SECRETS = {
    "PatientName": "Secret^Name",
    "PatientID": "SECRET1",
    "OtherPatientIDs": "SECRET2",
    "PatientBirthDate": "19340506",
    "PatientAddress": "SECRET3",
    "PatientComments": "SECRET4",
    "InstitutionName": "SECRET5",
    "StationName": "SECRET6",
    "OperatorsName": "SECRET7",
    "ReferringPhysicianName": "SECRET8",
    "StudyDescription": "SECRET9",
    "SeriesDescription": "SECRET10",
    "ProtocolName": "SECRET11",
    "AccessionNumber": "SECRET12",
    "StudyID": "SECRET13",
    "ImageComments": "SECRET14",
    "DeviceSerialNumber": "SECRET15",
    "AdmissionID": "SECRET16",
    "AdditionalPatientHistory": "SECRET17",
}


@pytest.fixture
def source_folder(tmp_path):
    scan = Scan(
        BQML,
        {**SECRETS, "Manufacturer": "GE MEDICAL SYSTEMS", "AcquisitionTime": "113000", "PatientAge": "088Y"},
        private={
            (0x0009, 0x0010): ("LO", "GEMS_PETD_01"),
            (0x0009, 0x100D): ("DT", "20250101110000"),
            (0x0011, 0x0010): ("LO", "SECRET18"),
            (0x0011, 0x1001): ("LO", "SECRET19"),
        },
    )
    return write_slices(scan, tmp_path / "scan")


def deidentified(source_folder, folder, **options):
    source = read_dicom_series(source_folder)
    write_dicom_series(
        source,
        folder,
        description="Denoised",
        subject_id="sub-01",
        options=DicomOptions(deidentify=True, **options),
    )
    return source, sorted((pydicom.dcmread(path) for path in folder.iterdir()), key=lambda d: d.InstanceNumber)


def test_nothing_of_the_patient_stays(source_folder, tmp_path):
    source, _ = deidentified(source_folder, tmp_path / "out")
    uids = {
        str(element.value).encode()
        for path in source.source_files
        for element in pydicom.dcmread(path).iterall()
        if (element.VR == "UI" and element.keyword.endswith("InstanceUID")) or element.keyword == "FrameOfReferenceUID"
    }
    assert len(uids) >= 8
    for path in (tmp_path / "out").iterdir():
        content = path.read_bytes()
        for secret in (b"SECRET", b"Secret", b"19340506", b"20250101", *uids):
            assert secret not in content


def test_it_says_so_and_keeps_what_suv_needs(source_folder, tmp_path):
    _, headers = deidentified(source_folder, tmp_path / "out")
    for header in headers:
        assert header.PatientID == header.PatientName == "sub-01"
        assert header.PatientBirthDate == header.ReferringPhysicianName == ""
        assert (header.PatientWeight, header.PatientSize, header.PatientSex) == (70, 1.75, "O")
        assert header.PatientAge == "088Y"
        assert header.PatientIdentityRemoved == "YES"
        assert header.LongitudinalTemporalInformationModified == "MODIFIED"
        codes = [item.CodeValue for item in header.DeidentificationMethodCodeSequence]
        assert codes == ["113100", "113108", "113107"]
        assert not any(element.tag.is_private for element in header.iterall())


def test_suv_and_every_time_difference_stay(source_folder, tmp_path):
    source, headers = deidentified(source_folder, tmp_path / "out")
    again = read_dicom_series(tmp_path / "out")
    np.testing.assert_allclose(again.suv, source.suv, atol=4.0 / 32767 * 0.51)
    # GE's private reference time, which is gone, is now a standard attribute.
    assert again.header.uptake_time == source.header.uptake_time == 3600
    shifts = set()
    for header in headers:
        item = header.RadiopharmaceuticalInformationSequence[0]
        dates = [header.StudyDate, header.AcquisitionDate, header.SeriesDate, header.DecayCorrectionDateTime[:8]]
        dates.append(item.RadiopharmaceuticalStartDateTime[:8])
        shifts |= {(datetime(2025, 1, 1) - datetime.strptime(date, "%Y%m%d")).days for date in dates}
        assert str(header.AcquisitionTime).startswith("113000")
    (shift,) = shifts
    assert 1 <= shift <= 3650


def test_references_still_point_to_each_other(source_folder, tmp_path):
    _, headers = deidentified(source_folder, tmp_path / "out", deidentification_key="k")
    _, others = deidentified(source_folder, tmp_path / "again", deidentification_key="k")
    _, strangers = deidentified(source_folder, tmp_path / "other", deidentification_key="another")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({header[keyword].value for header in headers}) == 1
    assert len({header.SOPInstanceUID for header in headers}) == len(headers)
    assert len({header.SourceImageSequence[0].ReferencedSOPInstanceUID for header in headers}) == len(headers)
    for header, other, stranger in zip(headers, others, strangers, strict=True):
        # The same key maps one patient's study alike, whenever it is done.
        assert header.StudyInstanceUID == other.StudyInstanceUID != stranger.StudyInstanceUID
        assert header.SourceImageSequence == other.SourceImageSequence
        assert header.StudyDate == other.StudyDate
        assert header.file_meta.MediaStorageSOPInstanceUID == header.SOPInstanceUID
        assert header.StudyInstanceUID.is_valid


@pytest.mark.parametrize("date", ["spring", "20250101 of Jane"])
def test_dates_that_cannot_be_shifted_are_refused(date, source_folder, tmp_path):
    for path in source_folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.pop("StudyDate")
        dataset.add_new("StudyDate", "LO", date)
        dataset.save_as(path)
    with pytest.raises(PETError, match="StudyDate is not a complete date"):
        deidentified(source_folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_hides_where_no_attribute_is(source_folder, tmp_path):
    for path in source_folder.iterdir():
        dataset = pydicom.dcmread(path)
        # A TIFF header, as of files that are both; texts of a sequence's items; a sequence that is none.
        dataset.preamble = b"II*\0SECRET20".ljust(128, b"\0")
        item = pydicom.Dataset()
        item.SeriesDescription, item.DerivationDescription = "SECRET21", "SECRET22"
        dataset.AnatomicRegionSequence = [item]
        dataset.add_new("EnergyWindowRangeSequence", "LT", "SECRET23")
        dataset.save_as(path)
    _, headers = deidentified(source_folder, tmp_path / "out")
    assert all(b"SECRET" not in path.read_bytes() for path in (tmp_path / "out").iterdir())
    assert headers[0].SeriesDescription == headers[0].DerivationDescription == "Denoised"


def test_a_simulated_scan_has_no_identity_to_lose(series, tmp_path):
    options = DicomOptions(deidentify=True)
    folder = write_dicom_series(series, tmp_path / "out", description="Simulated", options=options)
    np.testing.assert_allclose(read_dicom_series(folder).suv, series.suv, atol=10 / 32767)
    assert pydicom.dcmread(next(folder.iterdir())).PatientIdentityRemoved == "YES"


def test_the_table_names_attributes_that_exist():
    for keyword, action in ACTIONS.items():
        tag = tag_for_keyword(keyword)
        assert tag is not None, keyword
        representation = pydicom.datadict.dictionary_VR(tag)
        # Whatever can identify by its kind is listed with more than KEEP.
        if representation in {"DA", "DT"}:
            assert action in {Action.SHIFT, Action.EMPTY}, keyword
        if representation == "PN":
            assert action in {Action.EMPTY, Action.SUBJECT}, keyword
        if representation == "UI" and keyword not in {"SOPClassUID", "ReferencedSOPClassUID"}:
            assert action is Action.NEW_UID, keyword


def test_unknown_options_are_refused():
    with pytest.raises(PETError, match="units 'CNTS' cannot be written, expected one of BQML, GML"):
        DicomOptions(units="CNTS")


def test_series_written_with_one_set_of_options_stay_together(source_folder, tmp_path):
    series, options = read_dicom_series(source_folder), DicomOptions(deidentify=True)
    studies = set()
    for name, choice in (("a", options), ("b", options), ("c", DicomOptions(deidentify=True))):
        folder = write_dicom_series(series, tmp_path / name, description=name, subject_id="S", options=choice)
        header = pydicom.dcmread(next(folder.iterdir()))
        studies.add((header.StudyInstanceUID, header.FrameOfReferenceUID, header.StudyDate))
    assert len(studies) == 2
