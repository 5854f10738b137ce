"""Every kind of problem is found where it is, and none where there is none."""

import json

import numpy as np
import pytest

from pipeline.data import Manifest
from pipeline.data.building.build import build_manifest
from pipeline.data.checking.check import check_manifest
from pipeline.data.checking.tables import problem_table
from pipeline.data.manifest import Exclusion, Licence
from pipeline.pet import PETError

FACTORS = {"rec-full": 1, "rec-drf004": 4, "rec-drf020": 20}


@pytest.fixture
def scans(tmp_path, nifti):
    """Two patients with three doses each, and their manifest."""
    for k in (1, 2):
        for n, (name, factor) in enumerate(FACTORS.items()):
            path = tmp_path / f"sub-0{k}" / "pet" / f"sub-0{k}_{name}_pet.nii.gz"
            nifti(path, noise=0.05 * np.sqrt(factor), seed=10 * k + n, sidecar={"Units": "g/mL", "TracerName": "FDG"})
    manifest = build_manifest("bids_pet", tmp_path, fractions=(1, 0, 0), checksums=True)
    return manifest.model_copy(
        update={"source": "here", "how_to_get": "made", "licence": Licence(name="CC0-1.0", allows="everything")}
    )


def _kinds(problems):
    return [(problem.kind, problem.subject) for problem in problems]


def _with(manifest, number, **update):
    subjects = list(manifest.subjects)
    subjects[number] = subjects[number].model_copy(update=update)
    return manifest.model_copy(update={"subjects": tuple(subjects)})


@pytest.mark.parametrize("level", ["files", "headers", "voxels"])
def test_a_sound_data_set_has_no_problems(scans, tmp_path, level):
    calls = []
    assert check_manifest(scans, tmp_path, level=level, progress=lambda done, of: calls.append((done, of))) == []
    assert calls == [(1, 2), (2, 2)]
    assert list(problem_table([]).columns) == ["kind", "subject", "path", "detail"]


def test_a_simulated_cohort_has_no_problems_and_rising_noise(tiny_cohort):
    root = tiny_cohort[0].parent
    assert check_manifest(build_manifest("simulated", root), root, level="voxels") == []


def test_empty_fields_of_the_licence_are_named(scans, tmp_path):
    bare = scans.model_copy(update={"licence": Licence(), "source": ""})
    details = {problem.detail.split(" is ")[0] for problem in check_manifest(bare, tmp_path, level="files")}
    assert details == {"source", "licence.name", "licence.allows"}


def test_a_patient_in_two_splits_is_a_leak(scans, tmp_path):
    leaking = _with(_with(scans, 1, split="test"), 1, patient="sub-01")
    (problem,) = check_manifest(leaking, tmp_path, level="files")
    assert problem.kind == "leak"
    assert problem.detail == "one patient in 2 splits: sub-01 in train and sub-02 in test"


@pytest.mark.parametrize(("split", "kind"), [("test", "leak"), ("train", "duplicate")])
def test_equal_content_under_another_name_is_found_by_checksum(scans, tmp_path, split, kind):
    first, second = scans.subjects
    copied = second.full_dose.model_copy(update={"sha256": first.full_dose.sha256})
    twin = _with(scans, 1, split=split, images=(copied, *second.low_dose))
    assert _kinds(check_manifest(twin, tmp_path, level="files")) == [(kind, "sub-02")]


def test_one_file_as_two_doses_is_found(scans, tmp_path):
    subject = scans.subjects[0]
    twice = subject.low_dose[0].model_copy(update={"path": subject.full_dose.path})
    problems = check_manifest(_with(scans, 0, images=(subject.full_dose, twice)), tmp_path, level="files")
    assert _kinds(problems) == [("duplicate", "sub-01")]


def test_a_shared_identifier_in_dicom_is_a_leak_and_never_shown(tmp_path, dicom):
    for session in ("a", "b"):
        dicom(tmp_path / session / "Full_dose", patient="SECRET7")
    manifest = build_manifest("udpet", tmp_path, fractions=(1, 0, 0))
    # As somebody who split by folder would have it.
    first, second = manifest.subjects
    by_folder = [first.model_copy(update={"patient": "a"}), second.model_copy(update={"patient": "b", "split": "test"})]
    problems = check_manifest(manifest.model_copy(update={"subjects": tuple(by_folder)}), tmp_path)
    leaks = [problem for problem in problems if problem.kind == "leak"]
    assert [problem.detail for problem in leaks] == ["the same PatientID in two splits: b in test and a in train"]
    assert "SECRET7" not in str(problems)
    assert "SECRET7" not in manifest.model_dump_json()


def test_two_patients_in_one_subject_are_found(tmp_path, dicom):
    dicom(tmp_path / "a" / "Full_dose", patient="PAT1")
    dicom(tmp_path / "a" / "1-4 dose", patient="PAT2")
    problems = check_manifest(build_manifest("udpet", tmp_path), tmp_path)
    assert "2 different PatientID" in next(p.detail for p in problems if p.kind == "header")


def test_a_missing_file_is_found(scans, tmp_path):
    path = scans.subjects[1].low_dose[1].path
    (tmp_path / path).unlink()
    (problem,) = check_manifest(scans, tmp_path, level="voxels")
    assert (problem.kind, problem.subject, problem.path) == ("missing", "sub-02", path)


def test_a_changed_file_is_found_by_its_checksum_only_when_asked(scans, tmp_path, nifti):
    path = scans.subjects[0].low_dose[0].path
    nifti(tmp_path / path, seed=99)
    assert check_manifest(scans, tmp_path) == []
    (problem,) = check_manifest(scans, tmp_path, level="files", checksums=True)
    assert (problem.kind, problem.path) == ("checksum", path)


