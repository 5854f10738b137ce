"""Every form of folder and file names of the data sets, with its traps."""

import logging
import shutil

import numpy as np
import pytest

from pipeline.data.building.build import build_manifest
from pipeline.data.layouts import LAYOUTS, dose_reduction_factor_in
from pipeline.data.manifest import Exclusion, read_image
from pipeline.pet import PETError
from pipeline.pet.nifti import read_sidecar, sidecar_files


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("Full_dose", 1.0),
        ("full dose", 1.0),
        ("1-2 dose", 2.0),
        ("1-4 dose", 4.0),
        ("1-10 dose", 10.0),
        ("1-100 dose", 100.0),
        ("1-100_dose", 100.0),
        ("2.886 x 600 WB NORMAL", 1.0),
        ("2.886 x 600 WB normal", 1.0),
        ("2.886 x 600 WB Full_dose", 1.0),
        ("2.886 x 600 WB D2", 2.0),
        ("2.886 x 600 WB D100", 100.0),
        ("2.886 x 600 WB DRF_10", 10.0),
        ("2.886 x 600 WB DRF_100", 100.0),
        ("2.886 x 600 WB 1-10 dose", 10.0),
        ("2.886 x 150 WB D4", 4.0),
        ("2.886 x 150 WB NORMAL", 1.0),
        # What states no dose is never read as one.
        ("100 dose", None),
        ("2.886 x 600 WB 100 dose", None),
        ("2.886 x 600 WB", None),
        ("2.886 x 600 WB G10", None),
        ("1-100 doses", None),
        ("21-10 dose", None),
        ("D0", None),
        ("1-0 dose", None),
        ("D2000", None),
        ("normal dose 2", None),
        ("CT WB D10", None),
    ],
)
def test_dose_in_a_folder_name(name, factor):
    assert dose_reduction_factor_in(name) == factor


def _doses(manifest):
    return {s.id: [i.dose_reduction_factor for i in s.images] for s in manifest.subjects}


def _reasons(manifest):
    return {(e.subject, e.dose_reduction_factor, e.path): e.reason for e in manifest.exclusions}


def test_quadra_and_uexplorer_parts_of_udpet(tmp_path, dicom):
    quadra = tmp_path / "Subject_115-117" / "30122021_5_20211230_170836"
    for name in ("Full_dose", "1-2 dose", "1-10 dose", "1-100 dose"):
        dicom(quadra / name, suffix=".IMA", patient="115")
    explorer = tmp_path / "uExplorerPART10" / "Anonymous_ANO_20220224_1744219_121048"
    for name in ("NORMAL", "D4", "DRF_10", "1-20 dose", "D50", "D100"):
        dicom(explorer / f"2.886 x 600 WB {name}", patient="121048")
    manifest = build_manifest("udpet", tmp_path)
    first, second = "Subject_115-117_30122021_5_20211230_170836", f"uExplorerPART10_{explorer.name}"
    assert _doses(manifest) == {first: [1, 2, 10, 100], second: [1, 4, 10, 20, 50, 100]}
    subject = manifest.subjects[1]
    assert (subject.tracer, subject.scanner, subject.patient) == ("FDG", "Example Scanner 1", explorer.name)
    assert subject.shape == (24, 22, 20)
    assert subject.voxel_size == (8, 8, 8)
    assert subject.image("dose").path == f"uExplorerPART10/{explorer.name}/2.886 x 600 WB NORMAL"
    # Missing doses are recorded, and missing ones only.
    assert set(_reasons(manifest)) == {(first, factor, None) for factor in (4.0, 20.0, 50.0)}


def test_a_folder_of_unknown_name_is_reported_and_not_used(tmp_path, dicom):
    session = tmp_path / "Anonymous_1"
    for name in ("Full_dose", "1-100 dose", "100 dose", "G10"):
        dicom(session / name)
    manifest = build_manifest("udpet", tmp_path)
    assert _doses(manifest) == {"Anonymous_1": [1, 100]}
    reasons = _reasons(manifest)
    assert "no known name of a dose" in reasons["Anonymous_1", None, "Anonymous_1/100 dose"]
    assert "no known name of a dose" in reasons["Anonymous_1", None, "Anonymous_1/G10"]


