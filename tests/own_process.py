"""Processes of their own for commands that configure theirs, forked from one that has imported torch and MONAI.

Importing these takes ten times as long as what a test of a command does. Nothing of this project is imported before the
fork, and the working directory, the environment and the streams are those of the call.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["run_code", "run_module"]

_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(
    ["monai.bundle", "ignite.engine", "pandas", "matplotlib.figure", "skimage.metrics", "SimpleITK", "typer"]
)


def run_module(module: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
    """Run `python -m module arguments`."""
    return _run("", module, arguments, cwd)


def run_code(code: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
    """Run `python -c code arguments`."""
    return _run(code, "-c", arguments, cwd)


def _run(code: str, name: str, arguments: tuple[object, ...], cwd: Path | None) -> subprocess.CompletedProcess:
    words = [name, *map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder) / "stdout", Path(folder) / "stderr"]
        process = _FORKED.Process(target=_in_child, args=(code, words, cwd or Path.cwd(), dict(os.environ), streams))
        process.start()
        process.join()
        out, err = (stream.read_text(encoding="utf-8") for stream in streams)
    return subprocess.CompletedProcess(words, process.exitcode, out, err)


def _in_child(code: str, words: list[str], cwd: Path, environment: dict[str, str], streams: list[Path]) -> None:
    for descriptor, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = words
    if code:
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
