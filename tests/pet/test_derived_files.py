"""Derived files: a volume as NIfTI and DICOM, with names that tell nothing of the patient."""

import json
from dataclasses import replace

import numpy as np
import pydicom
import pytest

from pipeline import __version__
from pipeline.pet import DicomOptions, PETError, PETHeader, read_pet, write_nifti
from pipeline.pet.derived_files import bids_name, describe_results, scan_name, write_denoised

IMAGE = "pet-1_desc-denoised_pet"


@pytest.mark.parametrize("decay_correction", ["START", "NONE", ""])
@pytest.mark.parametrize(("administration_time", "written"), [(-3600.0, True), (None, False)])
def test_dicom_is_written_where_suv_can_be_computed_from_it(
    series, tmp_path, decay_correction, administration_time, written
):
    header = PETHeader(
        units="GML",
        decay_correction=decay_correction,
        patient_weight=70.0,
        injected_dose=3e8,
        radionuclide_half_life=6586.2,
        administration_time=administration_time,
        reference_time=0.0 if decay_correction == "START" else None,
    )
    write_denoised(replace(series, header=header), tmp_path, name="pet-1", method="test")
    assert (tmp_path / "pet-1_desc-denoised_pet.nii.gz").is_file()
    assert (tmp_path / "dicom").is_dir() == written
    if written:
        np.testing.assert_allclose(read_pet(tmp_path / "dicom").suv, series.suv, atol=series.suv.max() / 65000)
    options = DicomOptions(units="GML")
    write_denoised(
        replace(series, header=header), tmp_path, name="pet-2", method="test", dicom_folder="suv", options=options
    )
    np.testing.assert_allclose(read_pet(tmp_path / "suv").suv, series.suv, atol=series.suv.max() / 65000)


def test_a_series_of_which_only_the_factor_is_known_is_written_as_nifti(series, tmp_path):
    known = replace(series, header=PETHeader(units="BQML"), suvbw_factor=2e-4)
    write_denoised(known, tmp_path, name="pet-1", method="test")
    assert sorted(path.name for path in tmp_path.glob("pet-1*")) == [f"{IMAGE}.json", f"{IMAGE}.nii.gz"]


@pytest.mark.parametrize(
    ("file_name", "kept"),
    [("sub-01_ses-2_pet.nii.gz", "sub-01_ses-2"), ("SMITH_JOHN_pet.nii.gz", None), ("sub-01_SMITH_pet.nii", None)],
)
def test_names_of_outputs_hold_pseudonyms_only(series, tmp_path, file_name, kept):
    write_nifti(series, tmp_path / file_name)
    name = scan_name(read_pet(tmp_path / file_name))
    assert name == (kept or name)
    assert "SMITH" not in name


def big_endian(folder):
    for path in folder.glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.PixelData = dataset.pixel_array.astype(">i2").tobytes()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
        pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=False, force_encoding=True)


def test_a_big_endian_source_is_written_as_nifti_with_the_reason(dicom_folder, tmp_path):
    big_endian(dicom_folder)
    source = read_pet(dicom_folder)
    folder = tmp_path / "out"
    folder.mkdir()
    why_not = write_denoised(source, folder, name="pet-1", method="test")
    assert "is big endian" in why_not
    assert not (folder / "dicom").exists()
    np.testing.assert_array_equal(read_pet(folder / "pet-1_desc-denoised_pet.nii.gz").suv, source.suv)


def test_sheared_axes_are_written_as_nifti_with_the_reason(series, tmp_path):
    affine = series.affine.copy()
    affine[0, 1] = 0.5
    why_not = write_denoised(replace(series, affine=affine), tmp_path, name="pet-1", method="test")
    assert "right angles" in why_not
    assert sorted(path.name for path in tmp_path.glob("pet-1*")) == [f"{IMAGE}.json", f"{IMAGE}.nii.gz"]
    np.testing.assert_allclose(read_pet(tmp_path / "pet-1_desc-denoised_pet.nii.gz").affine, affine, atol=1e-5)


def test_a_full_disk_is_no_reason_to_write_less(series, tmp_path, monkeypatch):
    def fail(dataset, path, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pydicom.Dataset, "save_as", fail)
    with pytest.raises(PETError, match="No space left"):
        write_denoised(series, tmp_path, name="pet-1", method="test")
    assert not list(tmp_path.iterdir())


def test_derived_scans_are_a_bids_derivative(tmp_path):
    describe_results(tmp_path)
    described = json.loads((tmp_path / "dataset_description.json").read_text())
    assert described == {
        "Name": "Scans derived by unipet_3d",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "unipet_3d", "Version": __version__}],
    }
    ignored = (tmp_path / ".bidsignore").read_text().split()
    assert {"*_dicom", "*lesions.tsv", "*lesions.json", "*report.html", "*run.json"} <= set(ignored)


def test_the_sidecar_of_a_derived_scan_has_what_bids_asks_for(series, tmp_path):
    write_denoised(series, tmp_path, name="sub-01", method="test")
    sidecar = json.loads((tmp_path / "sub-01_desc-denoised_pet.json").read_text())
    assert sidecar["SkullStripped"] is False
    assert sidecar["TimeZero"] == "00:00:00"
    assert sidecar["Description"] == "Denoised PET (test)"


def test_a_description_of_results_gains_sources_and_versions_and_loses_nothing(tmp_path):
    mine = {"Name": "mine", "GeneratedBy": [{"Name": "unipet_3d", "Version": "0.1"}], "License": "CC0"}
    path = tmp_path / "out" / "dataset_description.json"
    path.parent.mkdir()
    path.write_text(json.dumps(mine))
    for name, described in (("a", {"DatasetDOI": "doi:10.18112/openneuro.ds1.v1"}), ("b", {"Name": "no DOI"})):
        (tmp_path / name / "sub-01" / "pet").mkdir(parents=True)
        (tmp_path / name / "dataset_description.json").write_text(json.dumps(described))
        for _ in range(2):
            describe_results(path.parent, source=tmp_path / name / "sub-01" / "pet" / "sub-01_pet.nii.gz")
    describe_results(path.parent, source=tmp_path / "elsewhere")
    doi = "10.18112/openneuro.ds1.v1"
    assert json.loads(path.read_text()) == {
        **mine,
        "GeneratedBy": [*mine["GeneratedBy"], {"Name": "unipet_3d", "Version": __version__}],
        "SourceDatasets": [{"URL": f"https://doi.org/{doi}", "DOI": f"doi:{doi}"}],
    }
    assert not (path.parent / ".bidsignore").exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sub-01", "sub-01"),
        ("pet-1a2b3c4d", "sub-pet1a2b3c4d"),
        ("sub-01_rec-drf004_ses-2", "sub-01_ses-2_rec-drf004"),
        ("sub-01_rec-full_desc-truth", "sub-01_rec-fulldesctruth"),
        ("sub-01_desc-truth", "sub-01_rec-desctruth"),
    ],
)
def test_a_name_in_a_data_set_has_the_entities_of_pet(name, expected):
    assert bids_name(name) == expected
    subject, *others = expected.split("_")
    assert bids_name(name, apart="9f") == "_".join([f"{subject}9f", *others])
