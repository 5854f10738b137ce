"""Finding scans in a folder."""

import shutil

import pydicom
import pytest
from pydicom.uid import CTImageStorage, SecondaryCaptureImageStorage

from pipeline import read_pet
from pipeline.data import find_scans
from pipeline.pet import PETError, write_dicom_series
from tests.series import Scan, save_series, slices_of


def test_scans_are_nifti_with_sidecar_and_folders_of_dicom(tiny_cohort, tmp_path):
    pet = tiny_cohort[0] / "pet"
    name = "sub-0001_rec-drf004_pet"
    for suffix in (".nii.gz", ".json"):
        shutil.copy(pet / (name + suffix), tmp_path / (name + suffix))
    shutil.copy(pet / "sub-0001_desc-lesions_mask.nii.gz", tmp_path)  # has no sidecar: not a scan
    (tmp_path / "deep").mkdir()
    write_dicom_series(read_pet(tmp_path / f"{name}.nii.gz"), tmp_path / "deep" / "series", description="PET")
    (tmp_path / "deep" / "notes.txt").write_text("not a scan")
    assert find_scans(tmp_path) == [str(tmp_path / "deep" / "series"), str(tmp_path / f"{name}.nii.gz")]


def test_the_directory_of_a_disc_is_no_scan(tiny_cohort, tmp_path):
    source = tiny_cohort[0] / "pet" / "sub-0001_rec-drf004_pet.nii.gz"
    series = write_dicom_series(read_pet(source), tmp_path / "series", description="PET")
    shutil.copy(next(series.iterdir()), tmp_path / "DICOMDIR")
    assert find_scans(tmp_path) == [str(series)]


def test_the_case_of_an_extension_does_not_matter(tiny_cohort, tmp_path):
    stem = tiny_cohort[0] / "pet" / "sub-0001_rec-drf004_pet"
    shutil.copy(f"{stem}.nii.gz", tmp_path / "SCAN.1.NII.GZ")
    shutil.copy(f"{stem}.json", tmp_path / "SCAN.1.json")
    assert find_scans(tmp_path) == [str(tmp_path / "SCAN.1.NII.GZ")]


def test_a_folder_without_scans_is_refused(tmp_path):
    with pytest.raises(PETError, match="no PET scan found"):
        find_scans(tmp_path)
    with pytest.raises(PETError, match="no such folder"):
        find_scans(tmp_path / "nowhere")


def test_a_sidecar_nested_beyond_reason_is_left_to_its_reader(tiny_cohort, tmp_path):
    shutil.copy(tiny_cohort[0] / "pet" / "sub-0001_rec-drf004_pet.nii.gz", tmp_path / "scan.nii.gz")
    (tmp_path / "scan.json").write_text("[" * 50_000)
    assert find_scans(tmp_path) == [str(tmp_path / "scan.nii.gz")]


def test_studies_and_their_archives(tmp_path):
    changes = {"ac": {}, "nac": {"CorrectedImage": ["DECY"]}, "ct": {"Modality": "CT", "SOPClassUID": CTImageStorage}}
    changes["picture"] = {"SOPClassUID": SecondaryCaptureImageStorage}
    for name, values in changes.items():
        slices = slices_of(Scan(), name=name)
        for dataset in slices:
            for keyword, value in values.items():
                setattr(dataset, keyword, value)
        save_series(slices, tmp_path / "study" / name)
    assert find_scans(tmp_path) == [str(tmp_path / "study" / "ac")]
    for path in (tmp_path / "study" / "ct").iterdir():  # names that come before those of PET
        shutil.copy(path, tmp_path / "study" / "ac" / f"CT{path.name}")
    assert find_scans(tmp_path) == [str(tmp_path / "study" / "ac")]
    archive = shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path / "study")
    shutil.make_archive(str(tmp_path / "ct"), "zip", tmp_path / "study" / "ct")
    (tmp_path / "text.zip").write_text("no archive")
    assert find_scans(tmp_path) == [archive, str(tmp_path / "study" / "ac")]
    for path in (tmp_path / "study" / "nac").iterdir():  # which is corrected, nobody says any more
        dataset = pydicom.dcmread(path)
        dataset.pop("CorrectedImage")
        dataset.save_as(path)
    assert find_scans(tmp_path / "study") == [str(tmp_path / "study" / name) for name in ("ac", "nac")]
