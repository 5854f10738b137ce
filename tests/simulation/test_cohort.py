"""Cohorts on disk: what is written reads back, goes on after a stop, and never mixes two kinds."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from pipeline.pet import PETError, read_nifti
from pipeline.simulation import Scanner, simulate_cohort, simulate_subject, write_subject
from pipeline.simulation.cohort import subject_seed

SCANNER = Scanner(name="tiny", matrix=(24, 24, 48), voxel_size=(20.0, 20.0, 20.0), n_angles=24, n_subsets=4)
OPTIONS = {"seed": 3, "scanner": SCANNER, "dose_reduction_factors": (4, 20), "n_lesions": 4}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort") / "made" / "here"
    return folder, simulate_cohort(folder, n_subjects=2, **OPTIONS)


def test_a_subject_has_every_file(cohort):
    folder, subjects = cohort
    assert [s.name for s in subjects] == ["sub-0001", "sub-0002"]
    assert sorted(p.name for p in folder.iterdir()) == ["sub-0001", "sub-0002"]
    images = ["desc-truth", "rec-noisefree", "rec-full", "rec-fullrepeat", "rec-drf004", "rec-drf020"]
    expected = {f"sub-0001_{i}_pet.{e}" for i in images for e in ("nii.gz", "json")}
    expected |= {"sub-0001_desc-lesions_mask.nii.gz", "sub-0001_desc-organs_dseg.nii.gz"}
    expected |= {"sub-0001_lesions.tsv", "sub-0001_simulation.json"}
    assert {p.name for p in (subjects[0] / "pet").iterdir()} == expected


def test_what_is_read_is_what_was_simulated(cohort):
    _, subjects = cohort
    again = simulate_subject(subject_seed(3, 1), scanner=SCANNER, dose_reduction_factors=(4, 20), n_lesions=4)
    stem = subjects[1] / "pet" / "sub-0002"
    low = read_nifti(f"{stem}_rec-drf020_pet.nii.gz")
    np.testing.assert_array_equal(low.suv, again.low_dose[20.0])
    np.testing.assert_allclose(low.affine, again.affine, atol=1e-4)
    lesions = nib.load(f"{stem}_desc-lesions_mask.nii.gz")
    np.testing.assert_array_equal(np.asarray(lesions.dataobj), again.lesion_labels)
    assert nib.aff2axcodes(lesions.affine) == ("R", "A", "S")
    table = pd.read_csv(f"{stem}_lesions.tsv", sep="\t")
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
    assert [p.name for p in tmp_path.iterdir()] == ["sub-0001"]
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
        ({"scanner": replace(SCANNER, post_filter=3.0)}, r"post_filter=5.0, expected post_filter=3.0"),
        ({"dose_reduction_factors": (4, 10)}, "dose_reduction_factors"),
        ({"n_lesions": None}, "n_lesions 4, expected None"),
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


def test_a_longer_cohort_begins_with_the_shorter_one():
    seeds = [subject_seed(3, k) for k in range(50)]
    assert len(set(seeds)) == 50
    assert subject_seed(3, 7) == seeds[7]
    assert not set(seeds) & {subject_seed(4, k) for k in range(50)}


def test_factors_that_are_no_file_name_are_refused(tmp_path):
    with pytest.raises(PETError, match=r"2\.5"):
        simulate_cohort(tmp_path, n_subjects=1, **{**OPTIONS, "dose_reduction_factors": (2.5, 4)})


def test_writing_over_something_is_refused(cohort, patient):
    _, subjects = cohort
    with pytest.raises(PETError, match="not an empty folder"):
        write_subject(patient, subjects[0])


@pytest.mark.parametrize("change", [{"n_subjects": 0}, {"n_subjects": 1, "jobs": 0}])
def test_impossible_numbers_are_refused(tmp_path, change):
    with pytest.raises(PETError, match="expected at least"):
        simulate_cohort(tmp_path, **{**OPTIONS, **change})
