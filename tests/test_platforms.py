"""What a system lacks: everything is imported without it, and nothing more than needed is."""

import subprocess
import sys

from tests.own_process import run_code

# In a process without the modules and names that CPython on Windows does not have, import every module of the package.
# Its libraries are imported before, as they ask for the name of the system.
SCRIPT = """
import os, signal, sys
import blosc2, filelock, ignite.engine, matplotlib.figure, monai.bundle, pandas, skimage.metrics
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for name in ("SIGHUP", "SIGKILL", "SIGUSR1", "pthread_sigmask"):
    delattr(signal, name)
for name in ("O_DIRECTORY", "O_NOFOLLOW", "fchmod", "fork", "getuid", "sched_getaffinity"):
    delattr(os, name)

import pkgutil, pipeline, pipeline.cli
found = pkgutil.walk_packages(pipeline.__path__, "pipeline.")
names = [module.name for module in found if not module.name.endswith("__main__")]
for name in names:
    __import__(name)
print(len(names))
sys.argv = ["unipet", *sys.argv[1:]]
pipeline.cli.main()
"""


def test_every_module_is_imported_and_help_is_shown_where_unix_is_missing():
    done = run_code(SCRIPT, "--help")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[0]) > 100
    assert "denoise" in done.stdout


def test_inference_loads_no_simulation():
    code = "import sys, pipeline.inference; print([m for m in sys.modules if m.startswith('pipeline.simulation')])"
    done = run_code(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"


def test_inserting_noise_loads_no_torch():
    code = "import sys, pipeline.workflow.insert_noise; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_every_part_is_an_attribute_of_the_package():
    import pipeline

    for name in ("comparison", "images", "inference", "ending", "workflow"):
        assert getattr(pipeline, name).__name__ == f"pipeline.{name}"
