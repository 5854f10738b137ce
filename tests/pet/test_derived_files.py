"""Derived files: a volume as NIfTI and DICOM, with names that tell nothing of the patient."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.pet import DicomOptions, PETHeader, read_pet, write_nifti
from pipeline.pet.derived_files import scan_name, write_denoised


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
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".gz", ".json"]


@pytest.mark.parametrize(
    ("file_name", "kept"),
    [("sub-01_ses-2_pet.nii.gz", "sub-01_ses-2"), ("SMITH_JOHN_pet.nii.gz", None), ("sub-01_SMITH_pet.nii", None)],
)
def test_names_of_outputs_hold_pseudonyms_only(series, tmp_path, file_name, kept):
    write_nifti(series, tmp_path / file_name)
    name = scan_name(read_pet(tmp_path / file_name))
    assert name == (kept or name)
    assert "SMITH" not in name
