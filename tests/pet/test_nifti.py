"""NIfTI and its sidecar: SUV in, SUV out, and nothing half written."""

import gzip
import json
import re
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from pipeline import __version__
from pipeline.pet import PETError, read_dicom_series, read_nifti, read_pet, suvbw_factor_of, write_nifti
from pipeline.pet.nifti import check_is_full_dose


@pytest.fixture(params=["scan.nii", "scan.nii.gz"])
def written(request, series, tmp_path):
    return write_nifti(series, tmp_path / request.param)


def sidecar_of(path):
    return path.with_name(path.name.split(".")[0] + ".json")


def change_sidecar(path, **changes):
    sidecar = sidecar_of(path)
    content = {**json.loads(sidecar.read_text()), **changes}
    sidecar.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return path


def rewrite(path, voxels, affine=None, **header):
    image = nib.load(path)
    new = nib.Nifti1Image(voxels, image.affine if affine is None else affine)
    new.header.set_xyzt_units(header.get("unit", "mm"))
    nib.save(new, path)
    return path


# --------------------------------------------------------------------------------------------- round trips


def test_suv_is_the_same_to_the_bit(written, series):
    read = read_nifti(written)
    np.testing.assert_array_equal(read.suv, series.suv)
    np.testing.assert_allclose(read.affine, series.affine, atol=1e-5)
    assert read.suvbw_factor is None
    assert replace(read.header, units="BQML", suv_type="") == series.header
    assert read.source_files == (written,)


def test_dicom_to_nifti_keeps_the_factor_and_the_provenance(dicom_folder, tmp_path):
    source = read_dicom_series(dicom_folder)
    path = write_nifti(source, tmp_path / "scan.nii.gz", extra={"DoseReductionFactor": 4})
    sidecar = json.loads(sidecar_of(path).read_text())
    assert sidecar["Units"] == "g/mL"
    assert sidecar["SUVbwFactor"] == source.suvbw_factor
    assert sidecar["DoseReductionFactor"] == 4
    assert sidecar["BodyWeight"] == 70.0
    assert sidecar["InjectionStart"] == -3600.0
    assert read_pet(path).provenance[: len(source.provenance)] == source.provenance
    assert not re.search(r"ANONYMOUS|20000101|\d\d:\d\d:\d\d", sidecar_of(path).read_text().replace("00:00:00", ""))


def test_activity_concentration_becomes_suv(written, series):
    factor = suvbw_factor_of(series.header)
    rewrite(written, (series.suv / factor).astype(np.float32))
    read = read_nifti(change_sidecar(written, Units="Bq/mL", SUVbwFactor=None))
    assert read.suvbw_factor == pytest.approx(factor, rel=1e-12)
    np.testing.assert_allclose(read.suv, series.suv, rtol=1e-6)
    in_mbq = change_sidecar(written, InjectedRadioactivity=350, InjectedRadioactivityUnits="MBq")
    assert read_nifti(in_mbq).suvbw_factor == pytest.approx(factor, rel=1e-12)


def test_an_image_without_decay_correction(written, series, tmp_path):
    # The mean over a frame of 120 s that starts 300 s after the scan, an hour and 300 s after the injection.
    decay = np.log(2) / 6586.2
    mean = 350e6 / 70e3 * np.exp(-decay * 3900) * (1 - np.exp(-decay * 120)) / (decay * 120)
    rewrite(written, (series.suv * mean).astype(np.float32))
    uncorrected = {"ImageDecayCorrected": False, "ImageDecayCorrectionTime": None, "FrameTimesStart": [300]}
    read = read_nifti(change_sidecar(written, Units="Bq/mL", SUVbwFactor=None, **uncorrected))
    np.testing.assert_allclose(read.suv, series.suv, rtol=1e-6)
    assert read.header.decay_correction == "NONE"
    # Written as SUV, it is corrected.
    again = read_nifti(write_nifti(read, tmp_path / "again.nii"))
    assert again.header.decay_correction == "START"
    np.testing.assert_array_equal(again.suv, read.suv)


def test_times_are_relative_to_any_zero(written, series):
    # Time zero at the injection, as PET-BIDS allows.
    change_sidecar(written, Units="Bq/mL", ScanStart=3600, InjectionStart=0, ImageDecayCorrectionTime=3600)
    header = read_nifti(change_sidecar(written, SUVbwFactor=None)).header
    assert header.uptake_time == 3600
    assert header.administration_time == -3600


def test_half_life_from_the_radionuclide(written):
    read = read_nifti(change_sidecar(written, Units="Bq/mL", RadionuclideHalfLife=None, SUVbwFactor=None))
    assert read.header.radionuclide_half_life == pytest.approx(6586.2)
    assert any("F-18 was used" in note for note in read.provenance)


def test_a_stated_factor_stands_in_for_the_dose(written):
    change_sidecar(written, Units="Bq/mL", InjectedRadioactivity=None, SUVbwFactor=2.5e-4)
    assert read_nifti(written).suvbw_factor == 2.5e-4