def test_a_group_of_subjects_called_normal_is_no_dose(tmp_path, dicom):
    dicom(tmp_path / "normal" / "Anonymous_1" / "Full_dose")
    dicom(tmp_path / "D10" / "Anonymous_2" / "2.886 x 600 WB NORMAL")
    assert _doses(build_manifest("udpet", tmp_path)) == {"normal_Anonymous_1": [1], "D10_Anonymous_2": [1]}


def test_a_session_without_full_dose_is_excluded(tmp_path, dicom):
    dicom(tmp_path / "Anonymous_1" / "100 dose")
    dicom(tmp_path / "Anonymous_1" / "1-10 dose")
    dicom(tmp_path / "Anonymous_2" / "Full_dose")
    manifest = build_manifest("udpet", tmp_path)
    assert _doses(manifest) == {"Anonymous_2": [1]}
    assert "no folder of the full dose among 2 folders" in _reasons(manifest)["Anonymous_1", None, None]


def test_two_folders_of_one_dose_are_both_left_out(tmp_path, dicom):
    for name in ("2.886 x 600 WB NORMAL", "2.886 x 600 WB D10", "2.886 x 150 WB DRF_10", "2.886 x 600 WB D20"):
        dicom(tmp_path / "Anonymous_1" / name)
    manifest = build_manifest("udpet", tmp_path)
    assert _doses(manifest) == {"Anonymous_1": [1, 20]}
    assert "both of dose reduction factor 10" in _reasons(manifest)["Anonymous_1", 10, None]


def test_gallium_labelled_fdg_is_excluded_by_nuclide_and_by_half_life(tmp_path, dicom):
    def only_the_half_life(dataset):
        item = dataset.RadiopharmaceuticalInformationSequence[0]
        del item.RadionuclideCodeSequence

    dicom(tmp_path / "good" / "Full_dose")
    dicom(tmp_path / "by_code" / "Full_dose", nuclide="Ga-68")
    dicom(tmp_path / "by_half_life" / "Full_dose", nuclide="Ga-68", edit=only_the_half_life)
    manifest = build_manifest("udpet", tmp_path)
    assert list(_doses(manifest)) == ["good"]
    reasons = _reasons(manifest)
    assert "labelled FDG, but the radionuclide is Ga-68, expected F-18" in reasons["by_code", None, None]
    assert "labelled FDG, but the half-life of 4063 s is that of Ga-68" in reasons["by_half_life", None, None]


def test_one_broken_subject_does_not_stop_the_others(tmp_path, dicom):
    dicom(tmp_path / "good" / "Full_dose")
    dicom(tmp_path / "good" / "1-4 dose")
    broken = next((tmp_path / "good").glob("1-4*"))
    for file in sorted(broken.iterdir())[5:]:
        file.unlink()
    dicom(tmp_path / "no_weight" / "Full_dose", edit=lambda dataset: setattr(dataset, "PatientWeight", None))
    (tmp_path / "junk" / "Full_dose").mkdir(parents=True)
    (tmp_path / "junk" / "Full_dose" / "1.dcm").write_bytes(b"nothing")
    calls = []
    manifest = build_manifest("udpet", tmp_path, progress=lambda done, of: calls.append((done, of)))
    assert _doses(manifest) == {"good": [1]}
    assert calls == [(1, 3), (2, 3), (3, 3)]
    reasons = _reasons(manifest)
    assert "5 slices, expected 20" in reasons["good", None, "good/1-4 dose"]
    assert "PatientWeight is missing" in reasons["no_weight", None, None]
    assert "not DICOM" in reasons["junk", None, None]
    assert not any(str(tmp_path) in reason for reason in reasons.values())


