"""Schedulers that exist, and jobs of SLURM: what is asked of them, and what is refused."""

import logging
from contextlib import ExitStack
from pathlib import Path

import pytest
from tasks import Bad, Task

from pipeline.engine import Failure, Workers, cluster, run_tasks
from pipeline.errors import PETError


@pytest.fixture(scope="module")
def scheduler():
    """Address of a scheduler that somebody else has started, with two workers, of which one has a GPU."""
    from distributed import LocalCluster, Worker

    async def add_worker(**options):
        found.workers["another"] = await Worker(found.scheduler_address, name="another", **options)

    options = {"processes": False, "protocol": "tcp://", "dashboard_address": "127.0.0.1:0"}
    quiet = {"scheduler_kwargs": {"dashboard": False}, "silence_logs": logging.CRITICAL}
    with LocalCluster(n_workers=1, threads_per_worker=1, **options, **quiet) as found:
        found.sync(add_worker, resources={"GPU": 1}, nthreads=1)
        yield found.scheduler_address


def test_the_workers_of_a_scheduler_do_the_work(scheduler, tmp_path):
    tasks = [Task(1, tmp_path), Bad(2, tmp_path), Task(3, tmp_path)]
    results = dict(run_tasks(tasks, where=Workers(scheduler=scheduler), keep_going=True))
    assert results == {0: 1, 1: Failure("one is bad"), 2: 9}


def test_a_task_gets_what_it_needs_of_a_worker(scheduler):
    found = dict(run_tasks([name_of_worker] * 3, where=Workers(scheduler=scheduler, resources={"GPU": 1})))
    assert found == {0: "another", 1: "another", 2: "another"}
    with pytest.raises(PETError, match="none of 2 workers has GPU 2, expected workers started with --resources"):
        list(run_tasks([name_of_worker], where=Workers(scheduler=scheduler, resources={"GPU": 2})))


def name_of_worker():
    from distributed import get_worker

    return get_worker().name


def test_workers_that_would_do_several_tasks_at_once_are_refused():
    from distributed import LocalCluster

    options = {"processes": False, "protocol": "tcp://", "dashboard_address": "127.0.0.1:0", "silence_logs": 50}
    with (
        LocalCluster(n_workers=1, threads_per_worker=4, scheduler_kwargs={"dashboard": False}, **options) as found,
        pytest.raises(PETError, match="the worker has 4 threads, expected --nthreads 1"),
    ):
        list(run_tasks([name_of_worker], where=Workers(scheduler=found.scheduler_address)))


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr(cluster, "_CONNECTING", 0.2)
    with pytest.raises(PETError, match=r"tcp://127\.0\.0\.1:9: no scheduler answers there"):
        list(run_tasks([name_of_worker], where=Workers(scheduler="tcp://127.0.0.1:9")))


def test_workers_are_in_one_place(tmp_path):
    with pytest.raises(PETError, match="expected one of them"):
        Workers(scheduler="tcp://a:1", slurm=tmp_path / "slurm.yaml")
    with pytest.raises(PETError, match="jobs 0, expected at least 1"):
        Workers(jobs=0)


DOCUMENT = (Path(__file__).parents[2] / "docs" / "engine.md").read_text(encoding="utf-8")
FILE = DOCUMENT.partition("```yaml\n")[2].partition("```")[0]
OWN_FILE = "jobqueue:\n  slurm:\n" + "".join(f"    {line}\n" for line in FILE.splitlines())


@pytest.mark.parametrize("text", [FILE, OWN_FILE])
def test_a_job_of_slurm_is_a_worker_for_one_scan(tmp_path, monkeypatch, text):
    jobqueue = pytest.importorskip("dask_jobqueue")
    (tmp_path / "slurm.yaml").write_text(text)
    monkeypatch.setattr(jobqueue.SLURMCluster, "scale", lambda *_, **__: None)  # there is no sbatch here
    with ExitStack() as stack:
        workers = Workers(slurm=tmp_path / "slurm.yaml", resources={"GPU": 1})
        _, found = cluster._started(workers, 1, stack)
        script = found.job_script().splitlines()
    directives = {line for line in script if line.startswith("#SBATCH")}
    assert {
        "#SBATCH -p gpu",
        "#SBATCH -n 1",
        "#SBATCH --cpus-per-task=8",
        "#SBATCH --mem=23G",
        "#SBATCH -A imaging",
        "#SBATCH -t 04:00:00",
        "#SBATCH --gres=gpu:1",
    } <= directives
    assert script[-3:-1] == ["export OMP_NUM_THREADS=8", "source /shared/venv/bin/activate"]
    assert "--nthreads 1 " in script[-1]
    assert "--preload pipeline.engine.on_worker --resources GPU=1" in script[-1]
    assert f"--tls-key {tmp_path}" in script[-1]  # a file that the nodes see


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cores: 8\n", "expected the arguments of SLURMCluster, among them cores and memory"),
        ("[slurm]\n", "expected the arguments of SLURMCluster"),
        ("{cores: 8, memory: 1 GB, processes: 2}\n", "processes is not 1"),
        ("{cores: many, memory: 1 GB}\n", "cores is 'many', expected a number of processors"),
        ("{cores: 8, memory: 1 GB, quue: gpu}\n", "quue"),
        ("{cores: 8, memory: much}\n", "much"),
    ],
)
def test_a_file_for_slurm_with_a_mistake_is_named(tmp_path, text, said):
    pytest.importorskip("dask_jobqueue")
    (tmp_path / "slurm.yaml").write_text(text)
    with pytest.raises(PETError, match=rf"slurm\.yaml: .*{said}"):
        list(run_tasks([name_of_worker], where=Workers(slurm=tmp_path / "slurm.yaml")))
