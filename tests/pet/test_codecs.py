"""Compressed transfer syntaxes: the same SUV, a clear line where a decoder is missing, no memory for a lie."""

import shutil

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from pipeline.pet import PETError, explain_suv, read_dicom_series, write_dicom_series
from tests.pet.scans import FAITH, SUV, Scan, write_multi_frame, write_slices


@pytest.fixture
def scan(tmp_path):
    return write_slices(Scan(), tmp_path / "scan")


def test_run_length_encoding(scan, tmp_path):
    before = read_dicom_series(scan)
    for path in scan.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless)
        dataset.save_as(path)
    read = read_dicom_series(scan)
    np.testing.assert_array_equal(read.suv, before.suv)
    derived = write_dicom_series(read, tmp_path / "derived", description="Identity")
    np.testing.assert_allclose(read_dicom_series(derived).suv, before.suv, atol=4 / 32767 * 0.51)
    assert explain_suv(scan).factors[0] == before.suvbw_factor


def test_run_length_encoded_frames(tmp_path):
    path = write_multi_frame(tmp_path / "image.dcm")
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(path)
    np.testing.assert_allclose(read_dicom_series(path).suv, SUV, atol=FAITH + 1e-5)


def test_deflate(scan):
    before = read_dicom_series(scan)
    for path in scan.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        dataset.save_as(path)
    np.testing.assert_array_equal(read_dicom_series(scan).suv, before.suv)
    assert explain_suv(scan).factors[0] == before.suvbw_factor


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEGLosslessSV1, JPEGExtended12Bit, JPEG2000, JPEG2000Lossless])
def test_decoders_of_the_extra(syntax):
    pytest.importorskip("pylibjpeg", reason="pip install 'unipet_3d[codecs]'")
    assert "pylibjpeg" in get_decoder(syntax).available_plugins


def test_jpeg_2000(scan):
    pytest.importorskip("openjpeg", reason="pip install 'unipet_3d[codecs]'")
    for path in scan.iterdir():
        dataset = pydicom.dcmread(path)
        # The encoder takes no image as small as the scan's.
        values = np.tile(dataset.pixel_array, (16, 16))
        dataset.Rows, dataset.Columns = values.shape
        dataset.PixelData = values.tobytes()
        dataset.save_as(path)
    before = read_dicom_series(scan)
    for path in scan.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
        dataset.save_as(path)
    np.testing.assert_array_equal(read_dicom_series(scan).suv, before.suv)


def compressed(path, syntax, content):
    dataset = pydicom.dcmread(path)
    dataset.PixelData = encapsulate([content])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def test_a_missing_decoder_is_named_with_what_to_install(scan, monkeypatch):
    compressed(scan / "3.dcm", JPEG2000Lossless, bytes(64)).save_as(scan / "3.dcm")
    decoder = get_decoder(JPEG2000Lossless)
    monkeypatch.setattr(decoder, "_available", {})
    with pytest.raises(PETError) as caught:
        read_dicom_series(scan)
    message = str(caught.value)
    assert "3.dcm: pixel data (JPEG 2000 Image Compression (Lossless Only)) cannot be decoded" in message
    assert message.endswith("install the decoders with: pip install 'unipet_3d[codecs]'")


def test_a_header_that_promises_more_than_any_compression_gives(scan):
    dataset = compressed(scan / "3.dcm", RLELossless, bytes(64))
    dataset.Rows = dataset.Columns = 60000
    dataset.save_as(scan / "3.dcm")
    with pytest.raises(PETError, match=r"3\.dcm: PixelData has \d+ bytes for an image of 7200000000; it is damaged"):
        read_dicom_series(scan)
    with pytest.raises(PETError, match=r"3\.dcm: the file has \d+ bytes for an image of 7200000000; it is damaged"):
        explain_suv(scan)


def test_a_series_that_promises_much_in_many_slices(scan):
    template = compressed(scan / "3.dcm", RLELossless, bytes(64))
    shutil.rmtree(scan)
    scan.mkdir()
    template.Rows = template.Columns = 2000
    for k in range(40):
        template.SOPInstanceUID = generate_uid()
        template.ImagePositionPatient = [0, 0, 3 * k]
        template.save_as(scan / f"{k}.dcm")
    with pytest.raises(PETError, match="40 slices would take 320000000 bytes"):
        read_dicom_series(scan)


def test_headers_alone_show_a_file_cut_short(scan):
    path = scan / "3.dcm"
    dataset = pydicom.dcmread(path)
    dataset.Rows = 1000
    dataset.save_as(path)
    with pytest.raises(PETError, match=r"3\.dcm: the file has \d+ bytes, expected 8000; the file is cut short"):
        explain_suv(scan)
