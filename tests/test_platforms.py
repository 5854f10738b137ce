"""What a system lacks: everything is imported without it, and nothing more than needed is."""

import subprocess
import sys

import pytest

EVERY_MODULE = """
import pkgutil, importlib, signal, sys
sys.modules["fcntl"] = sys.modules["resource"] = None
for name in ("SIGHUP", "SIGKILL"):
    delattr(signal, name)
import pipeline
for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
    importlib.import_module(module.name)
"""


@pytest.mark.slow
def test_every_module_is_imported_where_unix_is_missing():
    subprocess.run([sys.executable, "-c", EVERY_MODULE], check=True)


def test_inference_loads_no_simulation():
    code = "import sys, pipeline.inference; print([m for m in sys.modules if m.startswith('pipeline.simulation')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_inserting_noise_loads_no_torch():
    code = "import sys, pipeline.workflow.insert_noise; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_every_part_is_an_attribute_of_the_package():
    import pipeline

    for name in ("comparison", "images", "inference", "processes", "workflow"):
        assert getattr(pipeline, name).__name__ == f"pipeline.{name}"