COLUMNS = (
    "SubjectID,DoseReductionFactor,NiftiFileName,PatientWeight_kg,ImageUnits,PixelSpacing_x_mm,PixelSpacing_y_mm,"
    "SliceThickness_mm,Manufacturer,ManufacturerModelName,ReconstructionMethod,RadiopharmaceuticalName,"
    "TimeFromInjectionToAcquisition_s,RadionuclideTotalDose_Bq,RadionuclideHalfLife_s,DecayCorrection"
)


def _row(subject, dose, file, *, seconds=3600, units="BQML"):
    return f"{subject},{dose},{file},70,{units},8,8,8,SIEMENS,Quadra,PSF+TOF,FDG,{seconds},3.5e8,6586.2,START"


def test_the_test_set_of_udpet_has_a_time_of_injection_per_file(tmp_path, nifti):
    folder = tmp_path / "TestData"
    values = np.full((24, 22, 20), 5000.0, np.float32)
    for name in ("NORMAL", "DRF-20", "DRF-100"):
        nifti(folder / "PET_Nifti" / "quadra" / f"Anonymous-01_{name}.nii.gz", values)
    rows = [
        _row("Anonymous-01", "NORMAL", "Anonymous-01_NORMAL.nii.gz", seconds=3600),
        _row("Anonymous-01", "20", "Anonymous-01_DRF-20.nii.gz", seconds=3900),
        _row("Anonymous-01", "100", "Anonymous-01_DRF-100.nii.gz", seconds=4200),
        _row("Anonymous-01", "4", "Anonymous-01_DRF-4.nii.gz"),
        _row("Anonymous-02", "100", "Anonymous-02_DRF-100.nii.gz"),
    ]
    (folder / "PET_info.csv").write_text("\n".join([COLUMNS, *rows]))
    manifest = build_manifest("udpet", tmp_path, fractions=(1, 0, 0))
    assert _doses(manifest) == {"TestData_Anonymous-01": [1, 20, 100]}
    # Published as test, whatever the fractions say.
    assert [s.split for s in manifest.subjects] == ["test"]
    assert manifest.subjects[0].scanner == "SIEMENS Quadra"
    means = [float(read_image(image, tmp_path).suv.mean()) for image in manifest.subjects[0].images]
    # SUV = Bq/mL x weight / (dose x 2^(-t / T)), file by file.
    expected = [5000 * 70e3 / (3.5e8 * 2 ** (-t / 6586.2)) for t in (3600, 3900, 4200)]
    np.testing.assert_allclose(means, expected, rtol=1e-5)
    reasons = _reasons(manifest)
    assert reasons["TestData_Anonymous-01", 4, None] == "Anonymous-01_DRF-4.nii.gz is not there"
    assert "no file of the full dose" in reasons["TestData_Anonymous-02", None, None]


def test_a_row_of_the_test_set_in_other_units_is_left_out(tmp_path, nifti):
    for name in ("NORMAL", "DRF-20"):
        nifti(tmp_path / f"Anonymous-01_{name}.nii.gz")
    rows = [
        _row("Anonymous-01", "NORMAL", "Anonymous-01_NORMAL.nii.gz"),
        _row("Anonymous-01", "20", "Anonymous-01_DRF-20.nii.gz", units="CNTS"),
    ]
    (tmp_path / "PET_info.csv").write_text("\n".join([COLUMNS, *rows]))
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    manifest = build_manifest("udpet", tmp_path)
    assert _doses(manifest) == {"Anonymous-01": [1]}
    assert (
        "ImageUnits is 'CNTS', expected BQML" in _reasons(manifest)["Anonymous-01", None, "Anonymous-01_DRF-20.nii.gz"]
    )


def test_a_csv_of_the_test_set_without_half_life_is_refused(tmp_path):
    (tmp_path / "PET_info.csv").write_text(COLUMNS.replace(",RadionuclideHalfLife_s", "") + "\n")
    with pytest.raises(PETError, match="columns RadionuclideHalfLife_s are missing"):
        build_manifest("udpet", tmp_path)


