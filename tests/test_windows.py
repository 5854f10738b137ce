"""What Windows lacks is not needed to import the package or to start the command."""

import subprocess
import sys

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
names = [module.name for module in pkgutil.walk_packages(pipeline.__path__, "pipeline.")]
for name in names:
    __import__(name)
print(len(names))
sys.argv = ["unipet", *sys.argv[1:]]
pipeline.cli.main()
"""


def test_every_module_is_imported_and_help_is_shown():
    command = [sys.executable, "-c", SCRIPT, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[0]) > 100
    assert "denoise" in done.stdout
