"""A cohort as files: what is done is kept, what failed has its reason, and a killed run goes on."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from pipeline.cohort import CohortRun, Part, ScanFolder, cohort_status, scans_in, write_summary
from pipeline.data import Manifest
from pipeline.errors import PETError
from pipeline.files import UNFINISHED
from pipeline.pet import write_nifti
from pipeline.workflow import DenoiseOptions, RegionRule

PLAIN = DenoiseOptions(report=False)


def denoise(scans: Path, out: Path, denoiser, **more) -> dict[str, str]:
    """Return the status of each scan by its name."""
    run = CohortRun(ScanFolder(scans, out), denoiser, **{"options": PLAIN, **more})
    return {outcome.scan.name: outcome.status for outcome in run.outcomes()}


def results(out: Path) -> dict[str, bytes]:
    """Return every file of the results and tables but logs and states, without what differs from run to run: times."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out)
        if path.is_file() and name.parts[0] not in (".cohort", ".lock", "logs"):
            found[str(name)] = path.read_bytes()
    for name in [name for name in found if name.endswith("run.json")]:
        record = json.loads(found[name])
        found[name] = json.dumps({k: v for k, v in record.items() if k not in ("started", "seconds")}).encode()
    if "scans.tsv" in found:
        found["scans.tsv"] = re.sub(rb"\t[0-9.]+\n", b"\n", found["scans.tsv"])
    return found


def leftovers(out: Path) -> list[Path]:
    return list(out.rglob(f"{UNFINISHED}*"))


