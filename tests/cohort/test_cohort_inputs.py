"""What a cohort is given, and what the command says."""

import json

import pytest

from pipeline.cohort import scans_in
from pipeline.data import Manifest
from pipeline.errors import PETError
from tests.cohort.cohorts import cut


def test_inputs_of_every_kind(scans, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "list.txt").write_text("# mine\n\nscans/sub-01_pet.nii.gz\n")
    assert [scan.path for scan in scans_in(tmp_path / "list.txt", out)] == [scans / "sub-01_pet.nii.gz"]
    manifest = {
        "name": "mine",
        "title": "Mine",
        "layout": "bids_pet",
        "subjects": [
            {
                "id": "a",
                "patient": "a",
                "split": "test",
                "images": [
                    {"path": "sub-00_pet.nii.gz"},
                    {"path": "sub-01_pet.nii.gz", "dose_reduction_factor": 4},
                ],
            },
            {"id": "b", "patient": "b", "split": "test", "images": [{"path": "sub-02_pet.nii.gz"}]},
        ],
    }
    Manifest(**manifest).write(tmp_path / "mine.yaml")
    found = list(scans_in(tmp_path / "mine.yaml", out, root=scans))
    assert [scan.name for scan in found] == ["sub-01_pet.nii.gz", "sub-02_pet.nii.gz"]
    (scans / "sub-00" / "pet").mkdir(parents=True)
    (scans / "derivatives" / "sub-00" / "pet").mkdir(parents=True)
    for folder in ("", "derivatives/"):
        (scans / folder / "sub-00" / "pet" / "sub-00_pet.nii.gz").write_bytes(b"")
    (scans / "sub-00" / "pet" / "sub-00_T1w.nii.gz").write_bytes(b"")
    (scans / "dataset_description.json").write_text('{"Name": "study", "BIDSVersion": "1.10.0"}')
    assert [scan.name for scan in scans_in(scans, out)] == ["sub-00/pet/sub-00_pet.nii.gz"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("nowhere", None, "no such file or folder"),
        ("list.txt", "", "names no scan, expected a path in every line"),
        ("list.txt", "a\nb\na\n", "line 3 names the scan of line 1, expected each once"),
        ("list.txt", "\udcff", "cannot be read as a list of paths"),
        ("list.csv", "a", "expected a folder of scans, a list of paths"),
    ],
)
def test_an_input_that_is_none_is_refused_in_one_line(tmp_path, name, content, reason):
    if content is not None:
        (tmp_path / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(PETError, match=reason):
        list(scans_in(tmp_path / name, tmp_path / "out"))


def test_the_command_says_how_it_ended(unipet, scans, tmp_path):
    cut(scans / "sub-01_pet.nii.gz")
    out = tmp_path / "out"
    common = ("--method", "identity", "--no-report")
    done = unipet("cohort", scans, out, *common, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "0 done, 0 failed; 3 scans to denoise" in done.stdout
    assert not out.exists()
    done = unipet("cohort", scans, out, *common)
    assert done.returncode == 1
    assert "1 failed, 2 made" in done.stdout
    assert "failed: sub-01_pet.nii.gz: " in done.stderr
    assert "unipet: 1 of 3 scans failed, see" in done.stderr
    done = unipet("cohort", scans, out, *common, "--max-failed", "0.34")
    assert done.returncode == 0, done.stderr
    done = unipet("cohort", "status", out, "--json")
    assert json.loads(done.stdout) == {"total": 3, "done": 2, "failed": 1, "running": 0, "pending": 0}
    (out / "cohort.html").unlink()
    assert unipet("cohort", "report", out).returncode == 0
    assert (out / "cohort.html").is_file()
    done = unipet("cohort", "status", tmp_path)
    assert done.returncode == 1
    assert "holds no cohort, expected the OUT of `unipet cohort INPUT OUT`" in done.stderr
    done = unipet("cohort", scans, out, *common, "--part", "3/2")
    assert "part 3/2, expected such as 1/4 to 4/4" in done.stderr
