"""Finding scans and items of cohorts."""

import shutil

import pytest

from pipeline import read_pet
from pipeline.data import cohort_items, dose_keys, find_scans
from pipeline.pet import PETError, write_dicom_series


def test_items_name_every_image(tiny_cohort):
    items = cohort_items(tiny_cohort)
    assert [item["subject"] for item in items] == ["sub-0001", "sub-0002"]
    assert dose_keys(items[0]) == {"drf004": 4.0, "drf020": 20.0}
    assert items[0]["drf020"].endswith("sub-0001_rec-drf020_pet.nii.gz")
    assert {"label", "full_repeat", "noise_free", "lesions"} <= set(items[0])


def test_a_missing_image_is_named(tiny_cohort, tmp_path):
    folder = tmp_path / "sub-0001"
    shutil.copytree(tiny_cohort[0], folder)
    (folder / "pet" / "sub-0001_rec-noisefree_pet.nii.gz").unlink()
    with pytest.raises(PETError, match=r"sub-0001_rec-noisefree_pet\.nii\.gz is missing"):
        cohort_items([folder])


def test_unequal_doses_are_refused(tiny_cohort, tmp_path):
    folder = tmp_path / "sub-0009"
    shutil.copytree(tiny_cohort[0], folder)
    for path in (folder / "pet").iterdir():
        path.rename(path.with_name(path.name.replace("sub-0001", "sub-0009")))
    (folder / "pet" / "sub-0009_rec-drf004_pet.nii.gz").unlink()
    with pytest.raises(PETError, match="sub-0009: has drf020, expected drf004, drf020"):
        cohort_items([*tiny_cohort, folder])


def test_no_subjects_are_refused():
    with pytest.raises(PETError, match="no simulated subjects"):
        cohort_items([])


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