@pytest.fixture
def scans(body_series, tmp_path) -> Path:
    """Return a folder of three scans."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for k in range(3):
        write_nifti(body_series(seed=k), folder / f"sub-{k:02d}_pet.nii.gz")
    return folder


def test_what_is_done_is_kept_without_being_read_and_what_changed_is_made_anew(
    scans, identity, body_series, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    assert set(denoise(scans, out, identity).values()) == {"made"}
    before = results(out)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.workflow.scan_run.read_pet", lambda *a, **k: pytest.fail("nothing is to be read"))
        assert set(denoise(scans, out, identity).values()) == {"there"}
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == times
    # Touched, a source is read, and found to be the same.
    os.utime(scans / "sub-00_pet.nii.gz")
    assert set(denoise(scans, out, identity).values()) == {"there"}
    # Another source in its place, a damaged result, and a result without its memory.
    write_nifti(body_series(seed=9), scans / "sub-00_pet.nii.gz")
    (out / "sub-01" / "lesions.tsv").write_text("")
    shutil.rmtree(next((out / ".cohort").glob("sub-02-*")))
    assert list(denoise(scans, out, identity).values()) == ["made anew", "made anew", "there"]
    after = results(out)
    assert set(after) == set(before)
    assert {name for name in after if after[name] != before[name] and name.startswith("sub-01")} == set()
    assert not leftovers(out)


def test_results_of_other_options_are_made_anew_and_what_is_of_somebody_else_is_not_removed(scans, identity, tmp_path):
    out = tmp_path / "out"
    denoise(scans, out, identity)
    notes = out / "sub-01" / "notes.txt"
    notes.write_text("mine")
    options = replace(PLAIN, regions=RegionRule(min_volume=2.0))
    assert list(denoise(scans, out, identity, options=options).values()) == ["made anew", "failed", "made anew"]
    assert notes.read_text() == "mine"
    (reason,) = pd.read_csv(out / "failed.tsv", sep="\t")["reason"]
    assert "sub-01: holds notes.txt, which is no part of the result" in reason
    notes.unlink()
    retried = denoise(scans, out, identity, options=options, retry_failed=True)
    assert list(retried.values()) == ["there", "made anew", "there"] or retried["sub-01_pet.nii.gz"] == "made anew"
    denoise(scans, tmp_path / "fresh", identity, options=options)
    assert results(out) == results(tmp_path / "fresh")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:400])


def without_sidecar(path: Path) -> None:
    path.with_name("sub-00_pet.json").write_text("[]")


def change(path: Path, **keys: object) -> None:
    sidecar = path.with_name("sub-00_pet.json")
    content = json.loads(sidecar.read_text()) | keys
    sidecar.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def image(path: Path, suv: np.ndarray, affine: np.ndarray | None = None) -> None:
    nib.save(nib.Nifti1Image(suv.astype(np.float32), np.eye(4) * 5 if affine is None else affine), path)


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut": (cut, "not a readable NIfTI file, damaged or cut short"),
    "empty": (lambda path: path.write_bytes(b""), "not a readable NIfTI file"),
    "no sidecar": (without_sidecar, "holds a list, expected an object"),
    "unknown units": (lambda path: change(path, Units="cps"), "Units is 'cps', expected"),
    "no weight": (lambda path: change(path, Units="Bq/mL"), "SUV"),
    "not JSON": (lambda path: path.with_name("sub-00_pet.json").write_text("{"), "not JSON"),
    "no positrons": (lambda path: change(path, TracerRadionuclide="Lu177"), "emits no positrons"),
    "two frames": (lambda path: image(path, np.ones((8, 8, 8, 2))), "expected one static volume"),
    "not finite": (lambda path: image(path, np.full((8, 8, 8), np.nan)), "not finite"),
    "flat": (lambda path: image(path, np.ones((8, 8, 1))), "expected at least 2 voxels each way"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_scan_that_cannot_be_denoised_fails_with_the_right_reason(body_series, identity, tmp_path, kind):
    scans, out = tmp_path / "SMITH", tmp_path / "out"
    scans.mkdir()
    path = write_nifti(body_series(), scans / "sub-00_pet.nii.gz")
    spoil, reason = BROKEN[kind]
    spoil(path)
    assert denoise(scans, out, identity) == {"sub-00_pet.nii.gz": "failed"}
    (row,) = pd.read_csv(out / "failed.tsv", sep="\t").to_dict("records")
    assert reason in row["reason"]
    assert reason in (out / row["log"]).read_text()
    page = (out / "cohort.html").read_text()
    assert row["scan"] in page
    assert "SMITH" not in page
    assert asdict_of(out) == {"total": 1, "done": 0, "failed": 1, "running": 0, "pending": 0}
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == [".cohort", "logs"]


def asdict_of(out: Path) -> dict[str, int]:
    return vars(cohort_status(out))


def test_a_scan_that_failed_is_tried_again_when_it_changed_or_when_that_is_asked_for(
    scans, identity, body_series, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    cut(scans / "sub-01_pet.nii.gz")
    assert list(denoise(scans, out, identity).values()).count("failed") == 1
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.workflow.scan_run.read_pet", lambda *a, **k: pytest.fail("nothing is to be read"))
        assert list(denoise(scans, out, identity).values()).count("failed") == 1
    read = []
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.workflow.scan_run.read_pet", lambda path, **k: read.append(path) or 1 / 0)
        assert list(denoise(scans, out, identity, retry_failed=True).values()).count("failed") == 1
    assert [path.name for path in read] == ["sub-01_pet.nii.gz"]
    (row,) = pd.read_csv(out / "failed.tsv", sep="\t").to_dict("records")
    assert "unexpected ZeroDivisionError: division by zero" in row["reason"]
    assert "Traceback" in (out / row["log"]).read_text()
    write_nifti(body_series(seed=1), scans / "sub-01_pet.nii.gz")
    assert denoise(scans, out, identity)["sub-01_pet.nii.gz"] == "made"
    assert pd.read_csv(out / "failed.tsv", sep="\t").empty


def test_parts_give_what_one_run_gives_and_the_last_writes_the_summary(scans, identity, body_series, tmp_path):
    (scans / "other").mkdir()
    write_nifti(body_series(seed=7), scans / "other" / "sub-00_pet.nii.gz")  # of a name that another scan has
    denoise(scans, tmp_path / "one", identity)
    out = tmp_path / "parts"
    for number in (3, 1, 2):
        assert not (out / "cohort.html").exists()
        denoise(scans, out, identity, part=Part(number, 3))
        assert asdict_of(out)["total"] == 4
    assert results(out) == results(tmp_path / "one")


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0"])
def test_a_part_that_is_none(text):
    with pytest.raises(PETError, match=r"part .*, expected such as 1/4 to 4/4"):
        Part.read(text)


def test_a_disk_that_is_full_stops_the_run_and_blames_no_scan(scans, identity, tmp_path, monkeypatch):
    out = tmp_path / "out"
    from pipeline.workflow import denoise as module

    write, written = module.write_denoised, []

    def fills(*arguments, **keywords):
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(1)
        return write(*arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_denoised", fills)
        with pytest.raises(PETError, match=r"(?i)no space left on device, 2 scans are left, expected room"):
            denoise(scans, out, identity)
    assert asdict_of(out) == {"total": 3, "done": 1, "failed": 0, "running": 0, "pending": 2}
    assert list(denoise(scans, out, identity).values()) == ["there", "made", "made"]
    denoise(scans, tmp_path / "fresh", identity)
    assert results(out) == results(tmp_path / "fresh")
    assert not leftovers(out)


def test_disk_and_memory_are_planned_before_the_start(scans, identity, tmp_path, monkeypatch):
    run = CohortRun(ScanFolder(scans, tmp_path / "out"), identity, options=PLAIN)
    known, plan = run.plan()
    assert known == []
    assert plan.n_scans == 3
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(1 << 30, 1 << 30, 1 << 10))
    with pytest.raises(PETError, match=r"out: 3 results need about 0\.\d+ GiB of disk, .* are free: enough for 0"):
        denoise(scans, tmp_path / "out", identity)
    monkeypatch.undo()
    monkeypatch.setattr("pipeline.cohort.plan.free_memory", lambda: 1 << 20)
    with pytest.raises(PETError, match=r"out: one scan needs about 0\.78\d GiB of memory, 0\.000977 GiB are free"):
        denoise(scans, tmp_path / "out", identity)


def test_fewer_workers_than_asked_for_where_memory_does_not_suffice(scans, tmp_path, monkeypatch):
    from pipeline.cohort.plan import plan_of
    from pipeline.engine import Workers

    monkeypatch.setattr("pipeline.cohort.plan.free_memory", lambda: 2 << 30)
    found = list(ScanFolder(scans, tmp_path / "out"))
    plan = plan_of(found, tmp_path / "out", options=PLAIN, where=Workers(jobs=8))
    assert plan.workers.jobs == 2
    assert plan.workers.memory == 1 << 30
    assert "2 at once instead of 3: each needs about 0.78" in str(plan)


WORK = """
import sys, time
from pathlib import Path
import torch
from monai.inferers import SimpleInferer
from pipeline.cohort import CohortRun, ScanFolder
from pipeline.ending import end_by_signals
from pipeline.inference import Denoiser
from pipeline.workflow import DenoiseOptions

