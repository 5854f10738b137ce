"""simulate_cohort killed with SIGKILL at any moment: the next run gives the bytes of one that was left alone."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scanners import FLAT_SCANNER

from pipeline.simulation import simulate_cohort

OPTIONS = {"n_subjects": 2, "seed": 8, "scanner": FLAT_SCANNER, "dose_reduction_factors": (4, 7.5)}
SCRIPT = f"""
import sys
from pipeline.simulation import Scanner, simulate_cohort

if __name__ == "__main__":
    simulate_cohort(sys.argv[1], jobs=int(sys.argv[2]), **{OPTIONS!r})
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory) -> Path:
    """A file, since processes that start others import what started them."""
    path = tmp_path_factory.mktemp("script") / "simulate.py"
    path.write_text(SCRIPT)
    return path


def start(script: Path, folder: Path, *, jobs: int) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), str(jobs)], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> dict[str, bytes]:
    """Files of a run that was left alone."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    simulate_cohort(folder, **OPTIONS)
    return content(folder)


def kill(process: subprocess.Popen) -> None:
    """Kill the run itself; the processes that it started see that it is gone."""
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("jobs", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_run_killed_while_it_writes_goes_on(script, uninterrupted, tmp_path, jobs):
    process = start(script, tmp_path, jobs=jobs)
    while not list(tmp_path.glob(".writing-*/pet/*")) and process.poll() is None:
        time.sleep(0.005)
    kill(process)
    # What it was writing is there, unless workers that saw its end took it away; and no subject that is not complete.
    assert jobs > 1 or list(tmp_path.glob(".writing-*"))
    assert set(content(tmp_path)) != set(uninterrupted)
    simulate_cohort(tmp_path, **OPTIONS)
    assert content(tmp_path) == uninterrupted


@pytest.mark.slow
def test_twenty_kills_at_random_moments(script, uninterrupted, tmp_path):
    files, rng = uninterrupted, random.Random(0)
    started = time.monotonic()
    assert start(script, tmp_path / "alone", jobs=1).wait() == 0
    seconds = time.monotonic() - started
    cohorts = [tmp_path / "0"]
    for attempt in range(20):
        if len(list(cohorts[-1].glob("sub-*"))) == OPTIONS["n_subjects"]:
            # This one is complete: another, so that every kill hits a run at work.
            cohorts.append(tmp_path / str(len(cohorts)))
        process = start(script, cohorts[-1], jobs=1 + attempt % 2)
        time.sleep(rng.uniform(0.2, 1.0) * seconds)
        kill(process)
        finished = {name: data for name, data in content(cohorts[-1]).items() if not name.startswith(".")}
        assert finished == {name: files[name] for name in finished}
    for folder in cohorts:
        simulate_cohort(folder, **OPTIONS)
        assert content(folder) == files