def test_autopet_studies_in_folders(tmp_path, nifti):
    root = tmp_path / "FDG-PET-CT-Lesions"
    for study in ("08-12-2005-NA-PET-CT Ganzkoerper  primaer mit KM-96698", "01-01-2006-NA-PET-CT-1"):
        for name in ("SUV", "PET", "CTres"):
            nifti(root / "PETCT_0af7ffe12a" / study / f"{name}.nii.gz")
        nifti(root / "PETCT_0af7ffe12a" / study / "SEG.nii.gz", np.zeros((24, 22, 20), np.uint8))
    nifti(root / "PETCT_1111111111" / "study" / "PET.nii.gz")
    manifest = build_manifest("autopet", tmp_path)
    assert [s.patient for s in manifest.subjects] == ["PETCT_0af7ffe12a"] * 2
    assert len({s.split for s in manifest.subjects}) == 1
    subject = manifest.subjects[1]
    assert subject.id == "PETCT_0af7ffe12a_08-12-2005-NA-PET-CT-Ganzkoerper-primaer-mit-KM-96698"
    assert subject.lesions.path.endswith("KM-96698/SEG.nii.gz")
    assert subject.ct.path.endswith("CTres.nii.gz")
    assert subject.full_dose.path.endswith("SUV.nii.gz")
    assert read_image(subject.full_dose, tmp_path).header.units == "GML"
    assert "SUV.nii.gz is not there" in _reasons(manifest)["PETCT_1111111111_study", None, None]


def test_autopet_in_the_layout_of_nnunet(tmp_path, nifti):
    cases = ("fdg_0af7ffe12a_08-12-2005-NA-PET-CT Ganzkoerper-96698", "psma_95b833d65be26d2f_2018-04-16", "odd")
    for case in cases:
        nifti(tmp_path / "imagesTr" / f"{case}_0000.nii.gz", np.full((24, 22, 20), -1000, np.int16))
        nifti(tmp_path / "imagesTr" / f"{case}_0001.nii.gz")
        nifti(tmp_path / "labelsTr" / f"{case}.nii.gz", np.zeros((24, 22, 20), np.uint8))
    nifti(tmp_path / "imagesTr" / "fdg_2222222222_study_0000.nii.gz")
    nifti(tmp_path / "imagesTs" / "fdg_3333333333_study_0001.nii.gz")
    (tmp_path / "psma_metadata.csv").write_text(
        "Subject ID,Study Date,age,pet_radionuclide,manufacturer_model_name\n"
        "PSMA_95b833d65be26d2f,2018-04-16,70,68Ga,Discovery 690\n"
    )
    manifest = build_manifest("autopet", tmp_path, fractions=(1, 0, 0))
    fdg, test, psma = manifest.subjects
    assert (fdg.patient, fdg.tracer, fdg.split) == ("0af7ffe12a", "FDG", "train")
    # Channel 0 is the CT, channel 1 the PET.
    assert fdg.full_dose.path.endswith("96698_0001.nii.gz")
    assert fdg.ct.path.endswith("96698_0000.nii.gz")
    assert (psma.patient, psma.tracer, psma.scanner) == ("95b833d65be26d2f", "PSMA", "Discovery 690")
    assert read_image(psma.full_dose, tmp_path).header.radionuclide == "Ga-68"
    assert (test.patient, test.split) == ("3333333333", "test")
    reasons = _reasons(manifest)
    assert "its patient is unknown" in reasons["odd", None, None]
    assert "fdg_2222222222_study_0001.nii.gz (PET in SUV) is not there" in reasons["fdg_2222222222_study", None, None]


