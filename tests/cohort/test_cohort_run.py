"""A cohort as files: what is done is kept, and a killed run goes on."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from pipeline.cohort import CohortRun, Part, ScanFolder, cohort_status
from pipeline.errors import PETError
from pipeline.files import UNFINISHED
from pipeline.pet import write_nifti
from pipeline.workflow import RegionRule
from tests.cohort.cohorts import PLAIN, denoise, leftovers, results, status_of

pytestmark = pytest.mark.usefixtures("blank_figures")


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


def test_parts_give_what_one_run_gives_and_the_last_writes_the_summary(scans, identity, body_series, tmp_path):
    (scans / "other").mkdir()
    write_nifti(body_series(seed=7), scans / "other" / "sub-00_pet.nii.gz")  # of a name that another scan has
    denoise(scans, tmp_path / "one", identity)
    out = tmp_path / "parts"
    for number in (3, 1, 2):
        assert not (out / "cohort.html").exists()
        denoise(scans, out, identity, part=Part(number, 3))
        assert status_of(out)["total"] == 4
    assert results(out) == results(tmp_path / "one")


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0"])
def test_a_part_that_is_none(text):
    with pytest.raises(PETError, match=r"part .*, expected such as 1/4 to 4/4"):
        Part.read(text)


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
def test_a_killed_run_goes_on_and_two_at_once_are_one(scans, tmp_path):
    out, hold = tmp_path / "out", tmp_path / "hold"
    hold.touch()

    def start(out: Path = out) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", WORK, scans, out, hold], stdout=subprocess.PIPE, text=True)

    first = start()
    assert first.stdout.readline() == "made\n"
    second = start()
    assert "refused:" in second.communicate()[0]
    while not any(out.glob(f".cohort/*/{UNFINISHED}*")):
        time.sleep(0.01)
    assert status_of(out) == {"total": 3, "done": 1, "failed": 0, "running": 1, "pending": 1}
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert cohort_status(out).running == 0
    assert leftovers(out)
    hold.unlink()
    third = start()
    assert third.communicate()[0].splitlines() == ["there", "made", "made"]
    assert not leftovers(out)
    start(tmp_path / "fresh").communicate()
    assert results(out) == results(tmp_path / "fresh")


def test_two_scans_of_the_same_voxels_have_one_result(scans, identity, tmp_path):
    (scans / "copy").mkdir()
    for path in scans.glob("sub-00_pet.*"):
        shutil.copy(path, scans / "copy")
    out = tmp_path / "out"
    assert sorted(denoise(scans, out, identity).values()) == ["made", "made", "made", "there"]
    assert list(pd.read_csv(out / "scans.tsv", sep="\t")["scan"].sort_values()) == ["sub-00", "sub-01", "sub-02"]
    assert set(denoise(scans, out, identity).values()) == {"there"}


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
