"""Written DICOM: the same quantities on the same grid, within half a slope, or nothing at all."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydicom.uid import ExplicitVRLittleEndian

from pipeline.pet import DicomOptions, PETError, PETSeries, read_dicom_series, write_dicom_series
from pipeline.pet.dicom.writing.derived import state_reference
from pipeline.pet.dicom.writing.writer import quantise
from pipeline.pet.grid import to_native

AFFINE_LPS = np.diag([-4.0, -5.0, 3.0, 1.0])
"""Axes of the slices of `dicom_folder`: columns to the left, rows to the back, slices to the head."""


def headers_of(folder):
    return [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]


def half_slopes_along_z(folder, factor):
    """SUV of half a slope, for each slice from feet to head."""
    headers = sorted(headers_of(folder), key=lambda h: h.ImagePositionPatient[2])
    return np.array([0.5 * float(header.RescaleSlope) * factor for header in headers])


# ------------------------------------------------------------------------------------------- quantising


@given(arrays(np.float64, (3, 4), elements=st.floats(-1e7, 1e7)))
def test_error_is_at_most_half_a_slope(values):
    values[np.abs(values) < 1e-3] = 0.0
    stored, slope = quantise(values)
    assert len(slope) <= 16
    assert stored.dtype == np.int16
    assert np.abs(stored * float(slope) - values).max() <= 0.5 * float(slope) * (1 + 1e-9)


def test_zeros_have_a_slope():
    stored, slope = quantise(np.zeros((2, 2)))
    assert (stored == 0).all()
    assert float(slope) == 1.0


def test_the_whole_range_is_used():
    stored, slope = quantise(np.array([[-3.0, 3.0]]))
    assert stored.tolist() == [[-32767, 32767]]
    assert float(slope) == pytest.approx(3.0 / 32767)


# --------------------------------------------------------------------------------------- derived series


@pytest.fixture
def derived(dicom_folder, tmp_path):
    source = read_dicom_series(dicom_folder)
    folder = write_dicom_series(
        source, tmp_path / "derived", description="Denoised", derivation="Nothing was done to it"
    )
    return source, folder


def test_identity_round_trip_is_within_half_a_slope(derived):
    source, folder = derived
    again = read_dicom_series(folder)
    limit = half_slopes_along_z(folder, source.suvbw_factor)
    assert (np.abs(again.suv.astype(float) - source.suv).max(axis=(0, 1)) <= limit * 1.001).all()
    np.testing.assert_array_equal(again.affine, source.affine)
    assert again.header == source.header
    assert again.suvbw_factor == source.suvbw_factor


@pytest.mark.parametrize("orientation", [[1, 0, 0, 0, -1, 0], [0, 1, 0, 0, 0, -1], [0.8, 0.6, 0, -0.6, 0.8, 0]])
def test_each_slice_stays_on_its_plane(edit, tmp_path, orientation):
    row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)

    def turn(dataset):
        dataset.ImageOrientationPatient = [float(c) for c in orientation]
        dataset.ImagePositionPatient = [f"{c:.6f}" for c in 3.0 * dataset.InstanceNumber * np.cross(row, column)]

    source_folder = edit(turn)
    source = read_dicom_series(source_folder)
    folder = write_dicom_series(source, tmp_path / "derived", description="Denoised")
    for before, after in zip(headers_of(source_folder), headers_of(folder), strict=True):
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "InstanceNumber"):
            assert after[keyword].value == before[keyword].value
        assert (after.Rows, after.Columns) == (before.Rows, before.Columns)
        np.testing.assert_allclose(
            after.pixel_array * float(after.RescaleSlope),
            before.pixel_array * float(before.RescaleSlope),
            atol=0.51 * float(after.RescaleSlope),
        )


def test_what_a_derived_series_keeps_and_what_is_new(derived):
    source, folder = derived
    before = {header.SOPInstanceUID: header for header in map(pydicom.dcmread, source.source_files)}
    headers = headers_of(folder)
    assert len({header.SOPInstanceUID for header in headers}) == len(headers)
    assert len({header.SeriesInstanceUID for header in headers}) == 1
    for header in headers:
        (reference,) = header.SourceImageSequence
        original = before.pop(reference.ReferencedSOPInstanceUID)
        for keyword in (
            "PatientID",
            "PatientName",
            "StudyInstanceUID",
            "FrameOfReferenceUID",
            "SeriesDate",
            "SeriesTime",
            "AcquisitionTime",
            "DecayCorrection",
            "Units",
            "PatientWeight",
            "RadiopharmaceuticalInformationSequence",
        ):
            assert header[keyword].value == original[keyword].value
        assert header.SeriesInstanceUID != original.SeriesInstanceUID
        assert header.SOPInstanceUID != original.SOPInstanceUID
        assert header.file_meta.MediaStorageSOPInstanceUID == header.SOPInstanceUID
        assert header.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert header.ImageType == ["DERIVED", "PRIMARY"]
        assert header.SeriesDescription == "Denoised"
        assert header.DerivationDescription == "Nothing was done to it"
        assert header.RescaleIntercept == 0
        assert header.PixelRepresentation == 1
        assert header.SmallestImagePixelValue == header.pixel_array.min()
        assert header.LargestImagePixelValue == header.pixel_array.max()
    assert not before


def test_inherited_errors_are_mended_and_private_elements_stay(edit, tmp_path):
    def spoil(dataset):
        dataset.pop("Laterality")
        dataset.PatientPosition = "HFS"
        dataset.NumberOfTimeSlices = 6
        dataset.add_new("PixelPaddingValue", "SS", 5)
        dataset.WindowCenter, dataset.WindowWidth, dataset.RescaleType = "100", "200", "SUV"
        dataset.private_block(0x0009, "GEMS_PETD_01", create=True).add_new(0x02, "LO", "kept")

    folder = write_dicom_series(read_dicom_series(edit(spoil)), tmp_path / "derived", description="Denoised")
    for header in headers_of(folder):
        assert header.Laterality == ""
        for keyword in ("PatientPosition", "NumberOfTimeSlices", "PixelPaddingValue", "WindowCenter", "RescaleType"):
            assert keyword not in header
        assert header.private_block(0x0009, "GEMS_PETD_01")[0x02].value == "kept"
        assert header.NumberOfSlices == 12


@pytest.mark.parametrize("little_endian", [True, False])
def test_unsigned_sources_become_signed_and_big_endian_ones_are_refused(dicom_folder, tmp_path, little_endian):
    expected = {}
    for path in dicom_folder.glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.PixelRepresentation = 0
        dataset.add_new("SmallestImagePixelValue", "US", 0)
        dataset.add_new("LargestImagePixelValue", "US", 40000)
        values = dataset.pixel_array.astype(np.uint16) + 20000
        expected[path] = values * float(dataset.RescaleSlope)
        dataset.PixelData = values.astype("<u2" if little_endian else ">u2").tobytes()
        if not little_endian:
            dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
        pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=little_endian, force_encoding=True)
    source = read_dicom_series(dicom_folder)
    for k, path in enumerate(source.source_files):
        slice_suv = expected[path][::-1, ::-1].T * source.suvbw_factor
        np.testing.assert_allclose(source.suv[:, :, k], slice_suv, rtol=1e-6)
    if not little_endian:
        with pytest.raises(PETError, match="is big endian"):
            write_dicom_series(source, tmp_path / "derived", description="Denoised")
        return
    again = read_dicom_series(write_dicom_series(source, tmp_path / "derived", description="Denoised"))
    np.testing.assert_allclose(again.suv, source.suv, atol=source.suv.max() / 32767)


def test_padding_is_written_as_padding(dicom_folder, tmp_path):
    source = read_dicom_series(dicom_folder)
    padding = np.zeros(source.suv.shape, dtype=bool)
    padding[:2], padding[:, :, 3] = True, True
    plain = headers_of(write_dicom_series(source, tmp_path / "plain", description="Denoised"))
    padded = replace(source, suv=np.where(padding, 0, source.suv), padding=padding)
    again = read_dicom_series(write_dicom_series(padded, tmp_path / "again", description="Denoised"))
    np.testing.assert_array_equal(again.padding, padding)
    np.testing.assert_allclose(again.suv, padded.suv, atol=10 / 65000)
    for header, other in zip(
        headers_of(write_dicom_series(padded, tmp_path / "padded", description="Denoised")), plain, strict=True
    ):
        assert header["PixelPaddingValue"].VR == "SS"
        is_padding = header.pixel_array == header.PixelPaddingValue
        k = header.InstanceNumber - 1
        np.testing.assert_array_equal(is_padding, to_native(padding, AFFINE_LPS)[:, :, k].T)
        assert header.SmallestImagePixelValue >= 0
        if not is_padding.all():
            measured = header.pixel_array * float(header.RescaleSlope)
            np.testing.assert_allclose(
                measured[~is_padding], (other.pixel_array * float(other.RescaleSlope))[~is_padding], rtol=1e-4, atol=1
            )
    assert all("PixelPaddingValue" not in header for header in plain)


@pytest.mark.parametrize("units", ["BQML", "GML"])
def test_a_uniform_phantom_is_written_and_read(series, tmp_path, units):
    uniform = series.with_suv(np.ones(series.suv.shape))
    options = DicomOptions(units=units)
    folder = write_dicom_series(uniform, tmp_path / "dicom", description="Phantom", options=options)
    np.testing.assert_allclose(read_dicom_series(folder).suv, 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("number", "expected"), [(b"7 ", 1007), (b"2147483000", 1000), (b"-2147483648", -2147482648), (b"A12 ", 1000)]
)
def test_series_numbers_stay_in_the_range_of_is(edit, tmp_path, number, expected):
    def renumber(dataset):
        dataset[0x00200011] = pydicom.dataelem.RawDataElement(
            pydicom.tag.Tag(0x00200011), "IS", len(number), number, 0, False, True
        )

    source = read_dicom_series(edit(renumber))
    (found,) = {h.SeriesNumber for h in headers_of(write_dicom_series(source, tmp_path / "x", description="Denoised"))}
    assert found == expected


@pytest.mark.parametrize("days", [20000, -20000])
def test_slices_that_were_not_acquired_together_have_no_decay_factor(series, days):
    slices = [pydicom.Dataset() for _ in range(2)]
    for dataset, moment in zip(
        slices, (datetime(2000, 1, 1, 12), datetime(2000, 1, 1, 12) + timedelta(days)), strict=True
    ):
        dataset.AcquisitionDate, dataset.AcquisitionTime = moment.strftime("%Y%m%d %H%M%S").split()
        dataset.ActualFrameDuration = 120000
    with pytest.raises(PETError, match="from the reference time"):
        state_reference(slices, series.header)


@pytest.mark.parametrize("manufacturer", ["", "SIEMENS", "GE MEDICAL SYSTEMS"])
def test_decay_factor_of_a_series_of_its_own_is_that_of_average_activity(series, tmp_path, manufacturer):
    header = replace(series.header, manufacturer=manufacturer, frame_duration=600.0, reference_time=-300.0)
    folder = write_dicom_series(replace(series, header=header), tmp_path / "dicom", description="Simulated")
    # DICOM PS3.3 C.8.9.4.1.9, whatever moment the vendor's FrameReferenceTime counts to.
    decay = np.log(2) / header.radionuclide_half_life
    expected = np.exp(decay * 300) * decay * 600 / -np.expm1(-decay * 600)
    assert [float(h.DecayFactor) for h in headers_of(folder)] == pytest.approx([expected] * series.suv.shape[2])


@pytest.mark.parametrize("seconds", [1e9, 1e15, -1e9])
def test_times_far_from_the_scan_are_refused_in_a_series_of_its_own(series, tmp_path, seconds):
    header = replace(series.header, reference_time=seconds, administration_time=seconds - 3600)
    with pytest.raises(PETError, match="times of the series"):
        write_dicom_series(replace(series, header=header), tmp_path / "dicom", description="Simulated")
    assert not list(tmp_path.iterdir())


def test_negative_values_survive(dicom_folder, tmp_path):
    source = read_dicom_series(dicom_folder)
    negative = source.with_suv(source.suv - 5.0)
    folder = write_dicom_series(negative, tmp_path / "derived", description="Denoised")
    np.testing.assert_allclose(read_dicom_series(folder).suv, negative.suv, atol=5.1 / 32767 / 2)


def test_private_names_do_not_reach_file_names(edit, tmp_path):
    def name(dataset):
        dataset.PatientName, dataset.PatientID = "Doe^Jane", "../../4711"

    folder = write_dicom_series(read_dicom_series(edit(name)), tmp_path / "derived", description="Denoised")
    assert sorted(path.name for path in folder.iterdir()) == [f"PET_{k:04d}.dcm" for k in range(1, 13)]


def test_simpleitk_reads_the_same_voxels(derived):
    sitk = pytest.importorskip("SimpleITK")
    source, folder = derived
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    values = sitk.GetArrayFromImage(image).transpose(2, 1, 0)[::-1, ::-1] * source.suvbw_factor
    np.testing.assert_allclose(values, source.suv, atol=10 / 32767)
    np.testing.assert_allclose(image.GetSpacing(), source.voxel_size, atol=1e-9)
    origin = np.array(image.TransformIndexToPhysicalPoint((7, 9, 0))) * [-1, -1, 1]
    np.testing.assert_allclose(origin, source.affine[:3, 3], atol=1e-9)


# -------------------------------------------------------------------------------------- original series


def test_a_simulated_scan_is_a_complete_series(dicom_folder):
    for header in headers_of(dicom_folder):
        assert header.ImageType == ["ORIGINAL", "PRIMARY"]
        assert header.SOPClassUID.name == "Positron Emission Tomography Image Storage"
        assert header.PatientID == "ANONYMOUS"
        assert "SourceImageSequence" not in header
        assert header.RadiopharmaceuticalInformationSequence[0].RadionuclideCodeSequence[0].CodeValue == "77004003"


@pytest.mark.parametrize(
    "change",
    [
        {"reference_time": -300.0},
        {"reference_time": 240.0},
        {"decay_correction": "ADMIN", "reference_time": -3600.0},
        {"manufacturer": "GE MEDICAL SYSTEMS"},
        {"radionuclide": "Ga-68", "radionuclide_half_life": 4062.6},
        {"patient_height": None, "patient_sex": ""},
        {"administration_time": -50000.0, "radionuclide": "Zr-89", "radionuclide_half_life": 282276.0},
    ],
)
def test_every_header_survives(series, tmp_path, change):
    header = replace(series.header, **change)
    folder = write_dicom_series(replace(series, header=header), tmp_path / "dicom", description="Simulated")
    assert read_dicom_series(folder).header == header


def test_oblique_grids_survive(series, tmp_path):
    turn = np.eye(4)
    turn[:2, :2] = [[0.96, -0.28], [0.28, 0.96]]
    oblique = replace(series, affine=turn @ series.affine)
    again = read_dicom_series(write_dicom_series(oblique, tmp_path / "dicom", description="Simulated"))
    np.testing.assert_allclose(again.affine, oblique.affine, atol=1e-8)
    np.testing.assert_allclose(again.suv, oblique.suv, atol=10 / 32767)


def test_a_volume_already_in_suv_is_written_in_activity(series, tmp_path):
    from_nifti = replace(series, header=replace(series.header, units="GML"))
    again = read_dicom_series(
        write_dicom_series(from_nifti, tmp_path / "dicom", description="From NIfTI", subject_id="sub-01")
    )
    np.testing.assert_allclose(again.suv, series.suv, atol=10 / 32767)
    assert again.header.units == "BQML"


def test_a_derivation_makes_it_derived(series, tmp_path):
    folder = write_dicom_series(series, tmp_path / "dicom", description="Denoised", derivation="Smoothed")
    assert headers_of(folder)[0].ImageType == ["DERIVED", "PRIMARY"]


# --------------------------------------------------------------------------------------------- refusals


def test_a_folder_with_content_is_refused(dicom_folder, series, tmp_path):
    names = sorted(path.name for path in dicom_folder.iterdir())
    with pytest.raises(PETError, match="not an empty folder"):
        write_dicom_series(series, dicom_folder, description="Simulated")
    assert sorted(path.name for path in dicom_folder.iterdir()) == names
    with pytest.raises(PETError, match="does not exist"):
        write_dicom_series(series, tmp_path / "no" / "where", description="Simulated")


@pytest.mark.parametrize("description", ["", "x" * 65, "two\nlines", "back\\slash", "grün"])
def test_texts_must_fit(series, tmp_path, description):
    with pytest.raises(PETError, match="description"):
        write_dicom_series(series, tmp_path / "dicom", description=description)
    assert not list(tmp_path.iterdir())


def test_suv_without_dose_is_refused(series, tmp_path):
    no_dose = replace(series, header=replace(series.header, injected_dose=None), suvbw_factor=2e-4)
    with pytest.raises(PETError, match="RadionuclideTotalDose is missing"):
        write_dicom_series(no_dose, tmp_path / "dicom", description="Simulated")


def test_sheared_axes_are_refused(series, tmp_path):
    affine = series.affine.copy()
    affine[0, 1] = 0.5
    with pytest.raises(PETError, match="right angles"):
        write_dicom_series(replace(series, affine=affine), tmp_path / "dicom", description="Simulated")
    assert not list(tmp_path.iterdir())


def test_another_grid_than_the_source_is_refused(dicom_folder, tmp_path):
    source = read_dicom_series(dicom_folder)
    affine = source.affine.copy()
    affine[2, 3] += 3.0
    moved = PETSeries(
        suv=source.suv,
        affine=affine,
        header=source.header,
        suvbw_factor=source.suvbw_factor,
        source_files=source.source_files,
    )
    with pytest.raises(PETError, match="grid is not that of the source"):
        write_dicom_series(moved, tmp_path / "derived", description="Denoised")


def test_a_source_file_that_is_gone_is_named(dicom_folder, tmp_path):
    source = read_dicom_series(dicom_folder)
    source.source_files[3].unlink()
    with pytest.raises(PETError, match=r"PET_0004\.dcm"):
        write_dicom_series(source, tmp_path / "derived", description="Denoised")


@pytest.mark.parametrize("failing", [1, 7, 12])
def test_a_full_disk_leaves_nothing_behind(series, tmp_path, monkeypatch, failing):
    save_as = pydicom.Dataset.save_as

    def save_until_full(dataset, path, **options):
        if dataset.InstanceNumber == failing:
            path.write_bytes(b"half a file")
            raise OSError(28, "No space left on device")
        save_as(dataset, path, **options)

    monkeypatch.setattr(pydicom.Dataset, "save_as", save_until_full)
    with pytest.raises(PETError, match="No space left"):
        write_dicom_series(series, tmp_path / "dicom", description="Simulated")
    assert not list(tmp_path.iterdir())


def test_a_file_cut_short_without_an_error_is_noticed(series, tmp_path, monkeypatch):
    save_as = pydicom.Dataset.save_as

    def save_less(dataset, path, **options):
        save_as(dataset, path, **options)
        if dataset.InstanceNumber == 5:
            path.write_bytes(path.read_bytes()[:-20])

    monkeypatch.setattr(pydicom.Dataset, "save_as", save_less)
    with pytest.raises(PETError, match=r"PET_0005\.dcm"):
        write_dicom_series(series, tmp_path / "dicom", description="Simulated")
    assert not list(tmp_path.iterdir())
