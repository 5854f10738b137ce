"""The BIDS app: participants of a data set with inherited sidecars, and every wrong input in one line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import read_pet
from pipeline.cli.doors.bids_app import spread
from pipeline.cohort import CohortRun
from pipeline.doors import ParticipantScans, participant_scans
from pipeline.errors import PETError
from pipeline.inference import Denoiser
from pipeline.pet.nifti import read_sidecar
from tests.doors.bids_study import DOSES, UPTAKE, WEIGHTS, write_study
from tests.series import TRUE_SUV

IDENTITY = ("--method", "identity")


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    return write_study(tmp_path_factory.mktemp("study") / "bids")


@pytest.fixture
def broken(study, tmp_path) -> Path:
    """Return a copy of the study that a test may change."""
    return Path(shutil.copytree(study, tmp_path / "broken"))


def label_of(path: Path) -> str:
    return path.name[4:6]


def test_of_inherited_values_the_nearest_wins(study):
    scans, without = participant_scans(study)
    assert (len(scans), without) == (5, [])
    for path in scans:
        label, known = label_of(path), read_sidecar(path)
        assert known["InjectedRadioactivity"] == DOSES[label]  # beside the image
        assert known["InjectionStart"] == -UPTAKE[label]  # root, or subject
        assert known["BodyWeight"] == WEIGHTS[label]  # participants.tsv
        np.testing.assert_allclose(read_pet(path).suv, TRUE_SUV, rtol=1e-5)


@pytest.mark.parametrize("labels", [["03", "04"], ["sub-03", "sub-04"], ["04", "03", "04", "sub-04"]])
def test_participants_with_and_without_sub(study, labels):
    scans, _ = participant_scans(study, labels)
    assert sorted(path.name for path in scans) == [
        "sub-03_pet.nii.gz",
        "sub-04_ses-1_pet.nii.gz",
        "sub-04_ses-2_pet.nii.gz",
    ]


def test_a_participant_without_pet_is_named_and_refused_only_if_asked_for(broken):
    (broken / "sub-05" / "anat").mkdir(parents=True)
    scans, without = participant_scans(broken)
    assert (len(scans), without) == (5, ["05"])
    with pytest.raises(PETError, match="of participant 05"):
        participant_scans(broken, ["05"])


def test_results_in_derivatives_are_no_input(broken):
    shutil.copytree(broken / "sub-01", broken / "derivatives" / "unipet" / "sub-01")
    assert len(participant_scans(broken)[0]) == 5


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ("a b participant", "a b participant"),
        ("a b participant --participant-label 1 2 3", "a b participant {o} 1 {o} 2 {o} 3"),
        ("a b participant --participant-label 1 2 --method unet", "a b participant {o} 1 {o} 2 --method unet"),
        ("a b participant --participant-label=1 --participant-label 2", "a b participant {o}=1 {o} 2"),
        ("a b participant --method unet 1", "a b participant --method unet 1"),
    ],
)
def test_an_option_takes_several_values(given, understood):
    option = "--participant-label"
    assert list(spread(given.split(), [option])) == understood.format(o=option).split()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("{study} {out} subject", "level 'subject', expected participant or group"),
        ("{study} {out} participant --participant-label 01 07 8", "has no participant 07, 8, expected some of 01, 02"),
        ("{study}/nowhere {out} participant", "no such folder, expected a BIDS data set"),
        ("{study}/sub-01 {out} participant", "has no dataset_description.json, expected a BIDS data set"),
        ("{study} {study} participant", "is no data set of results"),
        ("{study} {out} participant --weights none.pt", "none.pt: the weights do not exist"),
    ],
)
def test_a_mistake_ends_in_one_line(unipet, study, tmp_path, words, said):
    given = words.format(study=study, out=tmp_path / "out").split()
    identity = () if "--weights" in words else IDENTITY
    done = unipet("bids-app", *given, *identity)
    assert done.returncode == 1
    assert done.stderr.startswith("unipet: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_data_set_without_pet(unipet, study, tmp_path):
    (tmp_path / "sub-01" / "anat").mkdir(parents=True)
    shutil.copy(study / "dataset_description.json", tmp_path)
    done = unipet("bids-app", tmp_path, tmp_path / "out", "participant", *IDENTITY)
    assert done.returncode == 1
    assert done.stderr == f"unipet: {tmp_path}: holds no PET image (sub-*/[ses-*/]pet/*_pet.nii.gz), expected some\n"


def test_one_participant_after_the_other_and_one_that_cannot_be_read(unipet, broken, tmp_path):
    """The second is refused by name, nothing of it is written, and what was there is kept."""
    out = tmp_path / "out"
    (broken / "sub-02" / "pet" / "sub-02_pet.nii.gz").write_bytes(b"no image")
    first = unipet("bids-app", broken, out, "participant", "--participant_label", "01", *IDENTITY)
    assert first.returncode == 0, first.stderr
    run = out / "sub-01" / "pet" / "sub-01_run.json"
    made = run.read_bytes()
    second = unipet("bids-app", broken, out, "participant", "--participant-label", "01", "02", *IDENTITY)
    assert second.returncode == 1
    assert "sub-02_pet.nii.gz" in second.stderr
    assert "1 of 2 scans were left out" in second.stderr
    assert run.read_bytes() == made
    assert not (out / "sub-02").exists()
    suv = read_pet(out / "sub-01" / "pet" / "sub-01_desc-denoised_pet.nii.gz").suv
    np.testing.assert_allclose(suv, TRUE_SUV, rtol=1e-5)
    described = json.loads((out / "dataset_description.json").read_text())
    assert described["DatasetType"] == "derivative"
    group = unipet("bids-app", broken, out, "group", *IDENTITY)
    assert group.returncode == 0, group.stderr
    assert group.stdout == f"{out / 'cohort.html'}: 1 done, 1 failed, 0 running, 3 pending, of 5 scans\n"
    table = pd.read_csv(out / "scans.tsv", sep="\t")
    assert sorted(table["status"]) == ["done", "failed"]
    assert (out / "cohort.tsv").is_file()


def test_the_group_level_of_nothing(unipet, study, tmp_path):
    done = unipet("bids-app", study, tmp_path / "out", "group", *IDENTITY)
    assert done.returncode == 1
    assert done.stderr == f"unipet: {tmp_path / 'out'}: holds no result of identity for these 5 scans\n"
    assert not (tmp_path / "out").exists()


def test_two_participants_at_the_same_time(study, tmp_path):
    """As a cluster runs them, a participant each: neither waits for nor refuses the other."""
    denoiser = Denoiser.from_bundle(method="identity")
    runs = [
        CohortRun(
            ParticipantScans(study, participant_scans(study, [label])[0], tmp_path / "out"),
            denoiser,
            layout="bids",
            has_summary=False,
            shared=True,
        )
        for label in ("01", "02", "01")
    ]
    first, second, third = (run.outcomes() for run in runs)
    with runs[0]._tasks[0].state.locked():  # the first is at work
        assert next(third).status == "elsewhere"
        assert next(second).status == "made"
    assert next(first).status == "made"
