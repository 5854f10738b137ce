"""How many tasks run at once, by what they need and what there is."""

import pytest

from pipeline.engine import Plan, plan
from pipeline.errors import PETError

GIB = 2**30


def planned(n_tasks=10, *, jobs=4, memory=2 * GIB, disk=GIB, free_memory=16 * GIB, free_disk=100 * GIB):
    return plan(
        n_tasks, jobs=jobs, memory_per_task=memory, disk_per_task=disk, free_memory=free_memory, free_disk=free_disk
    )


def test_all_run_where_there_is_enough():
    assert planned() == Plan(4, 4 * GIB)
    assert planned(2) == Plan(2, 8 * GIB)
    assert planned(memory=0) == Plan(4, 4 * GIB)
    assert planned(0) == Plan(1, 16 * GIB)


def test_fewer_at_once_share_the_memory_that_there_is():
    found = planned(memory=6 * GIB)
    assert (found.jobs, found.memory) == (2, 8 * GIB)
    assert found.reason == "2 at once instead of 4: each needs about 6 GiB of memory, 16 GiB are free"


@pytest.mark.parametrize("jobs", range(1, 9))
@pytest.mark.parametrize("memory", [1, GIB, 3 * GIB, 16 * GIB])
def test_no_plan_takes_more_than_there_is_or_is_wanted(jobs, memory):
    found = planned(jobs=jobs, memory=memory)
    assert found.jobs * memory <= 16 * GIB
    assert found.memory * found.jobs <= 16 * GIB
    assert memory <= found.memory
    assert found.jobs == min(jobs, 16 * GIB // memory)


def test_what_is_unknown_limits_nothing():
    assert planned(free_memory=None, free_disk=None) == Plan(4, None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"memory": 17 * GIB}, "one scan needs about 17 GiB of memory, 16 GiB are free"),
        ({"disk": 11 * GIB}, "10 results need about 110 GiB of disk, 100 GiB are free: enough for 9"),
    ],
)
def test_what_cannot_be_done_is_refused_with_numbers(changes, said):
    with pytest.raises(PETError, match=f"^{said}$"):
        planned(**changes)
