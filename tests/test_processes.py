"""Processes: results come back, an error ends the rest, and a killed parent leaves no worker behind."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.engine import run_tasks
from pipeline.pet import PETError


@dataclass(frozen=True)
class Task:
    number: int
    folder: Path

    def __call__(self) -> int:
        (self.folder / f"begun_{self.number}").write_text(str(os.getpid()))
        if self.number == 1:
            raise PETError("one is bad")
        return self.number**2


class Suicide(Task):
    def __call__(self) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_with_the_index_of_their_task(tmp_path, jobs):
    tasks = [Task(number, tmp_path) for number in (5, 3, 4)]
    assert dict(run_tasks(tasks, where=jobs)) == {0: 25, 1: 9, 2: 16}
    pids = {int((tmp_path / f"begun_{n}").read_text()) for n in (3, 4, 5)}
    assert (pids == {os.getpid()}) == (jobs == 1)


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_reaches_the_caller(tmp_path, jobs):
    with pytest.raises(PETError, match="one is bad"):
        list(run_tasks([Task(1, tmp_path), Task(2, tmp_path)], where=jobs))


def test_a_worker_that_is_killed_is_told_in_one_line(tmp_path):
    with pytest.raises(PETError, match="ended from outside, as when memory runs out; expected enough for 2 jobs"):
        list(run_tasks([Suicide(1, tmp_path), Suicide(2, tmp_path)], where=2))


SLEEPERS = """
import os, sys, time
from functools import partial
from pathlib import Path
from pipeline.engine import run_tasks

def sleep(folder):
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(60)

if __name__ == "__main__":
    list(run_tasks([partial(sleep, sys.argv[1])] * 2, where=2))
"""


def test_workers_end_with_a_parent_that_was_killed(tmp_path):
    (tmp_path / "run.py").write_text(SLEEPERS)
    (tmp_path / "pids").mkdir()
    parent = subprocess.Popen([sys.executable, tmp_path / "run.py", tmp_path / "pids"])
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "pids").iterdir())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    workers = [Path("/proc") / path.name for path in (tmp_path / "pids").iterdir()]
    while any(worker.exists() and "Z" not in (worker / "stat").read_text().split()[2] for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