def test_an_excluded_subject_or_image_that_is_listed_is_found(scans, tmp_path):
    exclusions = (
        Exclusion(subject="sub-01", reason="wrong weight"),
        Exclusion(subject="sub-02", dose_reduction_factor=4, reason="cut off"),
        Exclusion(subject="sub-02", dose_reduction_factor=50, reason="this dose is not there"),
    )
    problems = check_manifest(scans.model_copy(update={"exclusions": exclusions}), tmp_path, level="files")
    assert _kinds(problems) == [("exclusion", "sub-01"), ("exclusion", "sub-02")]
    assert problems[1].path == scans.subjects[1].low_dose[0].path


def test_unlike_grids_are_found(scans, tmp_path, nifti):
    shape, size, place = (
        subject.low_dose[0].path for subject in (scans.subjects[0], scans.subjects[1], scans.subjects[1])
    )
    nifti(tmp_path / shape, np.ones((24, 22, 19), np.float32))
    moved = np.diag([8.0, 8.0, 8.0, 1.0])
    moved[2, 3] = 4.0
    nifti(tmp_path / place, grid=moved)
    problems = check_manifest(scans, tmp_path)
    assert [(p.kind, p.path) for p in problems] == [("geometry", shape), ("geometry", place)]
    assert problems[0].detail.startswith(
        "24 x 22 x 19 voxels of 8 x 8 x 8 mm, expected one grid of 24 x 22 x 20 voxels"
    )
    assert "corners up to 4.0 mm elsewhere" in problems[1].detail
    nifti(tmp_path / size, grid=np.diag([8.0, 8.0, 4.0, 1.0]))
    assert "voxels of 8 x 8 x 4 mm, corners up to" in check_manifest(scans, tmp_path)[1].detail


def test_a_grid_unlike_the_manifests_is_found(scans, tmp_path):
    for stated in ({"shape": (24, 22, 21)}, {"voxel_size": (8.0, 8.0, 8.1)}):
        problems = check_manifest(_with(scans, 0, **stated), tmp_path)
        assert _kinds(problems) == [("geometry", "sub-01")] * 3
        assert "24 x 22 x 20 voxels of 8 x 8 x 8 mm, the manifest says" in problems[0].detail


def test_a_mislabelled_tracer_is_found(scans, tmp_path):
    image = scans.subjects[0].low_dose[0]
    sidecar = {"Units": "g/mL", "TracerName": "FDG", "TracerRadionuclide": "Ga68"}
    (tmp_path / image.path.replace(".nii.gz", ".json")).write_text(json.dumps(sidecar))
    (problem,) = check_manifest(scans, tmp_path)
    assert (problem.kind, problem.path) == ("tracer", image.path)
    assert "labelled FDG, but the radionuclide is Ga-68" in problem.detail


def test_swapped_doses_are_found_by_their_noise(scans, tmp_path):
    full, low, lowest = scans.subjects[0].images
    swapped = (
        full,
        low.model_copy(update={"dose_reduction_factor": 20.0}),
        lowest.model_copy(update={"dose_reduction_factor": 4.0}),
    )
    (problem,) = check_manifest(_with(scans, 0, images=swapped), tmp_path, level="voxels")
    assert (problem.kind, problem.path) == ("noise", low.path)
    assert "expected it to rise" in problem.detail


def test_a_wrong_dose_or_time_is_found_by_the_mean(scans, tmp_path, nifti):
    wrong_everywhere, wrong_once = scans.subjects[0], scans.subjects[1]
    for n, image in enumerate(wrong_everywhere.images):
        nifti(tmp_path / image.path, noise=0.05 * np.sqrt(image.dose_reduction_factor), seed=n, level=10.0)
    late = wrong_once.low_dose[1]
    nifti(tmp_path / late.path, noise=0.05 * np.sqrt(20), seed=7, level=1.2)
    problems = check_manifest(scans, tmp_path, level="voxels", checksums=False)
    assert [(p.kind, p.path) for p in problems] == [
        ("values", wrong_everywhere.full_dose.path),
        ("values", late.path),
    ]
    assert "g/mL, expected 0.2 to 3: dose, weight or a time is likely wrong" in problems[0].detail
    assert "% from full dose, expected the same activity" in problems[1].detail


def test_one_damaged_image_does_not_stop_the_others(scans, tmp_path):
    first, second = scans.subjects
    (tmp_path / first.full_dose.path).write_bytes(b"no image")
    (tmp_path / second.low_dose[0].path).write_bytes((tmp_path / second.low_dose[0].path).read_bytes()[:3000])
    problems = check_manifest(scans, tmp_path, level="voxels", checksums=False)
    assert _kinds(problems) == [("header", "sub-01"), ("values", "sub-02")]
    assert not any(str(tmp_path) in problem.detail for problem in problems)


def test_unknown_levels_and_folders_are_refused(scans, tmp_path):
    with pytest.raises(PETError, match="level is 'all', expected files, headers or voxels"):
        check_manifest(scans, tmp_path, level="all")
    with pytest.raises(PETError, match="no such folder"):
        check_manifest(scans, tmp_path / "nowhere")


def test_a_recipe_needs_no_folder(tmp_path):
    recipe = Manifest(
        name="r", title="R", layout="udpet", source="s", how_to_get="h", licence={"name": "n", "allows": "a"}
    )
    assert check_manifest(recipe, tmp_path / "nowhere") == []