@pytest.mark.parametrize("folders", [("PT_0001-1683", "CT_0001-1000"), ("PT", "CT")])
def test_enhance_pet_in_both_forms(tmp_path, nifti, folders):
    images = tmp_path / "imaging-data" / "images"
    for number in ("0001", "0002"):
        nifti(images / folders[0] / f"{number}.nii.gz")
        nifti(images / folders[1] / f"{number}.nii.gz", np.zeros((30, 30, 30), np.int16))
    labels = tmp_path / "imaging-data" / "ground-truth"
    nifti(labels / "Organs" / "0001.nii.gz", np.zeros((24, 22, 20), np.uint8))
    nifti(labels / "Organs" / "0002.nii.gz", np.zeros((30, 30, 30), np.uint8))
    nifti(labels / "Cardiac" / "0001.nii.gz")
    with pytest.raises(PETError, match="units of the PET volumes are not given"):
        build_manifest("enhance_pet", tmp_path)
    with pytest.raises(PETError, match="Bq/mL"):
        build_manifest("enhance_pet", tmp_path, units="Bq/mL")
    manifest = build_manifest("enhance_pet", tmp_path, units="g/mL")
    assert [s.id for s in manifest.subjects] == ["0001", "0002"]
    assert manifest.subjects[0].organs.path == "imaging-data/ground-truth/Organs/0001.nii.gz"
    assert manifest.subjects[0].ct.path == f"imaging-data/images/{folders[1]}/0001.nii.gz"
    # Labels on the grid of the CT are no labels of the PET.
    assert manifest.subjects[1].organs is None
    reason = _reasons(manifest)["0002", None, "imaging-data/ground-truth/Organs/0002.nii.gz"]
    assert reason.startswith("30 x 30 x 30 voxels of 8 x 8 x 8 mm, expected one grid of 24 x 22 x 20 voxels")


BIDS = {
    "Units": "Bq/mL",
    "TracerName": "FDG",
    "TracerRadionuclide": "F18",
    "InjectedRadioactivity": 350,
    "InjectedRadioactivityUnits": "MBq",
    "ScanStart": 0,
    "InjectionStart": -3600,
    "ImageDecayCorrected": True,
    "ImageDecayCorrectionTime": 0,
}


def test_bids_pet_with_doses_sessions_and_inheritance(tmp_path, nifti):
    (tmp_path / "task-rest_pet.json").write_text('{"Units": "wrong task"}')
    (tmp_path / "pet.json").write_text('{"Manufacturer": "Example", "Units": "kBq/mL"}')
    own = {**BIDS, "BodyWeight": 70}
    nifti(tmp_path / "sub-01" / "ses-a" / "pet" / "sub-01_ses-a_rec-full_pet.nii.gz", sidecar=own)
    nifti(tmp_path / "sub-01" / "ses-a" / "pet" / "sub-01_ses-a_rec-drf007p5_pet.nii.gz", sidecar=own)
    low = {**own, "DoseReductionFactor": 20}
    nifti(tmp_path / "sub-01" / "ses-a" / "pet" / "sub-01_ses-a_rec-other_pet.nii.gz", sidecar=low)
    nifti(tmp_path / "sub-01" / "ses-b" / "pet" / "sub-01_ses-b_pet.nii.gz", sidecar=own)
    nifti(tmp_path / "sub-02" / "pet" / "sub-02_trc-FDG_pet.nii.gz", sidecar=own)
    nifti(tmp_path / "sub-02" / "pet" / "sub-02_trc-H2O_pet.nii.gz", sidecar=own)
    manifest = build_manifest("bids_pet", tmp_path)
    assert _doses(manifest) == {"sub-01_ses-a": [1, 7.5, 20], "sub-01_ses-b": [1]}
    first, second = manifest.subjects
    assert first.patient == second.patient == "sub-01"
    assert first.split == second.split
    assert first.scanner == "Example"
    # Beside the image wins over the root.
    assert read_image(first.full_dose, tmp_path).header.patient_weight == 70
    full = first.full_dose.path.replace(".nii.gz", ".json")
    assert read_sidecar(tmp_path / first.full_dose.path) == {"Manufacturer": "Example", **own}
    assert [file.name for file in sidecar_files(tmp_path / first.full_dose.path)] == ["pet.json", full.split("/")[-1]]
    reasons = _reasons(manifest)
    assert "no image of the full dose among 2" in reasons["sub-02", None, None]
    assert "dose reduction factor is stated neither" in reasons["sub-02", None, "sub-02/pet/sub-02_trc-FDG_pet.nii.gz"]


