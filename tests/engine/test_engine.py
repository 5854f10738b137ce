"""The engine: results come back, errors end or are reasons, and whatever befalls a worker, its task is done once."""

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
from tasks import (
    Bad,
    Bug,
    CutOff,
    Frozen,
    Greedy,
    HalfWritten,
    Hungry,
    Short,
    Suicide,
    SuicideOnce,
    Task,
)

from pipeline.engine import Failure, Workers, cluster, run_tasks
from pipeline.errors import PETError

LOST = "its worker was ended or lost 3 times, as when memory runs out"


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_with_the_index_of_their_task(tmp_path, jobs):
    tasks = [Task(number, tmp_path) for number in (5, 3, 4)]
    before = dict(os.environ)
    assert dict(run_tasks(tasks, where=jobs)) == {0: 25, 1: 9, 2: 16}
    assert ({pid for task in tasks for pid in task.runs()} == {os.getpid()}) == (jobs == 1)
    assert dict(os.environ) == before


def test_no_tasks_have_no_results():
    assert list(run_tasks([], where=2)) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_reaches_the_caller(tmp_path, jobs):
    with pytest.raises(PETError, match=r"^one is bad$"):
        list(run_tasks([Bad(1, tmp_path), Short(2, tmp_path)], where=jobs))


@pytest.mark.parametrize("jobs", [1, 2])
def test_with_keep_going_each_failure_has_its_reason(tmp_path, jobs):
    tasks = [kind(number, tmp_path) for number, kind in enumerate((Task, Bad, Bug, Greedy, Task))]
    assert dict(run_tasks(tasks, where=jobs, keep_going=True)) == {
        0: 0,
        1: Failure("one is bad"),
        2: Failure("KeyError: 'nothing'"),
        3: Failure("memory does not suffice (MemoryError)"),
        4: 16,
    }


@pytest.mark.parametrize("stopped", ["caller stops", "error"])
def test_what_runs_removes_what_it_has_half_written(tmp_path, stopped):
    last = Task(1, tmp_path) if stopped == "caller stops" else Bad(1, tmp_path)
    tasks = [HalfWritten(0, tmp_path), partial(after, tmp_path / "half_0", last), Task(2, tmp_path), Task(3, tmp_path)]
    results = run_tasks(tasks, where=2)
    if stopped == "caller stops":
        assert next(results) == (1, 1)
        results.close()
    else:
        with pytest.raises(PETError, match="one is bad"):
            list(results)
    assert (tmp_path / "removed_0").exists()
    assert not (tmp_path / "half_0").exists()
    assert not (tmp_path / "ran_3").exists()  # it waited
    assert dict(run_tasks([Task(4, tmp_path), Task(5, tmp_path)], where=2)) == {0: 16, 1: 25}  # workers are as before


def after(begun, task):
    wait_for(begun.exists)
    return task()


