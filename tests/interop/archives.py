"""An Orthanc archive of the test's own, and the recipes of a document."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["ENVIRONMENT", "PLUGIN", "START_LIMIT", "Archive", "free_ports", "n_instances", "need", "recipe", "run"]

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
START_LIMIT = 60.0

_OWN_PROGRAMS = str(Path(sys.executable).parent)
_PATH = [folder for folder in os.get_exec_path() if folder != _OWN_PROGRAMS] + [_OWN_PROGRAMS]

ENVIRONMENT = os.environ | {"TCP_NODELAY": "1", "no_proxy": "*", "PATH": os.pathsep.join(_PATH)}
"""As the document has it: without, every image waits for two delayed acknowledgements. In an activated environment
pynetdicom's storescu, which has other options, would come before DCMTK's."""


@dataclass(frozen=True)
class Archive:
    """An archive that listens on this machine."""

    http_port: int
    dicom_port: int

    def get(self, path: str) -> object:
        """Return what Orthanc's own interface says."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=5) as answer:
            return json.load(answer)


def recipe(document: Path, heading: str, language: str) -> list[str]:
    """Return the code blocks in one language below a heading."""
    _, found, rest = document.read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    assert found, f"{document.name} has no heading {heading!r}"
    return re.findall(rf"```{language}\n(.*?)```", rest.partition("\n## ")[0], re.DOTALL)


def need(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def free_ports(n_ports: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n_ports)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def run(code: str, *, language: str, archive: Archive, folder: Path, uids: tuple[str, str]) -> str:
    """Run a block of the document with the ports of the archive in place of the document's."""
    code = code.replace("4242", str(archive.dicom_port)).replace("8042", str(archive.http_port))
    command = ["bash", "-euc", code] if language == "bash" else [sys.executable, "-c", code]
    environment = ENVIRONMENT | {"STUDY_UID": uids[0], "SERIES_UID": uids[1]}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def n_instances(archive: Archive) -> int:
    return len(archive.get("/instances"))