def test_bids_weight_of_the_participants_table_needs_a_unit(tmp_path, nifti):
    nifti(tmp_path / "sub-01" / "pet" / "sub-01_pet.nii.gz", sidecar=BIDS)
    (tmp_path / "participants.tsv").write_text("participant_id\tsex\tweight\nsub-01\tF\t70\n")
    assert build_manifest("bids_pet", tmp_path).subjects == ()
    (tmp_path / "participants.json").write_text('{"weight": {"Units": "kg"}}')
    manifest = build_manifest("bids_pet", tmp_path)
    header = read_image(manifest.subjects[0].full_dose, tmp_path).header
    assert (header.patient_weight, header.patient_sex) == (70, "F")


def test_simulated_cohorts(tiny_cohort, tmp_path):
    shutil.copytree(tiny_cohort[0], tmp_path / "cohort" / "sub-0001")
    shutil.copytree(tiny_cohort[1], tmp_path / "cohort" / "sub-0002")
    shutil.copytree(tiny_cohort[0], tmp_path / "other" / "sub-0001")
    (tmp_path / "cohort" / "sub-0002" / "pet" / "sub-0002_rec-full_pet.nii.gz").unlink()
    manifest = build_manifest("simulated", tmp_path)
    assert [s.id for s in manifest.subjects] == ["cohort_sub-0001", "other_sub-0001"]
    subject = manifest.subjects[0]
    # The same seed is the same patient.
    assert subject.patient == manifest.subjects[1].patient
    assert [i.dose_reduction_factor for i in (subject.full_dose, *subject.low_dose)] == [1, 4, 20]
    assert {i.role for i in subject.images} == {"dose", "full_repeat", "noise_free", "truth"}
    assert subject.lesions is not None
    assert subject.organs is not None
    assert subject.attenuation is not None
    assert "no sub-0002_rec-full_pet.nii.gz" in _reasons(manifest)["cohort_sub-0002", None, None]


def test_a_users_exclusions_are_merged(tmp_path, dicom, caplog):
    for session in ("Anonymous_1", "Anonymous_2"):
        for name in ("Full_dose", "1-4 dose", "1-10 dose"):
            dicom(tmp_path / "part" / session / name)
    stated = (
        Exclusion(subject="Anonymous_1", reason="wrong weight"),
        Exclusion(subject="part_Anonymous_2", dose_reduction_factor=10, reason="cut off at the neck"),
        Exclusion(subject="Anonymous_3", reason="misspelled"),
    )
    with caplog.at_level(logging.WARNING):
        manifest = build_manifest("udpet", tmp_path, exclusions=stated)
    assert _doses(manifest) == {"part_Anonymous_2": [1, 4]}
    assert set(stated) <= set(manifest.exclusions)
    assert "'Anonymous_3' matches none of 2 sessions" in caplog.text


def test_scans_that_share_an_identifier_are_one_patient(tmp_path, dicom):
    ids = {"a": "PAT7", "b": "PAT8", "c": "PAT7", "d": "Anonymous", "e": "Anonymous"}
    for session, patient in ids.items():
        own_study = f"1.2.3.{ord(session)}"
        dicom(
            tmp_path / session / "Full_dose",
            patient=patient,
            edit=lambda dataset, uid=own_study: setattr(dataset, "StudyInstanceUID", uid),
        )
    patients = {s.id: s.patient for s in build_manifest("udpet", tmp_path).subjects}
    # "Anonymous" is nobody's name.
    assert patients == {"a": "a", "b": "b", "c": "a", "d": "d", "e": "e"}


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "enhance_pet"])
def test_an_empty_folder_is_refused(tmp_path, layout):
    with pytest.raises(PETError, match=f"no session of layout {layout} found"):
        build_manifest(layout, tmp_path)
    with pytest.raises(PETError, match="no such folder"):
        build_manifest(layout, tmp_path / "nowhere")


def test_units_where_the_layout_knows_them_are_refused(tmp_path):
    with pytest.raises(PETError, match="layout udpet says itself"):
        build_manifest("udpet", tmp_path, units="g/mL")