def test_relative_paths_are_those_of_the_caller(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert dict(run_tasks([Task(1, Path()), Task(2, Path())], where=2)) == {0: 1, 1: 4}
    assert {path.name for path in tmp_path.iterdir()} == {"ran_1", "ran_2"}


def test_workers_are_kept_where_asked_and_can_be_reached_by_nobody_else(tmp_path):
    with cluster.workers_kept():
        for number in (1, 2):
            list(run_tasks([Short(number, tmp_path), Short(number, tmp_path)], where=2))
        assert set(Short(1, tmp_path).runs()) & set(Short(2, tmp_path).runs())
        here = psutil.Process()
        listening = [
            connection.laddr.ip
            for process in (here, *here.children(recursive=True))
            for connection in process.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert set(listening) == {"127.0.0.1"}


def test_workers_end_with_their_tasks_otherwise(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_kept", None)
    [(_, _)] = run_tasks([Task(1, tmp_path)], where=Workers(fresh=True))
    [worker] = Task(1, tmp_path).runs()
    assert worker != os.getpid()
    assert not is_running(worker)


def test_a_worker_that_is_killed_is_replaced_and_its_task_runs_again(tmp_path):
    tasks = [SuicideOnce(0, tmp_path), *(Short(number, tmp_path) for number in range(1, 6))]
    assert dict(run_tasks(tasks, where=2)) == {number: number**2 for number in range(6)}
    assert [len(task.runs()) for task in tasks] == [2, 1, 1, 1, 1, 1]


@pytest.mark.slow
def test_a_task_that_kills_three_workers_fails_and_no_other_does(tmp_path):
    tasks = [Short(number, tmp_path) for number in range(12)]
    tasks[1], tasks[2] = Suicide(1, tmp_path), Suicide(2, tmp_path)
    results = dict(run_tasks(tasks, where=2, keep_going=True))
    lost = Failure(f"{LOST}; expected enough for 2 jobs, try fewer")
    assert results == {number: lost if number in (1, 2) else number**2 for number in range(12)}
    assert [len(task.runs()) for task in tasks] == [1, 3, 3, *[1] * 9]


@pytest.mark.slow
def test_without_keep_going_a_lost_task_ends_in_one_line(tmp_path):
    with pytest.raises(PETError, match=rf"^{LOST}; expected enough for 2 jobs, try fewer$"):
        list(run_tasks([Suicide(0, tmp_path), Short(1, tmp_path)], where=2))


@pytest.mark.slow
def test_a_task_that_takes_more_memory_than_a_worker_has_fails_and_no_other_does(tmp_path):
    tasks = [Short(0, tmp_path), Hungry(1, tmp_path), *(Short(number, tmp_path) for number in range(2, 8))]
    results = dict(run_tasks(tasks, where=Workers(jobs=2, memory=400 * 2**20), keep_going=True))
    lost = Failure(f"{LOST}; expected enough for 2 jobs of 0.391 GiB, try fewer")
    assert results == {number: lost if number == 1 else number**2 for number in range(8)}
    assert [len(task.runs()) for task in tasks] == [1, 3, *[1] * 6]


@pytest.mark.slow
def test_the_task_of_a_worker_that_is_cut_off_runs_elsewhere(tmp_path):
    tasks = [CutOff(0, tmp_path), *(Short(number, tmp_path) for number in range(1, 8))]
    assert dict(run_tasks(tasks, where=2)) == {number: number**2 for number in range(8)}
    assert [len(task.runs()) for task in tasks] == [2, *[1] * 7]


@pytest.mark.slow
def test_a_worker_that_freezes_and_goes_on_has_lost_nothing(tmp_path):
    def thaw():
        wait_for((tmp_path / "frozen_0").exists)
        time.sleep(5)
        os.kill(int((tmp_path / "frozen_0").read_text()), signal.SIGCONT)

    waking = threading.Thread(target=thaw)
    waking.start()
    tasks = [Frozen(0, tmp_path), *(Short(number, tmp_path) for number in range(1, 8))]
    assert dict(run_tasks(tasks, where=2)) == {number: number**2 for number in range(8)}
    waking.join()
    assert [len(task.runs()) for task in tasks] == [1] * 8


RUN = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from pipeline.cli.console import errors_in_one_line
from pipeline.ending import end_by_signals
from pipeline.engine import run_tasks
from tasks import HalfWritten

if __name__ == "__main__":
    end_by_signals()
    folder = Path(sys.argv[1])
    with errors_in_one_line():
        list(run_tasks([HalfWritten(0, folder), HalfWritten(1, folder)], where=2))
"""


def begin(tmp_path):
    (tmp_path / "run.py").write_text(RUN)
    command = [sys.executable, tmp_path / "run.py", tmp_path]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def pids(tmp_path):
    return [pid for number in (0, 1) for pid in HalfWritten(number, tmp_path).runs()]


def test_workers_end_with_a_parent_that_was_killed(tmp_path):
    parent = begin(tmp_path)
    wait_for(lambda: len(pids(tmp_path)) == 2)
    parent.kill()
    parent.communicate()
    wait_for(lambda: not any(map(is_running, pids(tmp_path))))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code", "said"), [(signal.SIGTERM, 143, ""), (signal.SIGINT, 1, "interrupted")])
def test_ended_by_a_signal_nothing_is_left(tmp_path, number, code, said):
    parent = begin(tmp_path)
    wait_for(lambda: len(list(tmp_path.glob("half_*"))) == 2)
    os.killpg(parent.pid, number) if number == signal.SIGINT else parent.send_signal(number)
    _, errors = parent.communicate(timeout=60)
    assert not list(tmp_path.glob("half_*"))
    assert len(list(tmp_path.glob("removed_*"))) == 2
    assert not any(map(is_running, pids(tmp_path)))
    assert said in errors
    assert parent.returncode == code


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.3, 0.8, 1.5, 2.5])
def test_ended_while_workers_start_none_is_left(tmp_path, seconds):
    parent = begin(tmp_path)
    time.sleep(seconds)
    children = psutil.Process(parent.pid).children(recursive=True)
    parent.terminate()
    _, errors = parent.communicate(timeout=60)
    wait_for(lambda: not any(is_running(child.pid) for child in children))
    assert not list(tmp_path.glob("half_*"))
    assert "Traceback" not in errors