class Held(torch.nn.Identity):
    n = 0

    def forward(self, x):
        self.n += 1
        while self.n > 1 and Path(sys.argv[3]).exists():
            time.sleep(0.01)
        return x

end_by_signals()
method = Denoiser(network=Held(), inferer=SimpleInferer(), suv_scale=2.0, method="identity", device=torch.device("cpu"))
run = CohortRun(ScanFolder(Path(sys.argv[1]), Path(sys.argv[2])), method, options=DenoiseOptions(report=False))
try:
    for outcome in run.outcomes():
        print(outcome.status, flush=True)
except ValueError as error:
    print(f"refused: {error}", flush=True)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_run_goes_on_and_two_at_once_are_one(scans, identity, tmp_path):
    out, hold = tmp_path / "out", tmp_path / "hold"
    hold.touch()

    def start() -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", WORK, scans, out, hold], stdout=subprocess.PIPE, text=True)

    first = start()
    assert first.stdout.readline() == "made\n"
    second = start()
    assert "refused:" in second.communicate()[0]
    while not any(out.glob(f".cohort/*/{UNFINISHED}*")):
        time.sleep(0.01)
    assert asdict_of(out) == {"total": 3, "done": 1, "failed": 0, "running": 1, "pending": 1}
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert cohort_status(out).running == 0
    assert leftovers(out)
    hold.unlink()
    third = start()
    assert third.communicate()[0].splitlines() == ["there", "made", "made"]
    assert not leftovers(out)
    denoise(scans, tmp_path / "fresh", identity)
    assert results(out) == results(tmp_path / "fresh")


def test_two_scans_of_the_same_voxels_have_one_result(scans, identity, tmp_path):
    (scans / "copy").mkdir()
    for path in scans.glob("sub-00_pet.*"):
        shutil.copy(path, scans / "copy")
    out = tmp_path / "out"
    assert sorted(denoise(scans, out, identity).values()) == ["made", "made", "made", "there"]
    assert list(pd.read_csv(out / "scans.tsv", sep="\t")["scan"].sort_values()) == ["sub-00", "sub-01", "sub-02"]
    assert set(denoise(scans, out, identity).values()) == {"there"}


def test_the_tables_have_a_row_for_every_region_and_scan_and_say_what_their_columns_mean(scans, identity, tmp_path):
    out = tmp_path / "out"
    cut(scans / "sub-02_pet.nii.gz")
    denoise(scans, out, identity)
    for name in ("cohort", "scans", "failed"):
        table = pd.read_csv(out / f"{name}.tsv", sep="\t", na_values="n/a")
        described = json.loads((out / f"{name}.json").read_text())
        assert table.columns[0] == "scan"
        assert list(described) == list(table.columns)
        assert all(len(entry["Description"]) > 5 for entry in described.values())
    regions = pd.read_csv(out / "cohort.tsv", sep="\t", na_values="n/a")
    alone = pd.read_csv(out / "sub-01" / "lesions.tsv", sep="\t", na_values="n/a")
    pd.testing.assert_frame_equal(regions[regions["scan"] == "sub-01"].reset_index(drop=True), alone)
    scan_table = pd.read_csv(out / "scans.tsv", sep="\t", na_values="n/a").set_index("scan")
    record = json.loads((out / "sub-01" / "run.json").read_text())
    assert scan_table.loc["sub-01", "noise_before_percent"] == pytest.approx(record["body"]["noise_before"])
    assert list(scan_table["status"]) == ["failed", "done", "done"]
    stamp = (out / "cohort.html").stat().st_mtime_ns
    write_summary(out)
    assert (out / "cohort.html").stat().st_mtime_ns == stamp


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


@pytest.mark.slow
def test_many_scans_in_one_process_take_no_more_memory_and_leave_no_file_open(identity, body_series, tmp_path):
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    for k in range(60):
        write_nifti(body_series(seed=k), scans / f"sub-{k:02d}_pet.nii.gz")
    memory, files = [], []
    run = CohortRun(ScanFolder(scans, out), identity, options=PLAIN)
    for _ in run.outcomes():
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory.append(pages)
        files.append(sum(1 for _ in Path("/proc/self/fd").iterdir()))
    assert max(files[10:]) <= files[10]
    assert memory[-1] < 1.05 * memory[20]
