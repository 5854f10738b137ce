"""Results as one BIDS derivative data set, which scans are added to."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline import read_pet
from pipeline.cohort import CohortRun, ScanFolder, ScanList
from pipeline.data import find_scans
from pipeline.errors import PETError
from pipeline.files import UNFINISHED
from pipeline.pet import write_nifti
from pipeline.workflow import denoise_scan
from tests.described_tables import check_tables

pytestmark = pytest.mark.usefixtures("blank_figures")


def denoise(scans: list[Path], out: Path, denoiser):
    return list(CohortRun(ScanList(scans, out), denoiser, layout="bids", has_summary=False).outcomes())


def content(root: Path) -> list[str]:
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and path.relative_to(root).parts[0] not in (".cohort", ".lock", "logs")
    )


def files_of(stem: str) -> set[str]:
    tables = [f"{kind}.{ending}" for kind in TABLES for ending in ("tsv", "json")]
    volumes = ["desc-denoised_pet.nii.gz", "desc-denoised_pet.json", "dseg.nii.gz", "dseg.tsv", "dseg.json"]
    return {f"{stem}_{name}" for name in (*tables, *volumes, "report.html", "run.json")}


TABLES = ("lesions", "quantities", "burden", "matches", "changes", "spots")
DATASET = {".bidsignore", "dataset_description.json"}


def test_scans_are_added_to_one_data_set(body_series, identity, tmp_path):
    first = write_nifti(body_series(seed=1), tmp_path / "sub-01_ses-a_pet.nii.gz")
    second = write_nifti(body_series(seed=2), tmp_path / "sub-01_ses-a_rec-drf004_pet.nii.gz")
    nameless = write_nifti(body_series(seed=3), tmp_path / "SMITH_pet.nii.gz")
    out = tmp_path / "out"
    (one,) = denoise([first], out, identity)
    stem = "sub-01/ses-a/pet/sub-01_ses-a"
    assert set(content(out)) == DATASET | files_of(stem)
    before = {path: path.stat().st_mtime_ns for path in one.files.folder.iterdir()}
    outcomes = denoise([first, second, nameless], out, identity)
    assert [outcome.status for outcome in outcomes] == ["there", "made", "made"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    digest = json.loads(next(out.glob("sub-pet*/pet/*_run.json")).read_text())["source_sha256"]
    (label,) = (path.name for path in out.glob("sub-pet*"))
    assert set(content(out)) == DATASET | files_of(stem) | files_of(f"{stem}_rec-drf004") | files_of(
        f"{label}/pet/{label}"
    )
    assert digest == outcomes[2].files.record()["source_sha256"]
    assert "SMITH" not in "".join(content(out))
    np.testing.assert_array_equal(
        read_pet(out / f"{stem}_rec-drf004_desc-denoised_pet.nii.gz").suv, read_pet(second).suv
    )
    for name in ("sub-01_ses-a", "sub-01_ses-a_rec-drf004"):
        check_tables((one.files.folder / f"{name}_{kind}.tsv" for kind in TABLES), scan=name)


def test_another_subject_of_the_same_name_is_another_subject(body_series, identity, tmp_path):
    paths = []
    for seed in (1, 2):
        (tmp_path / f"site{seed}").mkdir()
        paths.append(write_nifti(body_series(seed=seed), tmp_path / f"site{seed}" / "sub-01_pet.nii.gz"))
    for _ in range(2):
        first, second = denoise(paths, tmp_path / "out", identity)
    assert first.files.folder == tmp_path / "out" / "sub-01" / "pet"
    assert second.files.folder.parent.name.startswith("sub-01")
    assert second.files.folder != first.files.folder
    assert (second.files.folder / f"{second.files.folder.parent.name}_run.json").is_file()
    assert first.status == "there"
    assert second.status == "there"


@pytest.mark.parametrize(
    "there", ["raw data set", "strange description", "other files", "one result", "a folder of results"]
)
def test_a_folder_of_something_else_is_refused_and_left_as_it_is(scan, identity, tmp_path, there):
    out = tmp_path / "out"
    if there == "one result":
        denoise_scan(scan, out, identity)
    elif there == "a folder of results":
        CohortRun(ScanList([scan], out), identity, has_summary=False).run()
    else:
        (out / "sub-02").mkdir(parents=True)
        if there == "raw data set":
            (out / "dataset_description.json").write_text('{"Name": "mine", "DatasetType": "raw"}')
        if there == "strange":
            (out / "dataset_description.json").write_text('{"DatasetType": "derivative", "GeneratedBy": ["unipet_3d"]}')
    before = content(out)
    with pytest.raises(PETError, match=r"out: holds .* and is no data set of results, expected a new folder or"):
        denoise([scan], out, identity)
    assert content(out) == before
    assert there == "a folder of results" or not (out / ".lock").exists()


def test_a_file_of_the_user_is_never_replaced_and_nothing_is_added_beside_it(scan, identity, tmp_path, body_series):
    other = write_nifti(body_series(seed=5), tmp_path / "sub-02_pet.nii.gz")
    denoise([other], tmp_path / "out", identity)
    mine = tmp_path / "out" / "sub-01" / "pet" / "sub-01_spots.tsv"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    (outcome,) = denoise([scan], tmp_path / "out", identity)
    assert outcome.refusal.endswith("sub-01_spots.tsv: exists already, expected a new name")
    assert UNFINISHED not in outcome.refusal
    assert mine.read_text() == "mine"
    assert [path.name for path in mine.parent.iterdir()] == ["sub-01_spots.tsv"]
    assert not list((tmp_path / "out").rglob(f"{UNFINISHED}*"))


def test_results_of_another_method_are_replaced(scan, identity, tmp_path):
    denoise([scan], tmp_path / "out", identity)
    before = set(content(tmp_path / "out"))
    (outcome,) = denoise([scan], tmp_path / "out", replace(identity, strength=0.5))
    assert outcome.status == "made anew"
    assert set(content(tmp_path / "out")) == before
    assert outcome.files.record()["strength"] == 0.5


def test_a_data_set_of_results_holds_no_scans(scan, identity, tmp_path):
    (tmp_path / "in").mkdir()
    for path in tmp_path.glob("sub-01_pet.*"):
        path.rename(tmp_path / "in" / path.name)
    out = tmp_path / "in" / "derivatives"
    for _ in range(2):
        CohortRun(ScanFolder(tmp_path / "in", out), identity, layout="bids").run()
    assert find_scans(tmp_path / "in") == [str(tmp_path / "in" / "sub-01_pet.nii.gz")]
    assert len(list(out.glob("sub-*"))) == 1


def test_a_layout_that_is_none(scan, identity, tmp_path):
    with pytest.raises(PETError, match="layout 'flat', expected folders or bids"):
        CohortRun(ScanList([scan], tmp_path / "out"), identity, layout="flat")


def test_the_command_adds_to_a_data_set(unipet, scan, tmp_path):
    for text in ("written to", "is in"):
        done = unipet("denoise", scan, tmp_path / "out", "--method", "identity", "--layout", "bids")
        assert done.returncode == 0, done.stderr
        assert f"{text} {tmp_path / 'out' / 'sub-01' / 'pet'}" in done.stdout
    done = unipet("denoise", tmp_path / "nowhere", tmp_path / "out", "--method", "identity", "--layout", "bids")
    assert done.returncode == 1
    assert "nowhere: no such file or folder" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    done = unipet("denoise", scan, tmp_path / "out", "--reference", scan, "--layout", "bids")
    assert "expected no --layout bids" in done.stderr
