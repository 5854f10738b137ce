"""Sidecars as other programs and people write them: read as they stand, or refused in the words of the file."""

import gzip
import json
import os
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pipeline.pet import PETError, explain_suv, read_nifti, read_pet, suvbw_factor_of, write_nifti
from pipeline.pet.nifti import sidecar_files

DCM2NIIX = {
    "Modality": "PT",
    "Manufacturer": "Siemens",
    "ManufacturersModelName": "Biograph128",
    "PatientSex": "F",
    "PatientSize": 1.75,
    "PatientWeight": 70,
    "SeriesDescription": "Whole body",
    "TracerName": "FDG",
    "TracerRadionuclide": "18F",
    "InjectedRadioactivity": 350,
    "InjectedRadioactivityUnits": "MBq",
    "RadionuclideHalfLife": 6586.2,
    "Units": "Bq/mL",
    "DecayCorrection": "ADMIN",
    "AttenuationCorrectionMethod": "measured,CT",
    "AttenuationCorrection": "measured",
    "FrameTimesStart": [0],
    "FrameDuration": [120],
    "SeriesTime": "12:00:00",
    "AcquisitionTime": "12:00:00.000000",
    "ScanStart": 0,
    "ImageDecayCorrected": True,
    "ImageDecayCorrectionTime": -3600,
    "ConversionSoftware": "dcm2niix",
}
"""What dcm2niix v1.0.20260724 writes with ``-ba n`` of a series that is corrected to the administration."""


@pytest.fixture
def scan(series, tmp_path):
    """Return a function that writes 1 Bq/mL everywhere with a sidecar, whose absent keys are given as None."""

    def write(
        sidecar: dict | bytes, *, name: str = "scan.nii.gz", base: dict | None = None, voxel: float = 1.0
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(np.full(series.suv.shape, voxel, "f4"), series.affine), path)
        if isinstance(sidecar, dict):
            merged = {**DCM2NIIX, **sidecar}
            sidecar = json.dumps({k: v for k, v in merged.items() if v is not None}).encode()
        path.with_name(path.name.removesuffix(".nii.gz") + ".json").write_bytes(sidecar)
        return path

    return write


FACTOR = 70e3 / 350e6
"""Weight by dose: SUVbw per Bq/mL at the administration [g/mL]."""

# ---------------------------------------------------------------------------------------- the factor, both ways


@pytest.mark.parametrize(("units", "scale"), [("Bq/mL", 1.0), ("kBq/mL", 1e3), ("MBq/mL", 1e6)])
@pytest.mark.parametrize("stated", ["factor alone", "factor and dose"])
def test_a_stated_factor_is_per_becquerel_whatever_the_units(scan, units, scale, stated):
    dose = {"InjectedRadioactivity": None} if stated == "factor alone" else {}
    path = scan({"Units": units, "SUVbwFactor": FACTOR, **dose}, voxel=5000.0 / scale)
    assert read_nifti(path).suv.mean() == pytest.approx(1.0, rel=1e-6)
    assert explain_suv(path).factors[0] == pytest.approx(FACTOR * scale)


def test_the_factor_of_other_units_is_written_per_becquerel(scan, tmp_path):
    read = read_nifti(scan({"Units": "kBq/mL"}, voxel=5.0))
    path = write_nifti(read, tmp_path / "again.nii")
    assert json.loads(path.with_suffix(".json").read_text())["SUVbwFactor"] == pytest.approx(FACTOR)
    np.testing.assert_array_equal(read_nifti(path).suv, read.suv)


# ------------------------------------------------------------------------------- what other programs write


def test_what_dcm2niix_writes_is_read_as_it_stands(scan):
    header = read_nifti(scan({})).header
    assert (header.patient_weight, header.patient_height, header.patient_sex) == (70.0, 1.75, "F")
    assert header.decay_correction == "ADMIN"
    assert suvbw_factor_of(header) == pytest.approx(FACTOR)


@pytest.mark.parametrize("units", ["BQML", "Bq/ml", "Bq/mL"])
def test_earlier_names_of_dose_units_and_times(scan, units):
    earlier = {
        "Units": units,
        "InjectedRadioactivity": None,
        "InjectedRadioactivityUnits": None,
        "RadionuclideTotalDose": 350000000,
        "DecayCorrection": "START",
        "ImageDecayCorrected": None,
        "ImageDecayCorrectionTime": None,
        "RadiopharmaceuticalStartTime": "11:00:00",
    }
    read = read_nifti(scan(earlier))
    assert read.header.uptake_time == 3600
    assert read.suvbw_factor == pytest.approx(FACTOR * 2 ** (3600 / 6586.2))
    # Past midnight.
    late = scan({**earlier, "SeriesTime": "00:30:00", "RadiopharmaceuticalStartTime": "23:30:00.5"})
    assert read_nifti(late).header.uptake_time == 3599.5


