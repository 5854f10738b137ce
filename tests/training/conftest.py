"""Fixtures of the training tests."""

import multiprocessing
import os
import sys
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext

import pytest


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Processes that start from one which has only imported what is needed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killed_training", "two_processes"])
    with pytest.MonkeyPatch.context() as patch:
        # The server process looks for what it preloads in its environment's path, not in this one's.
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        forkserver.ensure_running()
    return context