def test_suv_needs_neither_dose_nor_weight(series, tmp_path):
    bare = replace(series, header=type(series.header)(units="GML"))
    np.testing.assert_array_equal(read_nifti(write_nifti(bare, tmp_path / "scan.nii.gz")).suv, series.suv)


def test_other_axes_are_turned_to_ras(written, series):
    voxels = np.ascontiguousarray(series.suv[::-1].transpose(2, 1, 0))
    affine = series.affine @ np.array([[0, 0, -1, 7], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)
    read = read_nifti(rewrite(written, voxels, affine))
    np.testing.assert_array_equal(read.suv, series.suv)
    np.testing.assert_allclose(read.affine, series.affine, atol=1e-4)


def test_scaled_integers_are_read_with_their_scaling(written, series):
    image = nib.Nifti1Image(series.suv, series.affine)
    image.set_data_dtype(np.int16)
    nib.save(image, written)
    np.testing.assert_allclose(read_nifti(written).suv, series.suv, atol=10 / 65535)


def test_a_trailing_axis_of_length_one_is_static(written, series):
    np.testing.assert_array_equal(read_nifti(rewrite(written, series.suv[..., None])).suv, series.suv)


def test_headers_are_complete_and_anonymous(written):
    image = nib.load(written)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert image.header["qform_code"] == image.header["sform_code"] == 1
    assert image.get_data_dtype() == np.float32
    assert image.header["descrip"].item().decode() == f"unipet_3d {__version__}"
    assert image.header.get_intent() == ("none", (), "SUVbw")
    assert not image.header["db_name"].item()
    if written.name.endswith(".gz"):
        head = written.read_bytes()[:10]
        assert head[3] == 0  # no file name
        assert head[4:8] == b"\0\0\0\0"  # no time


@pytest.mark.parametrize("length", [10, 200])
def test_the_header_says_what_made_it_in_80_bytes(series, tmp_path, length):
    meaning = "Denoised \u00e9 " + "x" * length
    header = nib.load(write_nifti(series, tmp_path / "a.nii.gz", extra={"Description": meaning})).header
    said = header["descrip"].item().decode("ascii")
    assert said == (f"Denoised ? {'x' * length}; unipet_3d {__version__}")[:79]
    assert len(said) < header["descrip"].dtype.itemsize == 80
    assert read_nifti(tmp_path / "a.nii.gz").provenance == (*series.provenance, "Read from NIfTI in SUVbw.")


def test_equal_series_give_equal_files(series, tmp_path):
    first, second = (write_nifti(series, tmp_path / f"{name}.nii.gz") for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_simpleitk_sees_the_same_geometry_and_values(written, series):
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.ReadImage(str(written))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).transpose(2, 1, 0), series.suv)
    for index in [(0, 0, 0), (7, 9, 11)]:
        point = np.array(image.TransformIndexToPhysicalPoint(index)) * [-1, -1, 1]
        np.testing.assert_allclose(point, (series.affine @ [*index, 1])[:3], atol=1e-4)


# ------------------------------------------------------------------------------------------------ refusals


