"""Processes of their own for commands that configure theirs, forked from one that has imported torch and MONAI.

Importing these takes ten times as long as what a test of a command does. Nothing of this project is imported before the
fork; path, working directory, environment and streams are those that `python -m` and `python -c` have.
"""

import atexit
import gc
import json
import os
import runpy
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

__all__ = ["run_code", "run_module"]

_PRELOADED = "monai.bundle", "ignite.engine", "pandas", "matplotlib.figure", "skimage.metrics", "SimpleITK", "typer"


def run_module(module: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
    """Run `python -m module arguments`."""
    return _run("", module, arguments, cwd)


def run_code(code: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
    """Run `python -c code arguments`."""
    return _run(code, "-c", arguments, cwd)


def _run(code: str, name: str, arguments: tuple[object, ...], cwd: Path | None) -> subprocess.CompletedProcess:
    words = [name, *map(str, arguments)]
    server = _server()
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder) / "stdout", Path(folder) / "stderr"]
        given = [code, words, str(cwd or Path.cwd()), dict(os.environ), [str(path) for path in streams]]
        server.stdin.write(json.dumps(given) + "\n")
        server.stdin.flush()
        returncode = int(server.stdout.readline())
        out, err = (path.read_text(encoding="utf-8") for path in streams)
    return subprocess.CompletedProcess(words, returncode, out, err)


@cache
def _server() -> subprocess.Popen:
    """Start the process that all are forked from, which ends with this one."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([sys.executable, __file__], text=True, **pipes)
    atexit.register(server.communicate)
    return server


def _become(code: str, words: list[str], cwd: str, environment: dict[str, str], streams: list[str]) -> None:
    """Be a process of its own; whatever is raised goes up to the interpreter, as at the end of any process."""
    for descriptor, path in enumerate([os.devnull, *streams]):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv, sys.path[0] = words, cwd
    if code:
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def _serve() -> None:
    for name in _PRELOADED:
        __import__(name)
    gc.freeze()  # else the end of every child visits all of it
    for line in iter(sys.stdin.readline, ""):
        process = os.fork()
        if process == 0:
            _become(*json.loads(line))
            return
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()
