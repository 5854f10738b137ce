"""Transforms: inverses, units, and doses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.pet import DicomOptions, PETError, PETHeader, PETSeries, read_pet, write_nifti
from pipeline.transforms import (
    LoadPETd,
    SavePETd,
    ScaleSUVd,
    scan_name,
    tensor_to_pet,
    write_denoised,
)


def series(shape=(5, 6, 7), seed=0) -> PETSeries:
    suv = np.random.default_rng(seed).gamma(2.0, 1.0, shape).astype(np.float32)
    affine = np.diag([4.0, 4.0, 3.0, 1.0])
    affine[:3, 3] = [-10, 20, -30]
    return PETSeries(suv=suv, affine=affine, header=PETHeader(units="GML"))


def test_scaling_inverts():
    transform = ScaleSUVd("image", suv_scale=2.0)
    x = torch.rand(1, 4, 4, 4)
    scaled = transform({"image": x})
    assert torch.equal(scaled["image"], x / 2)
    assert torch.equal(transform.inverse(scaled)["image"], x)


def test_scale_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        ScaleSUVd("image", suv_scale=0)


def test_loading_gives_suv_with_its_affine(tmp_path):
    original = series()
    write_nifti(original, tmp_path / "a_pet.nii.gz")
    image = LoadPETd("image")({"image": tmp_path / "a_pet.nii.gz"})["image"]
    assert image.shape == (1, 5, 6, 7)
    np.testing.assert_array_equal(image[0].numpy(), original.suv)
    np.testing.assert_allclose(image.affine.numpy(), original.affine)


def test_loading_without_sidecar_does_not_fall_back_to_raw_values(tmp_path):
    write_nifti(series(), tmp_path / "a_pet.nii.gz")
    (tmp_path / "a_pet.json").unlink()
    with pytest.raises(PETError):
        LoadPETd("image")({"image": tmp_path / "a_pet.nii.gz"})


def test_back_to_a_series_inverts_and_adds_no_negative_activity():
    source = series()
    pred = torch.from_numpy(source.suv)[None] / 2
    same = tensor_to_pet(pred, source, suv_scale=2.0, note="n")
    np.testing.assert_array_equal(same.suv, source.suv)
    assert same.provenance[-1] == "n"
    pred[0, 0, 0, 0] = -1
    assert tensor_to_pet(pred, source, suv_scale=2.0, note="n").suv[0, 0, 0] == 0


def test_negative_voxels_of_the_source_survive_the_identity():
    source = series()
    source = source.with_suv(source.suv - 1)
    pred = torch.from_numpy(source.suv)[None] / 2
    np.testing.assert_array_equal(tensor_to_pet(pred, source, suv_scale=2.0, note="n").suv, source.suv)


def test_saving_writes_what_was_predicted_on_the_source_grid(tmp_path):
    original = series()
    write_nifti(original, tmp_path / "sub-7_rec-low_pet.nii.gz")
    data = LoadPETd("image")({"image": tmp_path / "sub-7_rec-low_pet.nii.gz"})
    data["pred"] = data["image"].as_tensor()
    SavePETd("pred", output_dir=tmp_path / "out", suv_scale=3.0, method="test")(data)
    written = read_pet(tmp_path / "out" / "sub-7_rec-low_desc-denoised_pet.nii.gz")
    np.testing.assert_allclose(written.suv, 3 * original.suv, rtol=1e-6)
    np.testing.assert_allclose(written.affine, original.affine)


def test_scans_of_one_name_do_not_replace_each_other(tmp_path):
    save = SavePETd("pred", output_dir=tmp_path / "out", suv_scale=3.0, method="test")
    for k, visit in enumerate(("first", "second")):
        (tmp_path / visit).mkdir()
        write_nifti(series(seed=k), tmp_path / visit / "sub-7_pet.nii.gz")
        data = LoadPETd("image")({"image": tmp_path / visit / "sub-7_pet.nii.gz"})
        data["pred"] = data["image"].as_tensor()
        if k == 0:
            save(data)
    with pytest.raises(PETError, match=r"second/sub-7_pet\.nii\.gz: would be written as sub-7, as .*first"):
        save(data)
    np.testing.assert_allclose(read_pet(tmp_path / "out" / "sub-7_desc-denoised_pet.nii.gz").suv, 3 * series().suv)


@pytest.mark.parametrize("decay_correction", ["START", "NONE", ""])
@pytest.mark.parametrize(("administration_time", "written"), [(-3600.0, True), (None, False)])
def test_dicom_is_written_where_suv_can_be_computed_from_it(tmp_path, decay_correction, administration_time, written):
    header = PETHeader(
        units="GML",
        decay_correction=decay_correction,
        patient_weight=70.0,
        injected_dose=3e8,
        radionuclide_half_life=6586.2,
        administration_time=administration_time,
        reference_time=0.0 if decay_correction == "START" else None,
    )
    write_denoised(replace(series(), header=header), tmp_path, name="pet-1", method="test")
    assert (tmp_path / "pet-1_desc-denoised_pet.nii.gz").is_file()
    assert (tmp_path / "dicom").is_dir() == written
    if written:
        np.testing.assert_allclose(read_pet(tmp_path / "dicom").suv, series().suv, atol=series().suv.max() / 65000)
    options = DicomOptions(units="GML")
    write_denoised(
        replace(series(), header=header), tmp_path, name="pet-2", method="test", dicom_folder="suv", options=options
    )
    np.testing.assert_allclose(read_pet(tmp_path / "suv").suv, series().suv, atol=series().suv.max() / 65000)


def test_a_series_of_which_only_the_factor_is_known_is_written_as_nifti(tmp_path):
    known = replace(series(), header=PETHeader(units="BQML"), suvbw_factor=2e-4)
    write_denoised(known, tmp_path, name="pet-1", method="test")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".gz", ".json"]


@pytest.mark.parametrize(
    ("file_name", "kept"),
    [("sub-01_ses-2_pet.nii.gz", "sub-01_ses-2"), ("SMITH_JOHN_pet.nii.gz", None), ("sub-01_SMITH_pet.nii", None)],
)
def test_names_of_outputs_hold_pseudonyms_only(tmp_path, file_name, kept):
    write_nifti(series(), tmp_path / file_name)
    name = scan_name(read_pet(tmp_path / file_name))
    assert name == (kept or name)
    assert "SMITH" not in name