def test_missing_sidecar(written):
    sidecar_of(written).unlink()
    with pytest.raises(PETError, match=r"sidecar scan\.json is missing, SUV cannot be computed"):
        read_nifti(written)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Units": "counts"}, "Units is 'counts', expected one of Bq/mL, g/mL"),
        ({"Units": None}, "Units is None"),
        ({"SUVType": "LBM"}, "SUVType is LBM, expected BW"),
        ({"Units": "Bq/mL", "BodyWeight": None}, "BodyWeight is missing"),
        ({"Units": "Bq/mL", "BodyWeight": 0}, "BodyWeight is 0"),
        ({"Units": "Bq/mL", "BodyWeight": "70 kg"}, "BodyWeight is '70 kg', expected a number"),
        ({"Units": "Bq/mL", "InjectedRadioactivityUnits": "Ci"}, "InjectedRadioactivityUnits is 'Ci'"),
        ({"Units": "Bq/mL", "InjectionStart": None}, "InjectionStart is missing"),
        ({"Units": "Bq/mL", "ImageDecayCorrected": False, "FrameDuration": None}, "FrameDuration is missing"),
        ({"Units": "Bq/mL", "ImageDecayCorrected": None}, "ImageDecayCorrected is missing"),
        ({"Units": "Bq/mL", "ImageDecayCorrected": "yes"}, "expected true or false"),
        ({"Units": "Bq/mL", "AttenuationCorrection": "none"}, "not corrected for attenuation"),
        ({"Units": "Bq/mL", "SUVbwFactor": 1e-3}, "SUVbwFactor is 1.000000e-03"),
        ({"FrameDuration": [60, 60]}, "FrameDuration lists 2 frames"),
        ({"Units": ["g/mL"]}, "Units is ['g/mL'], expected one of Bq/mL, g/mL"),
        ({"InjectedRadioactivityUnits": ["MBq"]}, "InjectedRadioactivityUnits is ['MBq']"),
        ({"BodyWeight": 10**400}, "BodyWeight is too large for a number"),
    ],
)
def test_sidecars_that_do_not_do(written, changes, message):
    with pytest.raises(PETError, match=re.escape(message)) as caught:
        read_nifti(change_sidecar(written, **changes))
    assert str(written) in str(caught.value)
    assert "scan.json" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1, 2]", "{'Units': 1}", "[" * 100_000])
def test_sidecars_that_are_not_json_objects(written, text):
    sidecar_of(written).write_text(text)
    with pytest.raises(PETError, match=r"sidecar scan\.json"):
        read_nifti(written)


def test_dynamic_images(written, series):
    rewrite(written, np.stack([series.suv] * 2, axis=-1))
    with pytest.raises(PETError, match=r"shape \(8, 10, 12, 2\), expected one static volume"):
        read_nifti(written)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_no_numbers(written, series, value):
    voxels = series.suv.copy()
    voxels[3, 4, 5] = value
    with pytest.raises(PETError, match="1 voxels are not finite"):
        read_nifti(rewrite(written, voxels))


@pytest.mark.parametrize("keep", [0, 0.01, 0.2, 0.7, 0.999])
def test_files_cut_short(written, keep):
    content = written.read_bytes()
    written.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(PETError, match="cut short"):
        read_nifti(written)


def test_one_flipped_bit_in_a_compressed_file(series, tmp_path):
    path = write_nifti(series, tmp_path / "scan.nii.gz")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(PETError, match="damaged"):
        read_nifti(path)


def test_a_header_that_promises_more_than_the_file_holds(written):
    content = gzip.decompress(written.read_bytes()) if written.name.endswith("gz") else written.read_bytes()
    header = bytearray(content)
    header[42:48] = np.array([20000, 20000, 20000], "<i2").tobytes()
    written.write_bytes(gzip.compress(bytes(header)) if written.name.endswith("gz") else bytes(header))
    with pytest.raises(PETError, match="header promises 32000000000000 bytes"):
        read_nifti(written)


def test_geometry_that_cannot_be_trusted(written, series):
    with pytest.raises(PETError, match="spatial unit is micron"):
        read_nifti(rewrite(written, series.suv, unit="micron"))
    rewrite(written, series.suv)
    image = nib.load(written, mmap=False)
    voxels = np.asarray(image.dataobj)
    for qform, message in [(None, "neither qform nor sform"), (np.diag([4.0, 5.0, 3.0, 1.0]), "qform and sform")]:
        new = nib.Nifti1Image(voxels, series.affine)
        new.header.set_xyzt_units("mm")
        new.set_qform(qform, code=0 if qform is None else 1)
        new.set_sform(series.affine, code=0 if qform is None else 1)
        nib.save(new, written)
        with pytest.raises(PETError, match=message):
            read_nifti(written)


def test_names_that_are_not_nifti(series, tmp_path):
    for name in ("scan.img", "scan", ".nii", ".nii.gz", "scan.nii.zip"):
        with pytest.raises(PETError, match=r"expected a name ending in \.nii"):
            write_nifti(series, tmp_path / name)
    assert not list(tmp_path.iterdir())
    with pytest.raises(PETError, match="no such file"):
        read_nifti(tmp_path / "nowhere.nii.gz")


def test_extra_entries_may_not_contradict(series, tmp_path):
    with pytest.raises(PETError, match="Units are taken"):
        write_nifti(series, tmp_path / "scan.nii", extra={"Units": "Bq/mL"})
    with pytest.raises(PETError, match="cannot be written as JSON"):
        write_nifti(series, tmp_path / "scan.nii", extra={"Score": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_leaves_what_was_there(series, tmp_path, monkeypatch, existing):
    path = tmp_path / "scan.nii.gz"
    if existing:
        write_nifti(series, path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def fail(image, stream):
        stream.write(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib.Nifti1Image, "to_stream", fail)
    with pytest.raises(PETError, match="No space left"):
        write_nifti(series.with_suv(series.suv + 1), path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_file_cut_short_without_an_error_is_noticed(series, tmp_path, monkeypatch):
    to_stream = nib.Nifti1Image.to_stream

    def write_other(image, stream):
        voxels = np.asarray(image.dataobj).copy()
        voxels[-1] = 0
        to_stream(nib.Nifti1Image(voxels, image.affine, image.header), stream)

    monkeypatch.setattr(nib.Nifti1Image, "to_stream", write_other)
    with pytest.raises(PETError, match="reads back differently"):
        write_nifti(series, tmp_path / "scan.nii.gz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("said", "message"),
    [({"DoseReductionFactor": 10}, "DoseReductionFactor 10"), ({"DenoisingMethod": "unipet"}, "denoised by unipet")],
)
def test_what_is_no_full_dose_is_told_from_one(said, message, tmp_path):
    path = tmp_path / "a.nii.gz"
    path.touch()
    sidecar = tmp_path / "a.json"
    sidecar.write_text(json.dumps({"DoseReductionFactor": 1}), encoding="utf-8")
    check_is_full_dose(path)
    sidecar.write_text(json.dumps(said), encoding="utf-8")
    with pytest.raises(PETError, match=message):
        check_is_full_dose(path)