@pytest.mark.parametrize(
    ("changes", "found", "sentence"),
    [
        ({"PatientWeight": None, "BodyWeight": 70000}, FACTOR, "BodyWeight 70000 was taken to be in g"),
        ({"PatientWeight": 70000}, FACTOR, "PatientWeight 70000 was taken to be in g"),
        ({"PatientSize": 175}, FACTOR, "PatientSize 175 was taken to be in cm"),
        (
            {"InjectedRadioactivity": None, "RadionuclideTotalDose": 350},
            FACTOR,
            "RadionuclideTotalDose 350 was taken to be in MBq",
        ),
        ({"InjectedRadioactivityUnits": "mbq"}, FACTOR, ""),
        ({"InjectedRadioactivityUnits": "uCi", "InjectedRadioactivity": 350 / 0.037}, FACTOR, ""),
    ],
)
def test_quantities_are_repaired_as_those_of_dicom(scan, changes, found, sentence):
    read = read_nifti(scan(changes))
    assert read.suvbw_factor == pytest.approx(found)
    assert read.header.patient_height == 1.75
    assert any(sentence in note for note in read.provenance)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_of_json(scan, encoding):
    assert read_nifti(scan(json.dumps(DCM2NIIX).encode(encoding))).suvbw_factor == pytest.approx(FACTOR)


# ---------------------------------------------------------------------------------------------- attenuation

UNCORRECTED = [
    *("none", "No attenuation correction", "not corrected", "uncorrected", "NAC", "False", "0", "no", "Not applied"),
    *("without", "non-corrected", "NONE APPLIED", False, 0),
]


@pytest.mark.parametrize("words", UNCORRECTED)
def test_uncorrected_in_words(scan, words):
    with pytest.raises(PETError, match="not corrected for attenuation"):
        read_nifti(scan({"AttenuationCorrection": words}))


@pytest.mark.parametrize(
    "words", ["measured", "[68Ge] transmission", "applied", "CT-based", "Activity decay corrected", True]
)
def test_corrected_in_words(scan, words):
    read = read_nifti(scan({"AttenuationCorrection": words}))
    assert read.header.attenuation_corrected
    assert not read.warnings


@pytest.mark.parametrize("words", ["n/a", "N/A", "", "unknown", None])
def test_unknown_attenuation_is_said(scan, words):
    read = read_nifti(scan({"AttenuationCorrection": words, "AttenuationCorrectionMethod": None}))
    assert read.header.attenuation_corrected
    assert any("does not say whether the image is corrected for attenuation" in warning for warning in read.warnings)


def test_a_nuclide_without_positrons_is_named(scan):
    read = read_nifti(scan({"TracerRadionuclide": "Lu177", "RadionuclideHalfLife": None}))
    assert read.warnings == ("Lu-177 emits no positrons: this is no PET, although it is stored as PET.",)
    assert set(read.warnings) <= set(read.provenance)


# ------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"PatientWeight": None}, "BodyWeight is missing, SUV cannot be computed"),
        ({"PatientWeight": "n/a"}, "BodyWeight is missing, SUV cannot be computed"),
        ({"InjectedRadioactivity": None, "PatientWeight": None}, "BodyWeight and InjectedRadioactivity are missing"),
        ({"DecayCorrection": None, "ImageDecayCorrected": None}, "ImageDecayCorrected is missing"),
        ({"DecayCorrection": "START"}, "InjectionStart is missing"),
        ({"DecayCorrection": "START", "ImageDecayCorrectionTime": None}, "InjectionStart and ImageDecayCorrectionTime"),
        ({"DecayCorrection": "NONE", "ImageDecayCorrected": False, "FrameDuration": None}, "FrameDuration"),
        ({"BodyWeight": 80}, "BodyWeight is 80 and PatientWeight is 70, expected one value"),
        ({"PatientWeight": 2e6}, "PatientWeight is 2e+06, neither kg nor g"),
        ({"DecayCorrection": "NONE"}, "DecayCorrection is NONE and ImageDecayCorrected is true"),
        ({"DecayCorrection": "SOMETIMES"}, "DecayCorrection is SOMETIMES"),
        ({"SeriesTime": "noon", "RadiopharmaceuticalStartTime": "11:00:00"}, "SeriesTime is 'noon'"),
    ],
)
def test_refusals_name_the_keys_of_the_file(scan, changes, message):
    with pytest.raises(PETError, match=re.escape(message)) as caught:
        read_nifti(scan(changes))
    assert not re.search("RadionuclideTotalDose|time from administration", str(caught.value))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"Units": "Bq/mL", "Units": "g/mL"}', "Units stands twice"),
        (b'{"Units": "g/mL", "TracerName": "\\ud800"}', "no text of Unicode"),
        (b'{"Units": "g/mL", "TracerName": "H\xf4pital"}', "is not JSON"),
    ],
)
def test_json_that_is_refused(scan, content, message):
    path = scan(content)
    for read in (read_pet, explain_suv):
        with pytest.raises(PETError, match=message):
            read(path)


