"""Transforms: inverses, units, and doses."""

import numpy as np
import pytest
import torch

from pipeline.pet import PETError, PETHeader, PETSeries, read_pet, write_nifti
from pipeline.transforms import (
    LoadPETd,
    SavePETd,
    ScaleSUVd,
    tensor_to_pet,
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
