"""Cohorts on disk: what is written reads back, goes on after a stop, and never mixes two kinds."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
from scanners import FLAT_SCANNER

from pipeline.data import build_manifest
from pipeline.pet import PETError, read_dicom_series, read_nifti
from pipeline.simulation import ORGAN_LABELS, PSMA_11, simulate_cohort, simulate_subject, write_subject
from pipeline.simulation.cohort import CohortRequest, simulate_cohorts, subject_seed
from tests.described_tables import check_dictionaries

OPTIONS = {"seed": 3, "scanner": FLAT_SCANNER, "dose_reduction_factors": (4, 20), "n_lesions": 4}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort") / "made" / "here"
    return folder, simulate_cohort(folder, n_subjects=2, **OPTIONS)


def test_a_subject_has_every_file(cohort):
    folder, subjects = cohort
    assert [s.name for s in subjects] == ["sub-0001", "sub-0002"]
    assert sorted(p.name for p in folder.glob("[!.]*")) == ["dataset_description.json", "sub-0001", "sub-0002"]
    sidecar = json.loads((subjects[0] / "pet" / "sub-0001_rec-full_pet.json").read_text())
    # What PET-BIDS requires of every image.
    assert {"ModeOfAdministration", "AcquisitionMode", "InjectedMass", "SpecificRadioactivityUnits"} <= set(sidecar)
    assert sidecar["ReconMethodParameterLabels"] == ["iterations", "subsets"]
    assert sidecar["ReconMethodParameterValues"] == [OPTIONS["scanner"].n_iterations, OPTIONS["scanner"].n_subsets]
    assert (sidecar["ReconFilterType"], sidecar["ReconFilterSize"]) == ("Gaussian", OPTIONS["scanner"].post_filter)
    images = ["desc-truth", "rec-noisefree", "rec-full", "rec-fullrepeat", "rec-drf004", "rec-drf020"]
    expected = {f"sub-0001_{i}_pet.{e}" for i in images for e in ("nii.gz", "json")}
    expected |= {"sub-0001_desc-lesions_mask.nii.gz", "sub-0001_desc-organs_dseg.nii.gz"}
    expected |= {"sub-0001_desc-attenuation_map.nii.gz"}
    expected |= {"sub-0001_lesions.tsv", "sub-0001_lesions.json", "sub-0001_simulation.json"}
    assert {p.name for p in (subjects[0] / "pet").iterdir()} == expected


def test_what_is_read_is_what_was_simulated(cohort):
    _, subjects = cohort
    again = simulate_subject(subject_seed(3, 1), scanner=FLAT_SCANNER, dose_reduction_factors=(4, 20), n_lesions=4)
    stem = subjects[1] / "pet" / "sub-0002"
    low = read_nifti(f"{stem}_rec-drf020_pet.nii.gz")
    np.testing.assert_array_equal(low.suv, again.low_dose[20.0])
    np.testing.assert_allclose(low.affine, again.scanner.affine, atol=1e-4)
    lesions = nib.load(f"{stem}_desc-lesions_mask.nii.gz")
    np.testing.assert_array_equal(np.asarray(lesions.dataobj), again.truth.lesion_labels)
    assert nib.aff2axcodes(lesions.affine) == ("R", "A", "S")
    table = pd.read_csv(f"{stem}_lesions.tsv", sep="\t")
    assert set(table["subject"]) == {"sub-0002"}
    check_dictionaries(subjects[1], n_tables=1)
    assert list(table["id"]) == list(again.lesions["id"])
    np.testing.assert_allclose(table["suv_mean"], again.lesions["suv_mean"], atol=1e-4)


def test_headers_are_physical(cohort):
    _, subjects = cohort
    stem = subjects[0] / "pet" / "sub-0001"
    full, low = (read_nifti(f"{stem}_rec-{r}_pet.nii.gz").header for r in ("full", "drf020"))
    assert full.injected_dose == pytest.approx(3.5e6 * full.patient_weight)
    assert full.uptake_time == 3600
    assert full.radionuclide_half_life == pytest.approx(109.77 * 60, rel=1e-3)
    assert low.injected_dose == full.injected_dose
    assert low.frame_duration == pytest.approx(full.frame_duration / 20)
    sidecar = json.loads((subjects[0] / "pet" / "sub-0001_rec-drf020_pet.json").read_text())
    assert sidecar["Units"] == "g/mL"
    assert sidecar["DoseReductionFactor"] == 20


BIDS_REQUIRES = """Manufacturer ManufacturersModelName Units TracerName TracerRadionuclide InjectedRadioactivity
InjectedRadioactivityUnits InjectedMass InjectedMassUnits SpecificRadioactivity SpecificRadioactivityUnits
ModeOfAdministration TimeZero ScanStart InjectionStart FrameTimesStart FrameDuration AcquisitionMode ImageDecayCorrected
ImageDecayCorrectionTime ReconMethodName ReconMethodParameterLabels ReconFilterType AttenuationCorrection"""


def test_every_sidecar_has_the_keys_that_bids_requires_of_pet(cohort):
    folder, _ = cohort
    for path in folder.glob("sub-*/pet/*_pet.json"):
        assert not set(BIDS_REQUIRES.split()) - set(json.loads(path.read_text())), path.name


def test_a_folder_that_cannot_be_written_is_noticed_before_the_first_subject(tmp_path, monkeypatch):
    def refused(*args, **kwargs):
        raise PermissionError(13, "Permission denied", str(tmp_path / ".lock"))

    monkeypatch.setattr("filelock.FileLock.acquire", refused)
    monkeypatch.setattr("pipeline.simulation.cohort.simulate_subject", None)
    with pytest.raises(PETError, match="Permission denied"):
        simulate_cohort(tmp_path, n_subjects=1, **OPTIONS)


def test_finished_subjects_are_kept(cohort):
    folder, subjects = cohort
    before = {p: p.stat().st_mtime_ns for s in subjects for p in s.rglob("*") if p.is_file()}
    seen = []
    again = simulate_cohort(folder, n_subjects=2, progress=lambda done, total: seen.append((done, total)), **OPTIONS)
    assert again == subjects
    assert seen == [(1, 2), (2, 2)]
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_a_stopped_cohort_goes_on(cohort, tmp_path, monkeypatch):
    _, subjects = cohort
    calls = []

    def stop_at_the_second(seed, **options):
        calls.append(seed)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return simulate_subject(seed, **options)

    monkeypatch.setattr("pipeline.simulation.cohort.simulate_subject", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        simulate_cohort(tmp_path, n_subjects=2, **OPTIONS)
    assert sorted(p.name for p in tmp_path.glob("*sub*")) == ["sub-0001"]
    resumed = simulate_cohort(tmp_path, n_subjects=2, **OPTIONS)
    assert len(calls) == 3
    for image in ("rec-full_pet.nii.gz", "desc-organs_dseg.nii.gz", "lesions.tsv"):
        for mine, theirs in zip(resumed, subjects, strict=True):
            name = f"pet/{mine.name}_{image}"
            assert (mine / name).read_bytes() == (theirs / name).read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "seed"),
        ({"scanner": replace(FLAT_SCANNER, post_filter=3.0)}, r"post_filter=5.0, expected post_filter=3.0"),
        ({"dose_reduction_factors": (4, 10)}, "dose_reduction_factors"),
        ({"dose_mode": "less_activity"}, "dose_mode shorter_scan, expected less_activity"),
        ({"n_lesions": None}, "n_lesions 4, expected None"),
        ({"axial_extent": 600}, "expected .*matrix"),
        ({"references": False}, "references True, expected False"),
    ],
)
def test_other_parameters_are_refused(cohort, change, message):
    folder, _ = cohort
    with pytest.raises(PETError, match=message) as error:
        simulate_cohort(folder, n_subjects=2, **{**OPTIONS, **change})
    assert "\n" not in str(error.value)
    assert "sub-0001" in str(error.value)


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "sub-0001").mkdir()
    (tmp_path / "sub-0001" / "notes.txt").write_text("mine")
    with pytest.raises(PETError, match="expected a simulated subject"):
        simulate_cohort(tmp_path, n_subjects=1, **OPTIONS)


def test_training_subjects_have_what_training_needs_and_no_more(tmp_path):
    (subject,) = simulate_cohort(tmp_path, n_subjects=1, **OPTIONS, axial_extent=600, references=False)
    images = {f"sub-0001_rec-{r}_pet.{e}" for r in ("full", "drf004", "drf020") for e in ("nii.gz", "json")}
    others = {"sub-0001_desc-lesions_mask.nii.gz", "sub-0001_lesions.tsv", "sub-0001_lesions.json"}
    others |= {"sub-0001_simulation.json"}
    assert {p.name for p in (subject / "pet").iterdir()} == images | others
    assert nib.load(subject / "pet" / "sub-0001_rec-full_pet.nii.gz").shape == (16, 16, 20)
    before = (subject / "pet" / "sub-0001_simulation.json").stat().st_mtime_ns
    simulate_cohort(tmp_path, n_subjects=1, **OPTIONS, axial_extent=600, references=False)
    assert (subject / "pet" / "sub-0001_simulation.json").stat().st_mtime_ns == before


def test_several_cohorts_are_those_that_they_are_alone(cohort, tmp_path):
    options = {name: value for name, value in OPTIONS.items() if name != "seed"}
    requests = [
        CohortRequest(tmp_path / "a", n_subjects=1, seed=3, **options),
        CohortRequest(tmp_path / "b", n_subjects=1, seed=5, **options, references=False),
    ]
    seen = []
    made = simulate_cohorts(requests, jobs=2, progress=lambda done, total: seen.append((done, total)))
    assert made == [[tmp_path / "a" / "sub-0001"], [tmp_path / "b" / "sub-0001"]]
    assert seen == [(1, 2), (2, 2)]
    image = "pet/sub-0001_rec-full_pet.nii.gz"
    assert (made[0][0] / image).read_bytes() == (cohort[1][0] / image).read_bytes()
    assert (made[1][0] / image).is_file()


def test_a_longer_cohort_begins_with_the_shorter_one():
    seeds = [subject_seed(3, k) for k in range(50)]
    assert len(set(seeds)) == 50
    assert subject_seed(3, 7) == seeds[7]
    assert not set(seeds) & {subject_seed(4, k) for k in range(50)}


def test_factors_of_any_decimals_are_written_and_found_again(tmp_path):
    options = {**OPTIONS, "dose_reduction_factors": (2.5, 4, 7.125)}
    simulate_cohort(tmp_path, n_subjects=1, **options)
    (subject,) = build_manifest("simulated", tmp_path).subjects
    assert [image.dose_reduction_factor for image in subject.low_dose] == [2.5, 4, 7.125]
    assert subject.low_dose[0].path == "sub-0001/pet/sub-0001_rec-drf002p5_pet.nii.gz"
    assert read_nifti(tmp_path / subject.low_dose[0].path).header.frame_duration == pytest.approx(150 / 2.5)


def test_attenuation_is_written_in_its_unit(cohort):
    _, subjects = cohort
    image = nib.load(subjects[0] / "pet" / "sub-0001_desc-attenuation_map.nii.gz")
    again = simulate_subject(subject_seed(3, 0), scanner=FLAT_SCANNER, dose_reduction_factors=(4, 20), n_lesions=4)
    np.testing.assert_array_equal(np.asarray(image.dataobj), again.truth.attenuation)
    body = again.truth.attenuation[again.truth.labels == ORGAN_LABELS["liver"]]
    # Water at 511 keV.
    assert np.median(body) == pytest.approx(0.0096, rel=0.02)


def test_less_activity_is_less_activity_in_the_header(tmp_path):
    options = {**OPTIONS, "dose_mode": "less_activity"}
    (folder,) = simulate_cohort(tmp_path, n_subjects=1, **options)
    full, low = (read_nifti(folder / "pet" / f"sub-0001_rec-{r}_pet.nii.gz").header for r in ("full", "drf020"))
    assert low.injected_dose == pytest.approx(full.injected_dose / 20)
    assert low.frame_duration == full.frame_duration


def test_another_tracer_names_itself(tmp_path):
    (folder,) = simulate_cohort(tmp_path, n_subjects=1, **OPTIONS, tracer=PSMA_11)
    header = read_nifti(folder / "pet" / "sub-0001_rec-full_pet.nii.gz").header
    assert header.radiopharmaceutical == PSMA_11.name
    assert header.radionuclide == "Ga-68"
    assert header.radionuclide_half_life == pytest.approx(67.7 * 60, rel=0.01)
    assert header.injected_dose == pytest.approx(PSMA_11.injected_activity(header.patient_weight))
    assert header.uptake_time == PSMA_11.uptake_time
    with pytest.raises(PETError, match="tracer"):
        simulate_cohort(tmp_path, n_subjects=1, **OPTIONS)


def test_dicom_holds_the_same_suv_and_the_same_bytes_again(tmp_path):
    thick = replace(FLAT_SCANNER, matrix=(16, 16, 10), voxel_size=(30.0, 30.0, 96.0))
    options = {**OPTIONS, "scanner": thick, "dose_reduction_factors": (7.5,)}
    runs = [simulate_cohort(tmp_path / name, n_subjects=1, dicom=True, **options)[0] for name in ("once", "again")]
    files = sorted(p.relative_to(runs[0]) for p in runs[0].rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(runs[1]) for p in runs[1].rglob("*") if p.is_file())
    for file in files:
        assert (runs[0] / file).read_bytes() == (runs[1] / file).read_bytes(), file
    entities = ["desc-truth", "rec-drf007p5", "rec-full", "rec-fullrepeat", "rec-noisefree"]
    assert sorted(p.name for p in (runs[0] / "dicom").iterdir()) == entities
    studies, series = set(), set()
    for entity in entities:
        folder = runs[0] / "dicom" / entity
        nifti, dicom = read_nifti(runs[0] / "pet" / f"sub-0001_{entity}_pet.nii.gz"), read_dicom_series(folder)
        np.testing.assert_allclose(dicom.affine, nifti.affine, atol=1e-3)
        # 16 bits of each slice's largest value.
        largest = nifti.suv.max(axis=(0, 1))
        assert (np.abs(dicom.suv - nifti.suv) <= largest / 32767 + 1e-6).all()
        assert dicom.header.radiopharmaceutical == "FDG"
        dataset = pydicom.dcmread(folder / "PET_0001.dcm", stop_before_pixels=True)
        studies.add((dataset.StudyInstanceUID, dataset.FrameOfReferenceUID))
        series.add(dataset.SeriesInstanceUID)
    assert len(studies) == 1
    assert len(series) == len(entities)


def test_dicom_asked_for_later_is_refused(cohort):
    folder, _ = cohort
    with pytest.raises(PETError, match="without DICOM"):
        simulate_cohort(folder, n_subjects=2, **OPTIONS, dicom=True)


def test_leftovers_of_a_killed_run_are_removed(tmp_path):
    leftover = tmp_path / ".writing-abc"
    (leftover / "pet").mkdir(parents=True)
    (leftover / "pet" / "half.nii.gz").write_bytes(b"half")
    simulate_cohort(tmp_path, n_subjects=1, **OPTIONS)
    assert sorted(p.name for p in tmp_path.glob("*sub*")) == ["sub-0001"]


def test_of_two_runs_into_one_folder_the_second_waits_and_finds_all_done(tmp_path, caplog):
    with ThreadPoolExecutor(1) as pool:

        def first(*_):
            second.append(pool.submit(simulate_cohort, tmp_path, n_subjects=1, **OPTIONS))
            while "another run is simulating into it, waiting for it" not in caplog.text:
                assert not second[0].done()
                time.sleep(0.01)

        second = []
        made = simulate_cohort(tmp_path, n_subjects=1, **OPTIONS, progress=first)
        written = made[0].stat().st_mtime_ns
        assert second[0].result() == made
        assert made[0].stat().st_mtime_ns == written


def test_writing_over_something_is_refused(cohort, patient):
    _, subjects = cohort
    with pytest.raises(PETError, match="not an empty folder"):
        write_subject(patient, subjects[0])


@pytest.mark.parametrize("change", [{"n_subjects": 0}, {"n_subjects": 1, "jobs": 0}])
def test_impossible_numbers_are_refused(tmp_path, change):
    with pytest.raises(PETError, match="expected at least"):
        simulate_cohort(tmp_path, **{**OPTIONS, **change})