# ---------------------------------------------------------------------------------------------- inheritance


def test_sidecars_are_inherited_as_bids_says(scan, tmp_path):
    path = scan({}, name="sub-01/ses-2/pet/sub-01_ses-2_rec-full_pet.nii.gz")
    beside = path.with_name("sub-01_ses-2_rec-full_pet.json")
    beside.write_text('{"PatientWeight": 35}')
    (path.parent / "sub-01_rec-other_pet.json").write_text('{"Units": "g/mL"}')
    (tmp_path / "sub-01/ses-2/sub-01_pet.json").write_text('{"InjectedRadioactivity": 175}')
    (tmp_path / "pet.json").write_text(json.dumps(DCM2NIIX))
    for factor in (read_nifti(path).suvbw_factor, explain_suv(path).factors[0]):
        assert factor == pytest.approx(FACTOR)
    assert read_nifti(path).header.patient_weight == 35
    beside.unlink()
    assert read_nifti(path).header.patient_weight == 70


@pytest.mark.parametrize(("described", "found"), [('{"weight": {"Units": "kg"}}', True), ("{}", False)])
def test_weight_of_participants(scan, tmp_path, described, found):
    path = scan({"PatientWeight": None, "PatientSex": None}, name="sub-01/pet/sub-01_pet.nii.gz")
    (tmp_path / "participants.tsv").write_text("participant_id\tsex\tweight\nsub-01\tM\t35\nsub-02\tF\t90\n")
    (tmp_path / "participants.json").write_text(described)
    if found:
        header = read_nifti(path).header
        assert (header.patient_weight, header.patient_sex) == (35, "M")
    else:
        with pytest.raises(PETError, match=r"BodyWeight is missing"):
            read_nifti(path)


def test_what_a_scan_inherits_is_found_without_a_look_at_all_files_of_its_folder(tmp_path, monkeypatch):
    for name in ("pet.json", "rec-a_pet.json", "sub-1_pet.json", "sub-1_rec-a_pet.json", "sub-2_pet.json"):
        (tmp_path / name).write_text("{}")
    for listing in ("scandir", "listdir"):
        monkeypatch.setattr(os, listing, lambda *_: pytest.fail("a folder may hold the files of thousands of scans"))
    found = sidecar_files(tmp_path / "sub-1_rec-a_pet.nii.gz")
    assert [file.name for file in found] == ["pet.json", "rec-a_pet.json", "sub-1_pet.json", "sub-1_rec-a_pet.json"]


def test_a_name_that_is_not_bids_inherits_nothing(scan, tmp_path):
    path = scan({"PatientWeight": None}, name="sub-01/pet/scan.nii.gz")
    (tmp_path / "pet.json").write_text('{"BodyWeight": 70}')
    with pytest.raises(PETError, match="BodyWeight is missing"):
        read_nifti(path)


# ------------------------------------------------------------------------------------------------- geometry


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        ([[2, 2, 0, 0], [2, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]], "affine is not invertible"),
        (np.diag([1e4, 1e4, 1e4, 1]), "voxels are 10000 x 10000 x 10000 mm"),
        (np.diag([1e-9, 1e-9, 1e-9, 1]), "voxels are 1e-09"),
        ([[2, 0, 0, 1e15], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]], "from the origin"),
    ],
)
@pytest.mark.parametrize("read", [read_pet, explain_suv])
def test_geometry_that_no_patient_has_is_refused_at_once(scan, series, affine, message, read):
    path = scan({})
    image = nib.Nifti1Image(np.ones(series.suv.shape, "f4"), None)
    image.header.set_sform(np.asarray(affine, float), code=1)
    nib.save(image, path)
    with pytest.raises(PETError, match=message):
        read(path)


def test_a_small_file_of_a_huge_volume_is_not_expanded(scan, tmp_path, monkeypatch):
    path = scan({})
    header = nib.Nifti1Header()
    header.set_data_shape((1100, 1100, 1100))
    header.set_data_dtype("u1")
    header.set_sform(np.eye(4), code=1)
    # Two million bytes may hold 1.3 GB of zeros.
    path.write_bytes(gzip.compress(header.binaryblock + bytes(4)) + bytes(2_000_000))
    with pytest.raises(PETError, match=r"1.33e\+09 voxels, expected at most"):
        read_pet(path)
